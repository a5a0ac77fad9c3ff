"""Recommenders without training: the line that a trained model has to beat.

Enters: item texts and the users' training histories (sequence[:-2]: no validation item, no target). Leaves: dense
scores. What must hold: the numbers measured for Beauty, Toys, Yelp and Instruments come out again
(tests/system/test_anchors.py). Each baseline scores everything; taking the history out for the protocol `new` is the
judge's work.
"""

import hashlib
from typing import Any

import numpy as np
from scipy import sparse
from sklearn.feature_extraction.text import TfidfVectorizer

from shards import counters
from zeroshot.interface import Ranking, Recommender
from zeroshot.tasks import Task

DECAY_LENGTH = 20
DECAY = 0.7


class Random:
    """Uniform scores, one draw per (seed, history, item): the same user always gets the same list."""

    name = "random"

    def __init__(self, num_items: int, seed: int = 0) -> None:
        self.num_items = num_items
        self.seed = seed

    def rank(self, histories: list[np.ndarray], exclude_history: bool) -> Ranking:
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

    def rank(self, histories: list[np.ndarray], exclude_history: bool) -> Ranking:
        """Dense scores: the same counts for every user."""
        return Ranking(np.repeat(self.counts_I[None, :], len(histories), axis=0))


class Repeat:
    """The user's own history, latest first; every other item is absent."""

    name = "repeat"

    def __init__(self, num_items: int) -> None:
        self.num_items = num_items

    def rank(self, histories: list[np.ndarray], exclude_history: bool) -> Ranking:
        """Dense scores: the latest position in the history, -inf elsewhere."""
        scores_NI = np.full((len(histories), self.num_items), -np.inf)
        for row, history in enumerate(histories):
            np.maximum.at(scores_NI[row], history, np.arange(len(history), dtype=np.float64))
        return Ranking(scores_NI)


def item_vectors(texts: list[str]) -> sparse.csr_matrix:
    """TF-IDF vectors of the item texts (items x terms), L2-normalised, field names kept as words.

    Token pattern `\\w+`, sublinear term frequency, terms of at least two items.
    """
    # One lone word per item leaves nothing after min_df 2; such a catalogue has no text to match.
    vectorizer: Any = TfidfVectorizer(token_pattern=r"\w+", sublinear_tf=True, min_df=2, norm="l2")
    try:
        return sparse.csr_matrix(vectorizer.fit_transform(texts))
    except ValueError:
        raise ValueError("no word occurs in two item texts: TF-IDF has nothing to match") from None


class TfidfDecayed:
    """Cosine of an item's text with the decayed sum of the last 20 items' texts, weight 0.7 per step back."""

    name = "tfidf-decayed"
    length = DECAY_LENGTH

    def __init__(self, vectors: sparse.csr_matrix) -> None:
        self.vectors: Any = vectors
        self.transposed: Any = self.vectors.T.tocsr()

    def rank(self, histories: list[np.ndarray], exclude_history: bool) -> Ranking:
        """Dense scores, not normalised by the length of the user's vector: that would not change an order."""
        kept = [np.asarray(history)[-self.length :][::-1] for history in histories]
        lengths = [len(history) for history in kept]
        weights = np.concatenate([DECAY ** np.arange(length) for length in lengths] or [np.zeros(0)])
        columns = np.concatenate(kept or [np.zeros(0, dtype=np.int64)])
        starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        shape = (len(histories), self.vectors.shape[0])
        profiles = sparse.csr_matrix((weights, columns, starts), shape=shape) @ self.vectors
        return Ranking((profiles @ self.transposed).toarray())


class TfidfLast(TfidfDecayed):
    """Cosine of an item's text with the text of the last item of the history."""

    name = "tfidf-last"
    length = 1


def standard(task: Task, seed: int = 0) -> list[Recommender]:
    """The five baselines of every report, built from a task's texts and training histories."""
    num_items = len(task.items)
    vectors = item_vectors(task.texts)
    return [
        Random(num_items, seed),
        Popularity(task.training_histories, num_items),
        Repeat(num_items),
        TfidfLast(vectors),
        TfidfDecayed(vectors),
    ]
