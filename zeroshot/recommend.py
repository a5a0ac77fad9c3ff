"""Ranked items for anyone's own catalogue, with readable IDs.

Enters: a run, a checkpoint or an export; names and texts of items; histories. Leaves: an ID book of the catalogue and
one list per user. Must hold: IDs are written by the checkpoint's own generator; items of a book that is extended keep
their IDs; prompts and IDs are made as in training.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from transformers.models.t5.modeling_t5 import T5ForConditionalGeneration

from pretrain.config.ids import IdConfig
from pretrain.config.prompt import PromptConfig
from pretrain.config.serialization import from_dict
from pretrain.decoding.config import SearchConfig
from pretrain.export.card_facts import PARTS
from pretrain.export.hugging_face import SETTINGS
from pretrain.ids.book import Book
from pretrain.ids.job import make_book
from pretrain.model.t5 import load_model, on_device
from pretrain.ranking.generate import GenerativeRecommender
from pretrain.runtime.progress import Reporter
from pretrain.runtime.world import World
from pretrain.training import checkpoint as checkpoints
from shards.tables import ItemTable
from shards.tokenizer import load_tokenizer
from zeroshot.baselines.blend import Blend, expert_of
from zeroshot.own_catalogue import Histories
from zeroshot.protocol.config import POPULARITY_BLEND

CALL = 32
"""Users that are asked together."""


@dataclass(frozen=True)
class Models:
    """Both models of a checkpoint, their tokenizer, and how the run made IDs and prompts and searched."""

    recommender: T5ForConditionalGeneration
    generator: T5ForConditionalGeneration
    tokenizer: Any
    ids: IdConfig
    prompt: PromptConfig
    search: SearchConfig

    def searching(self, prior_weight: float | None) -> Models:
        """The same with another share of the prior taken off the scores; None = as the run searched."""
        return self if prior_weight is None else replace(self, search=replace(self.search, prior_weight=prior_weight))


def load_models(path: Path, device: torch.device) -> Models:
    """From a run folder (its best checkpoint), a checkpoint or an export. A checkpoint's hashes are checked first.

    Raises ValueError when the folder is none of these, lacks a model, or is damaged.
    """
    if not path.is_dir():
        raise ValueError(f"no folder at {path}; give a run, a checkpoint or an export")
    if all((path / part).is_dir() for part in PARTS) and not (path / checkpoints.STATE).is_file():
        source, config = path, _settings(path / SETTINGS)
    else:
        source = checkpoints.resolve(path)
        config = checkpoints.verify(source)["config"]
    tokenizer = load_tokenizer(source / "generator")
    recommender, generator = (on_device(load_model(str(source / part), tokenizer), device) for part in PARTS)
    return Models(
        recommender,
        generator,
        tokenizer,
        ids=from_dict(IdConfig, config["ids"]),
        prompt=from_dict(PromptConfig, config["prompt"]),
        search=from_dict(SearchConfig, config["search"]),
    )


def _settings(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ValueError(
            f"{path} is missing: the export is of an earlier version, which did not say how IDs and prompts are made; "
            "export the checkpoint again"
        )
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error}); export the checkpoint again") from error


def book_of(models: Models, items: ItemTable, old: Path | None, journal: Path | None, reporter: Reporter) -> Book:
    """The catalogue's book. `old`: a book whose items keep their IDs; `journal`: where a killed job is taken up."""
    before = None if old is None else Book.load(old, models.tokenizer)
    world = World(0, 1, next(models.generator.parameters()).device)
    book, _ = make_book(
        models.generator, models.tokenizer, items, models.ids, world, reporter, journal=journal, old=before
    )
    return book


def recommend(
    models: Models, items: ItemTable, book: Book, histories: Histories, top: int, new: bool,
    reporter: Reporter, popularity_weight: float = 0.0,
) -> Iterator[dict[str, Any]]:  # fmt: skip
    """One object per user, in their order: `user` and `items`, each with item, id, score (the sum of its ID's
    log-probabilities, less the share of the prior) and text, the best first. `new`: without the items of the history; a
    list is shorter than `top` where nothing else may be listed. `popularity_weight`: that of what the histories
    themselves show of popularity and repeats, added to the score."""
    search = replace(models.search, beam=max(models.search.beam, top), list_length=top)
    worth = None
    if popularity_weight:
        worth = Blend(expert_of(POPULARITY_BLEND, items.texts, histories.rows), popularity_weight)
    model = GenerativeRecommender(
        "recommend", models.recommender, models.tokenizer, book.token_ids, models.prompt, search, CALL, items=items,
        worth=worth, generator=models.generator,
    )  # fmt: skip
    for first in range(0, len(histories.users), CALL):
        users = histories.users[first : first + CALL]
        ranking = model.rank(histories.rows[first : first + CALL], exclude_history=new)
        assert ranking.items_NK is not None
        for user, items_K, scores_K in zip(users, ranking.items_NK, ranking.scores_NK, strict=True):
            yield {
                "user": user,
                "items": [
                    {
                        "item": items.items[row], "id": book.texts[row], "score": round(float(score), 4),
                        "text": items.texts[row],
                    }
                    for row, score in zip(items_K, scores_K, strict=True)
                    if row >= 0
                ],
            }  # fmt: skip
        reporter.progress("lists", first + len(users), len(histories.users), "users")
