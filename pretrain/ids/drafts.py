"""Drafts: what a generator (or its stand-in) writes first for an item, before Algorithm 1 settles who has it.

Enters: a generator and items. Leaves: each item's first candidate, by row, on every rank. They show what the generator
itself is like; a book shows what became of it.
"""

from __future__ import annotations

import numpy as np
from transformers.models.t5.modeling_t5 import T5ForConditionalGeneration
from transformers.models.t5.tokenization_t5 import T5Tokenizer

from pretrain.config.ids import IdConfig
from pretrain.ids.assign import tokens_of
from pretrain.ids.blocks import lay_out, next_blocks
from pretrain.ids.control_ids import writer_of
from pretrain.runtime.world import World
from shards.tables import ItemTable


def write_drafts(
    generator: T5ForConditionalGeneration, tokenizer: T5Tokenizer, items: ItemTable, config: IdConfig, world: World
) -> list[np.ndarray]:
    """Token ids of every item's draft, empty where nothing was written that could be an ID. Collective."""
    layout = lay_out(items, config)
    writer = writer_of(config)(generator, tokenizer, items, layout, config, lambda _: 0)
    mine: dict[int, np.ndarray] = {}
    for block in next_blocks(range(len(items)), lambda _: 0, layout, config)[world.rank :: world.size]:
        for row, candidates in writer.write(block):
            mine[row] = tokens_of(candidates[0]) if candidates else np.zeros(0, dtype=np.int32)
        writer.keep_only([])
    everything = {row: tokens for part in world.gather(mine) for row, tokens in part.items()}
    return [everything[row] for row in range(len(items))]
