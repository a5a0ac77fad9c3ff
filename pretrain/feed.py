"""What an engine eats: for each optimiser step the micro-batches of this rank.

Enters: the stream, the item table, the current ID book and a position per phase kind. Leaves: (position after the step,
micro-batches). Must hold: the global batch of a step is the same for every number of ranks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerBase

from pretrain.batches import BatchMaker, GeneratorBatch, TextBatch, text_batch
from pretrain.config import PretrainConfig
from pretrain.informative import informative_words
from pretrain.schedule import Kind
from pretrain.world import World
from shards.counters import generator as counter_generator
from shards.records import Position
from shards.stream import Stream
from shards.tables import ItemTable

Step = tuple[Position, Sequence[TextBatch | GeneratorBatch]]


def split(entries: list[Any], parts: int) -> list[list[Any]]:
    """Entries cut into `parts` runs of nearly equal length; a short batch is filled up with None."""
    filled = entries + [None] * max(0, parts - len(entries))
    bounds = np.linspace(0, len(filled), parts + 1).round().astype(int)
    return [filled[start:stop] for start, stop in zip(bounds[:-1], bounds[1:], strict=True)]


def interaction_steps(
    kind: Kind, stream: Stream, maker: BatchMaker, position: Position, config: PretrainConfig, world: World
) -> Iterator[Step]:
    """Recommender or generator batches from `position` on, epoch after epoch, without end."""
    parts = config.micro_batches(world.size)
    make = maker.generator_batch if kind == "generator" else maker.recommender_batch
    while True:
        epoch = position.epoch
        for position, samples in stream.batches(position, config.batch_size):
            yield position, [make(part, epoch) for part in split(samples, parts)]


def teaching_steps(
    tokenizer: PreTrainedTokenizerBase, items: ItemTable, position: Position, config: PretrainConfig, world: World
) -> Iterator[Step]:
    """Batches of (item text, its most informative words), each epoch in its own order, without end."""
    eos = tokenizer.eos_token_id
    words = informative_words(items.texts, config.schedule.teaching_words)
    targets = tokenizer(words, add_special_tokens=False)["input_ids"]
    inputs = [[*items.tokens(row)[: config.ids.item_text_tokens - 1], eos] for row in range(len(items))]
    parts = config.micro_batches(world.size)
    while True:
        order = counter_generator(config.seed, "teaching", position.epoch).permutation(len(items))
        while position.slot < len(order):
            chosen = order[position.slot : position.slot + config.batch_size]
            done = position.slot + len(chosen)
            ends = done >= len(order)
            position = Position(position.seed, position.epoch + ends, 0 if ends else done)
            mine = split(chosen[world.rank :: world.size].tolist(), parts)
            yield (
                position,
                [
                    text_batch(
                        [[] if row is None else inputs[row] for row in part],
                        [[] if row is None else targets[row] for row in part],
                        eos,
                    )
                    for part in mine
                ],
            )
            if ends:
                break
