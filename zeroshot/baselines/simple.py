"""Chance, popularity and repeating the history.

Enters: the users' training histories (sequence[:-2]: no validation item, no target). Leaves: dense scores. What must
hold: each scores everything; taking the history out for the protocol `new` is the judge's work.
"""

import hashlib
from collections.abc import Sequence

import numpy as np

from shards import counters
from zeroshot.protocol.recommender import ProtocolName, Ranking


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
