"""The context of a catalogue: what can be counted in everyone's training interactions. Nothing is trained.

Enters: the training histories (sequence[:-2]) of all users, as item rows, oldest first. Leaves: counts of items and of
pairs, each counted when it is first asked for. Must hold: a recommender that reads them is of the kind `in-context`; no
validation item and no target is in a count; no item is recognisable by a count below FLOOR.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
from scipy import sparse

FLOOR = 4
"""Counts of items are at least this. In a 5-core an item that is seldom in the training part is likely to be held out:
its missing interactions are validation items and targets, so a lower count would say which items those are."""
BLOCK = 4096
"""Items whose pairs are counted at a time: the product of one block has to fit in memory, not that of all."""
GAPS = 5
GAP_DECAY = 0.7


class Context:
    """Counts of a catalogue of I items. All matrices of pairs are CSR float32 with an empty diagonal.

    Raises:
        ValueError: a history names an item outside the catalogue.
    """

    def __init__(self, training_histories: Sequence[np.ndarray], num_items: int) -> None:
        self.num_items = num_items
        self.histories = [np.asarray(history, dtype=np.int64) for history in training_histories if len(history)]
        self.rows = np.concatenate([*self.histories, np.zeros(0, dtype=np.int64)])
        if len(self.rows) and (self.rows.min() < 0 or self.rows.max() >= num_items):
            raise ValueError(f"a training history names an item outside the catalogue of {num_items:,} items")

    @cached_property
    def users_UI(self) -> Any:
        """CSR float64 [U, I]: 1 where a user's history holds an item, once or more often."""
        distinct = [np.unique(history) for history in self.histories]
        starts = np.concatenate([[0], np.cumsum([len(row) for row in distinct])]).astype(np.int64)
        columns = np.concatenate([*distinct, np.zeros(0, dtype=np.int64)])
        return sparse.csr_array((np.ones(len(columns)), columns, starts), shape=(len(distinct), self.num_items))

    @cached_property
    def counts_I(self) -> np.ndarray:
        """Float64: the users who have an item, at least FLOOR."""
        return np.maximum(np.asarray(self.users_UI.sum(axis=0)).ravel(), float(FLOOR))

    @cached_property
    def last_shares_I(self) -> np.ndarray:
        """Float64: how often an item is the last one of a training history, over its count: what is bought now."""
        ends = np.array([history[-1] for history in self.histories], dtype=np.int64)
        return np.bincount(ends, minlength=self.num_items) / self.counts_I

    @property
    def density(self) -> float:
        """Logarithm of the interactions per item, one added to both."""
        return float(np.log((len(self.rows) + 1) / (self.num_items + 1)))

    @cached_property
    def cosines_II(self) -> Any:
        """Users who have both items over the geometric mean of the counts: the cosine of the items' user vectors."""
        return self._pairs(self.users_UI)

    @cached_property
    def user_weighted_II(self) -> Any:
        """`cosines_II` with each user's pairs divided by the number of the user's other items: who buys everything says
        little about any pair."""
        others_U = np.maximum(np.asarray(self.users_UI.sum(axis=1)).ravel() - 1.0, 1.0)
        return self._pairs(sparse.diags_array(1.0 / np.sqrt(others_U)) @ self.users_UI)

    @cached_property
    def transitions_II(self) -> Any:
        """How often the column's item came 1 to GAPS places after the row's, GAP_DECAY times less with each place more,
        over the geometric mean of the counts."""
        scale = self._scale
        return (scale @ self._steps @ scale).astype(np.float32).tocsr()

    @cached_property
    def transition_shares_II(self) -> Any:
        """The same over the count of the row's item: where users go from there."""
        return (sparse.diags_array(1.0 / self.counts_I) @ self._steps).astype(np.float32).tocsr()

    @cached_property
    def _steps(self) -> Any:
        ones, others, weights = [np.zeros(0, dtype=np.int64)], [np.zeros(0, dtype=np.int64)], [np.zeros(0)]
        for gap in range(1, GAPS + 1):
            for history in self.histories:
                if len(history) > gap:
                    ones.append(history[:-gap])
                    others.append(history[gap:])
                    weights.append(np.full(len(history) - gap, GAP_DECAY ** (gap - 1)))
        row, column, weight = np.concatenate(ones), np.concatenate(others), np.concatenate(weights)
        apart = row != column
        shape = self.num_items, self.num_items
        return sparse.csr_array((weight[apart], (row[apart], column[apart])), shape=shape)

    @property
    def _scale(self) -> Any:
        return sparse.diags_array(1.0 / np.sqrt(self.counts_I))

    def _pairs(self, users_UI: Any) -> Any:
        scaled: Any = (users_UI @ self._scale).tocsr().astype(np.float32)
        firsts = range(0, self.num_items, BLOCK)
        blocks = [_without_diagonal(scaled[:, first : first + BLOCK].T @ scaled, first) for first in firsts]
        return sparse.vstack(blocks, format="csr") if blocks else sparse.csr_array((0, 0), dtype=np.float32)


def _without_diagonal(block: Any, first: int) -> Any:
    """Rows `first`, `first` + 1, ... of a square matrix, without the items' pairs with themselves."""
    pairs = block.tocoo()
    apart = pairs.row + first != pairs.col
    return sparse.csr_array((pairs.data[apart], (pairs.row[apart], pairs.col[apart])), shape=block.shape)
