"""Heuristics that train nothing and read no text: chance, popularity, repeats, neighbours, the order of item ids.

Enters: item names and the users' training histories (sequence[:-2]: no validation item, no target). Leaves: dense
scores. What must hold: each scores everything; taking the history out for the protocol `new` is the judge's work;
`Neighbours` gives the "first-order Markov" rows measured for five data sets to the fourth digit
(tests/system/test_anchors.py).
"""

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import sparse

from shards import counters
from zeroshot.protocol.recommender import ProtocolName, Ranking

BEFORE = 0.5
"""Weight of a neighbour that came right before, where one that came right after counts 1."""


class Random:
    """Uniform scores, one draw per (seed, history, item): the same user always gets the same list."""

    name = "random"

    def __init__(self, num_items: int, seed: int = 0) -> None:
        self.num_items = num_items
        self.seed = seed

    def rank(self, histories: list[np.ndarray], protocols: Sequence[ProtocolName]) -> Ranking:
        """Dense scores in [0, 1)."""
        scores_NI = np.empty((len(histories), self.num_items))
        for row, history in enumerate(histories):
            key = hashlib.sha256(np.asarray(history, dtype="<i8").tobytes()).hexdigest()
            scores_NI[row] = counters.generator(self.seed, "random-baseline", key).random(self.num_items)
        return Ranking(scores_NI)


class Popularity:
    """How often an item occurs in the training histories (sequence[:-2]) of all users, not only of the judged ones."""

    name = "popularity"

    def __init__(self, training_histories: list[np.ndarray], num_items: int) -> None:
        rows = np.concatenate(training_histories) if training_histories else np.zeros(0, dtype=np.int64)
        self.counts_I = np.bincount(rows, minlength=num_items).astype(np.float64)

    def rank(self, histories: list[np.ndarray], protocols: Sequence[ProtocolName]) -> Ranking:
        """Dense scores: the same counts for every user."""
        return Ranking(np.repeat(self.counts_I[None, :], len(histories), axis=0))


class Repeat:
    """The user's own history, latest first; every other item is absent."""

    name = "repeat"

    def __init__(self, num_items: int) -> None:
        self.num_items = num_items

    def rank(self, histories: list[np.ndarray], protocols: Sequence[ProtocolName]) -> Ranking:
        """Dense scores: the latest position in the history, -inf elsewhere."""
        scores_NI = np.full((len(histories), self.num_items), -np.inf)
        for row, history in enumerate(histories):
            np.maximum.at(scores_NI[row], history, np.arange(len(history), dtype=np.float64))
        return Ranking(scores_NI)


class Neighbours:
    """The last item's neighbours in other users' histories, a first-order Markov chain that is counted, not trained.

    An item's score is how often it came right after the user's last item, plus half of how often it came right before
    it. Equal sums go by popularity, so behind the neighbours stand all other items by popularity. A repeat right after
    itself counts both ways.
    """

    name = "neighbours"

    def __init__(self, training_histories: list[np.ndarray], num_items: int) -> None:
        steps = [history for history in training_histories if len(history) > 1] or [np.zeros(0, dtype=np.int64)]
        one, next_one = np.concatenate([step[:-1] for step in steps]), np.concatenate([step[1:] for step in steps])
        after: Any = sparse.csr_matrix((np.ones(len(one)), (one, next_one)), shape=(num_items, num_items))
        self.counts: Any = (after + BEFORE * after.T).tocsr()
        popularity_I = np.bincount(np.concatenate(training_histories or steps), minlength=num_items)
        # Sums are multiples of a half, so less than a half only decides between equal ones.
        self.popularity_I = popularity_I / (2.0 * (popularity_I.max(initial=0) + 1))

    def rank(self, histories: list[np.ndarray], protocols: Sequence[ProtocolName]) -> Ranking:
        """Dense scores: the row of the last item."""
        last_N = np.array([history[-1] for history in histories], dtype=np.int64)
        return Ranking(self.counts[last_N].toarray() + self.popularity_I)


class ItemOrder:
    """The item whose id comes next after the largest id of the history in the sorted catalogue, then the one after it,
    and so on round the end of the catalogue.

    Only names and the history count. In the reference's Sports and Toys every history is sorted by ASIN, so the
    target's ASIN is the largest of all: this is the simplest guess that knows it. In true order of time it has nothing
    to go by but that like items have like numbers.
    """

    name = "item-order"

    def __init__(self, items: list[str]) -> None:
        self.place_I = np.empty(len(items), dtype=np.int64)
        self.place_I[sorted(range(len(items)), key=items.__getitem__)] = np.arange(len(items))

    def rank(self, histories: list[np.ndarray], protocols: Sequence[ProtocolName]) -> Ranking:
        """Dense scores: minus the steps from the item with the largest id, 1 to the size of the catalogue."""
        largest_N = np.array([self.place_I[history].max() for history in histories], dtype=np.int64)
        steps_NI = (self.place_I[None, :] - largest_N[:, None] - 1) % len(self.place_I) + 1
        return Ranking(-steps_NI.astype(np.float64))
