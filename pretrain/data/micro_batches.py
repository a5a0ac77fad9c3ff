"""What an engine eats: for each optimiser step the micro-batches of this rank.

Enters: the stream, the item table, the current ID book and a position per phase kind. Leaves: (position after the step,
micro-batches). Must hold: the global batch of a step is the same for every number of ranks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from transformers.models.t5.tokenization_t5 import T5Tokenizer

from pretrain.config.run import Kind, PretrainConfig
from pretrain.data.batches import BatchMaker, GeneratorBatch, TextBatch, text_batch
from pretrain.runtime.watchdog import beat
from pretrain.runtime.world import World
from shards.counters import generator as counter_generator
from shards.counters import number as counter_number
from shards.records import Position, Sample
from shards.stream.stream import Stream
from shards.tables import ItemTable
from shards.tokenizer import EOS_ID

MicroBatches = Sequence[TextBatch | GeneratorBatch]
Step = tuple[Position, MicroBatches]


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

    def make(samples: list[Sample | None], at: Position) -> TextBatch | GeneratorBatch:
        if kind == "generator":
            return maker.generator_batch(samples, at.epoch, at.slot)
        return maker.recommender_batch(samples, at.epoch)

    while True:
        for after, samples in stream.batches(position, config.batch_size):
            before, position = position, after
            yield position, [make(part, before) for part in split(samples, parts)]


def teaching_steps(
    tokenizer: T5Tokenizer, items: ItemTable, position: Position, config: PretrainConfig, world: World
) -> Iterator[Step]:
    """Batches of (item text, some of its informative words), each epoch in its own order, without end."""
    beat("the most informative words of the items")
    informative = InformativeWords(items.texts)
    inputs = [[*items.tokens(row)[: config.ids.item_text_tokens - 1], EOS_ID] for row in range(len(items))]
    parts = config.micro_batches(world.size)
    while True:
        order = counter_generator(config.seed, "teaching", position.epoch).permutation(len(items))
        beat(f"words that are taught in epoch {position.epoch + 1}")
        words = [
            informative.draw(row, config.schedule.teaching_words, config.seed, position.epoch)
            for row in range(len(items))
        ]
        targets = tokenizer(words, add_special_tokens=False)["input_ids"]
        while position.slot < len(order):
            chosen = order[position.slot : position.slot + config.batch_size]
            done, epoch = position.slot + len(chosen), position.epoch
            ends = done >= len(order)
            position = replace(position, epoch=position.epoch + ends, slot=0 if ends else done)
            mine = split(chosen[world.rank :: world.size].tolist(), parts)
            yield (
                position,
                [
                    text_batch(
                        [[] if row is None else inputs[row] for row in part],
                        [[] if row is None else targets[row] for row in part],
                        EOS_ID,
                        [0 if row is None else counter_number(config.seed, "dropout", epoch, row) for row in part],
                    )
                    for part in mine
                ],
            )
            if ends:
                break


SHARPNESS = 3.0


class InformativeWords:
    r"""What a generator from scratch is taught to write: words by their TF-IDF (L2 norm, natural tf, `\w+`).

    Of a text a few words are drawn without replacement, in proportion to a power of their weight. Field names stand in
    every text, so theirs is the lowest there is. Words are drawn, not ranked, because diverse beam search needs a
    generator that knows more than one way to name an item: taught one fixed answer, it puts all probability there and
    no penalty up to 1.0 moves it.
    """

    def __init__(self, texts: list[str]) -> None:
        from sklearn.feature_extraction.text import TfidfVectorizer

        vectorizer = TfidfVectorizer(token_pattern=r"\w+")
        self._weights = vectorizer.fit_transform(texts).tocsr()
        self._words = vectorizer.get_feature_names_out()

    def draw(self, row: int, num_words: int, seed: int, epoch: int) -> str:
        """Up to `num_words` distinct words of text `row`, in the order drawn; a function of (seed, epoch, row)."""
        start, stop = self._weights.indptr[row], self._weights.indptr[row + 1]
        columns, weights = self._weights.indices[start:stop], self._weights.data[start:stop]
        # Gumbel's trick: the largest of log-weight plus noise are a draw without replacement.
        noise = counter_generator(seed, "informative words", epoch, row).gumbel(size=len(columns))
        order = np.argsort(-(SHARPNESS * np.log(weights) + noise), kind="stable")[:num_words]
        return " ".join(self._words[columns[order]])
