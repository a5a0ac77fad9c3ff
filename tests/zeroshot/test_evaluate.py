"""A checkpoint is judged with the prompts of its own run."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from pretrain.config.ids import IdConfig
from pretrain.config.prompt import PromptConfig
from pretrain.decoding.config import SearchConfig
from pretrain.ids.book import Book, canonical
from pretrain.model.t5 import content_hash
from pretrain.runtime.progress import SILENT
from pretrain.runtime.world import World
from pretrain.training import checkpoint
from shards.tables import load_items
from zeroshot.judge.checkpoint import Checkpoint, generative, load_checkpoint, task_book
from zeroshot.protocol.config import EvaluateConfig


def train_and_validate(world, config):
    from pretrain.runtime.progress import Silent
    from pretrain.training.train import train

    return str(train(config, world, Silent()))


@pytest.mark.parametrize("prompt", [PromptConfig(), PromptConfig(history="texts", item_tokens=6, max_tokens=80)])
def test_the_judge_tells_histories_as_the_run_did(run_ranks, train_config, manifest, tokenizer, prompt):
    config = train_config(f"judged-{prompt.history}")
    schedule = dataclasses.replace(config.schedule, generator_epochs=0.0, teaching_epochs=0.1)
    config = dataclasses.replace(config, prompt=prompt, schedule=schedule)
    [folder] = run_ranks(train_and_validate, 1, config)
    state = checkpoint.verify(Path(folder))
    assert 0 <= state["validation"]["NDCG@10"] <= 1
    evaluation = EvaluateConfig(folder, config.shards, "out")
    world = World(0, 1, torch.device("cpu"))
    judged = load_checkpoint(Path(folder), Path(config.out), state, evaluation, world)
    assert judged.prompt == prompt
    items = load_items(config.shards, manifest, "Gifts")
    normal, encoded = canonical(tokenizer, [f"frost {row}" for row in range(len(items))])
    zeros = np.zeros(len(items), dtype=np.int32)
    ids = [np.array(tokens, dtype=np.int32) for tokens in encoded]
    book = Book(items.items, normal, ids, zeros, zeros, zeros.astype(bool), "g", "t")
    model = generative(judged, "idgenrec", book, items, SearchConfig(beam=10))
    history = np.array([4, 9, 2])
    expected = [items.tokens(row)[:6] if prompt.history == "texts" else ids[row] for row in history]
    told = [model.told[row].tolist() for row in history]
    assert told == [tokens.tolist() for tokens in expected]
    ranking = model.rank([history], ("new",))["new"]
    assert ranking.items_NK is not None and not set(ranking.items_NK[0].tolist()) & {4, 9, 2}

    low = load_checkpoint(
        Path(folder), Path(config.out), state, dataclasses.replace(evaluation, precision="bf16"), world
    )
    assert low.recommender.dtype == torch.bfloat16 and low.generator.dtype == torch.float32
    assert low.untrained is not None and low.untrained.dtype == torch.bfloat16
    whole = SearchConfig(beam=len(items), prior_weight=0.4)
    exact, rounded = (generative(one, "idgenrec", book, items, whole) for one in (judged, low))
    assert exact.identity() != rounded.identity()
    rankings = [one.rank([history], ("all",))["all"] for one in (exact, rounded)]
    scores = [
        dict(zip(r.items_NK[0].tolist(), r.scores_NK[0].tolist(), strict=True))
        for r in rankings
        if r.items_NK is not None
    ]
    assert scores[0].keys() == scores[1].keys() and len(scores[0]) == len(items)
    assert all(abs(scores[1][item] - score) < 0.02 * abs(score) + 0.05 for item, score in scores[0].items())


def test_the_untrained_generator_makes_a_book_of_its_own(small_model, tokenizer, manifest, shard_folder, tmp_path):
    """The control "untrained-ids": the trained recommender over IDs that nobody trained for."""
    ids = IdConfig(groups=3, penalty_max=0.2, tier_tokens=4, max_tiers=2, item_text_tokens=32)
    models = {"recommender": small_model(1), "generator": small_model(2), "untrained_generator": small_model(3)}
    judged = Checkpoint(**models, tokenizer=tokenizer, ids=ids, prompt=PromptConfig(), search=SearchConfig())
    items = load_items(shard_folder, manifest, "Gifts")
    world = World(0, 1, torch.device("cpu"))
    trained = task_book(judged, items, "Gifts", tmp_path, world, SILENT)
    other = task_book(judged, items, "Gifts", tmp_path, world, SILENT, untrained=True)
    assert trained.generator_hash == content_hash(judged.generator)
    assert judged.untrained_generator is not None
    assert other.generator_hash == content_hash(judged.untrained_generator) != trained.generator_hash
    assert {path.name for path in tmp_path.glob("*.arrow")} == {"book-Gifts.arrow", "book-Gifts-untrained.arrow"}
    control = generative(judged, "untrained-ids", other, items, SearchConfig(beam=10))
    assert (control.name, control.model) == ("untrained-ids", judged.recommender)
