"""Drafts are the first candidates of the first attempts, over any number of ranks."""

import dataclasses

import numpy as np
import torch

from pretrain.config.ids import IdConfig
from pretrain.ids.drafts import write_drafts
from pretrain.ids.job import make_book
from pretrain.ids.journal import Journal
from pretrain.runtime.world import World

ALONE = World(0, 1, torch.device("cpu"))
CONFIG = IdConfig(groups=3, penalty_max=0.2, tier_tokens=3, max_tiers=2, item_text_tokens=24, block_size=8)


def test_drafts_are_what_the_job_begins_with(small_model, tokenizer, items, tmp_path):
    generator = small_model(2)
    drafts = write_drafts(generator, tokenizer, items, CONFIG, ALONE)
    make_book(generator, tokenizer, items, CONFIG, ALONE, journal=tmp_path)
    (identity,) = [path.name for path in tmp_path.iterdir()]
    first = {entry.row: entry.candidates for entry in Journal(tmp_path, identity, 0).read() if entry.attempt == 0}
    assert len(first) == len(drafts) == len(items)
    for row, draft in enumerate(drafts):
        assert draft.astype("<i4").tobytes() == (first[row][0] if first[row] else b"")
    assert any(len(draft) for draft in drafts)


def drafts_over_ranks(world, shards, config):
    from pathlib import Path

    from pretrain.config.run import ModelConfig
    from pretrain.ids.drafts import write_drafts
    from pretrain.model.t5 import build_model
    from shards.manifest import Manifest
    from shards.tables import load_items
    from shards.tokenizer import load_tokenizer

    tokenizer = load_tokenizer(Path(shards) / "tokenizer")
    items = load_items(shards, Manifest.load(shards))
    generator = build_model(ModelConfig(d_model=16, d_ff=32, num_layers=1, num_heads=2), tokenizer, 2)
    return [draft.tolist() for draft in write_drafts(generator, tokenizer, items, config, world)]


def test_ranks_write_the_same(run_ranks, shard_folder, small_model, tokenizer, items):
    alone = [draft.tolist() for draft in write_drafts(small_model(2), tokenizer, items, CONFIG, ALONE)]
    config = dataclasses.replace(CONFIG, blocks_per_wave=1)
    assert run_ranks(drafts_over_ranks, 3, str(shard_folder), config) == [alone] * 3


def test_a_sample_of_a_table(items):
    some = items.take([5, 0, 7])
    assert some.items == [items.items[5], items.items[0], items.items[7]] and some.texts[1] == items.texts[0]
    assert [some.tokens(row).tolist() for row in range(3)] == [items.tokens(row).tolist() for row in (5, 0, 7)]
    assert len(items.take([])) == 0 and items.take([]).token_ids.dtype == np.int32
