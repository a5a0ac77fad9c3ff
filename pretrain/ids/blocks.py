"""Which items are decoded together, and in which row of the call: pure decisions about shapes.

Enters: the items' text lengths. Leaves: each item's width and place, its home rank, and blocks of one call shape. Must
hold: an item's call shape and its row in the call are functions of the catalogue up to the item and of the attempt
alone. What is computed in one row of a call of fixed shape does not depend on what stands in the others, to the bit, so
that an item's candidates depend neither on the number of ranks, nor on who else needs candidates, nor on items that are
added after it.

Items whose texts fill the same number of tokens, rounded up, are numbered in row order: an item's number is its place,
`place % size` its row in a call of `size` rows. A first attempt is made in calls of `block_size` rows, where
consecutive places fill every row; later attempts, which few items need, in calls of a quarter of that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from pretrain.config.ids import IdConfig
from shards.tables import ItemTable

WIDTH_STEP = 32


class Attempt(NamedTuple):
    """The n-th try of an item: a diversity penalty inside a length tier, or a range of numeric suffixes."""

    tier: int
    penalty: float
    first_suffix: int | None = None


class Block(NamedTuple):
    """One call of the generator: items by their row in it (-1: nobody), all of one width and one length tier."""

    rows_B: np.ndarray
    width: int
    tier: int


SUFFIXES_PER_ATTEMPT = 64


def attempt_of(index: int, config: IdConfig) -> Attempt:
    """The schedule of Algorithm 1, reset for each item: penalties 0.1 to 1.0, then the next length tier, then
    suffixes."""
    steps = config.num_penalties
    tier, step = divmod(index, steps)
    if tier < config.max_tiers:
        return Attempt(tier, config.penalty(step))
    return Attempt(config.max_tiers - 1, 0.0, 2 + (index - config.num_attempts) * SUFFIXES_PER_ATTEMPT)


def rows_of_call(attempt: int, config: IdConfig) -> int:
    """Rows of the call in which an attempt is made."""
    return config.block_size if attempt == 0 else -(-config.block_size // 4)


@dataclass(frozen=True)
class Layout:
    """Of N items: `width_N`, the tokens of the call in which the text is read (EOS included, rounded up), and
    `place_N`, how many earlier items have that width."""

    width_N: np.ndarray
    place_N: np.ndarray

    def blocks(self, rows: Iterable[int], size: int) -> list[tuple[int, np.ndarray]]:
        """(width, rows of a call of `size`) with every one of `rows` at its own row, in as few calls as that takes."""
        waiting: dict[tuple[int, int], list[int]] = {}
        for row in sorted(rows):
            waiting.setdefault((int(self.width_N[row]), int(self.place_N[row]) % size), []).append(row)
        blocks: dict[tuple[int, int], np.ndarray] = {}
        for (width, slot), queue in waiting.items():
            for number, row in enumerate(queue):
                blocks.setdefault((-width, number), np.full(size, -1, dtype=np.int64))[slot] = row
        return [(-width, rows_B) for (width, _), rows_B in sorted(blocks.items(), key=lambda entry: entry[0])]


def lay_out(items: ItemTable, config: IdConfig) -> Layout:
    """Widths and places of all items."""
    lengths_N = np.minimum(np.diff(items.offsets), config.item_text_tokens - 1) + 1
    width_N = -(-lengths_N // WIDTH_STEP) * WIDTH_STEP
    place_N = np.empty(len(width_N), dtype=np.int64)
    for width in np.unique(width_N):
        here = width_N == width
        place_N[here] = np.arange(here.sum())
    return Layout(width_N, place_N)


def deal(layout: Layout, rows: np.ndarray, ranks: int, config: IdConfig) -> np.ndarray:
    """The home rank of every item, int32, -1 for those not among `rows`: whole first blocks, the widest first, dealt
    one by one, so that what the ranks do at a time is alike and no rank gets more than one block more than another."""
    home_N = np.full(len(layout.width_N), -1, dtype=np.int32)
    block_N = layout.place_N // config.block_size
    keys = list(zip((-layout.width_N[rows]).tolist(), block_N[rows].tolist(), strict=True))
    number_of = {key: number for number, key in enumerate(sorted(set(keys)))}
    home_N[rows] = [number_of[key] % ranks for key in keys]
    return home_N


def next_blocks(active: Iterable[int], attempts: Callable[[int], int], layout: Layout, config: IdConfig) -> list[Block]:
    """The calls that the items of one rank need, in order: first attempts before later ones, short tiers before long,
    wide texts before narrow. Items whose next attempt are suffixes need none."""
    groups: dict[tuple[int, int], list[int]] = {}
    for row in active:
        index = attempts(row)
        attempt = attempt_of(index, config)
        if attempt.first_suffix is None:
            groups.setdefault((attempt.tier, min(index, 1)), []).append(row)
    return [
        Block(rows_B, width, tier)
        for (tier, later), rows in sorted(groups.items(), key=lambda group: (group[0][1], group[0][0]))
        for width, rows_B in layout.blocks(rows, rows_of_call(later, config))
    ]
