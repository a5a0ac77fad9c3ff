"""The context of a catalogue: what can be counted in everyone's training interactions. Nothing is trained.

Enters: the training histories (sequence[:-2]) of all users, as item rows, oldest first. Leaves: counts of items and of
pairs. Must hold: a recommender that reads them is of the kind `in-context`; no validation item and no target is in a
count; no item is recognisable by a count below FLOOR.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse

FLOOR = 4
"""Counts are at least this. In a 5-core an item that is seldom in the training part is likely to be held out: its
missing interactions are validation items and targets, so a lower count would say who they are."""
BLOCK = 4096
"""Items whose pairs are counted at a time: the product of one block has to fit in memory, not that of all."""


@dataclass(frozen=True)
class Context:
    """Counts of a catalogue of I items.

    Attributes:
        counts_I: float64, in how many users' training histories an item stands, at least FLOOR.
        cosines_II: CSR float32, for each pair of items the users who have both over the geometric mean of the counts
            (the cosine of the items' user vectors); zero on the diagonal.
    """

    counts_I: np.ndarray
    cosines_II: Any

    def __post_init__(self) -> None:
        num_items = len(self.counts_I)
        assert self.cosines_II.shape == (num_items, num_items), "one row and one column per item"


def count_context(training_histories: Sequence[np.ndarray], num_items: int) -> Context:
    """The context of these histories; one user's repeats of an item count once.

    Raises:
        ValueError: a history names an item outside the catalogue.
    """
    users_UI = user_items(training_histories, num_items)
    counts_I = np.maximum(np.asarray(users_UI.sum(axis=0)).ravel().astype(np.float64), FLOOR)
    scaled: Any = (users_UI @ sparse.diags_array(1.0 / np.sqrt(counts_I))).tocsr().astype(np.float32)
    blocks = [_without_diagonal(scaled[:, first:end].T @ scaled, first) for first, end in _blocks(num_items)]
    return Context(counts_I, sparse.vstack(blocks, format="csr") if blocks else sparse.csr_array((0, 0)))


def user_items(histories: Sequence[np.ndarray], num_items: int) -> Any:
    """CSR float64 [U, I]: 1 where a user's history holds an item, once or more often."""
    distinct = [np.unique(np.asarray(history, dtype=np.int64)) for history in histories]
    rows = np.concatenate([*distinct, np.zeros(0, dtype=np.int64)])
    if len(rows) and (rows.min() < 0 or rows.max() >= num_items):
        raise ValueError(f"a training history names an item outside the catalogue of {num_items:,} items")
    starts = np.concatenate([[0], np.cumsum([len(row) for row in distinct])]).astype(np.int64)
    return sparse.csr_array((np.ones(len(rows)), rows, starts), shape=(len(distinct), num_items))


def _blocks(num_items: int) -> Iterator[tuple[int, int]]:
    for first in range(0, num_items, BLOCK):
        yield first, min(first + BLOCK, num_items)


def _without_diagonal(block: Any, first: int) -> Any:
    """Rows `first`, `first` + 1, ... of a square matrix, without the items' pairs with themselves."""
    pairs = block.tocoo()
    apart = pairs.row + first != pairs.col
    return sparse.csr_array((pairs.data[apart], (pairs.row[apart], pairs.col[apart])), shape=block.shape)
