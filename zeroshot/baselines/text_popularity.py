"""Likeness of words, popularity and the habit of repeating, as one probability of the next item. Nothing is trained.

Enters: item texts and the users' training histories (sequence[:-2]). Leaves: log-probabilities. What must hold: every
item has one; its constants were chosen on pretraining categories held out (benchmarks/zeroshot/text_popularity.py),
none on a test set.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
from scipy import sparse

from zeroshot.baselines.tfidf import DECAY_LENGTH, decayed_profiles, dot_products
from zeroshot.protocol.recommender import Ranking

TEXT_WEIGHT = 7.0
"""Nats for a cosine of 1."""
POPULARITY_WEIGHT = 0.35
"""Nats for each factor e that one item is more often in training histories than another (one is added to counts)."""
LEAST = 1e-30
"""Of a probability, so that its logarithm is finite."""


def repeats_itself(training_histories: list[np.ndarray]) -> bool:
    """Whether any training history holds an item twice."""
    return any(len(np.unique(history)) < len(history) for history in training_histories)


def repeat_share(training_histories: list[np.ndarray]) -> float:
    """How probable it is that a next item was in the history before: the share of training histories whose last item
    was, half a history added to both sides."""
    longer = [history for history in training_histories if len(history) > 1]
    repeated = sum(history[-1] in history[:-1] for history in longer)
    return (repeated + 0.5) / (len(longer) + 1.0)


class TextPopularity:
    """With the share of repeats an item of the history, by recency (0.7 per step back); else another item, by the
    softmax of its text's cosine with the decayed history and of the logarithm of its count."""

    name = "text+popularity"

    def __init__(
        self, vectors: sparse.csr_matrix, training_histories: list[np.ndarray],
        text_weight: float = TEXT_WEIGHT, popularity_weight: float = POPULARITY_WEIGHT,
    ) -> None:  # fmt: skip
        self.vectors: Any = vectors
        rows = np.concatenate([*training_histories, np.zeros(0, dtype=np.int64)]).astype(np.int64)
        counts_I = np.bincount(rows, minlength=self.vectors.shape[0])
        self.popularity_I = popularity_weight * np.log1p(counts_I)
        self.text_weight, self.repeats = text_weight, repeat_share(training_histories)

    def rank(self, histories: list[np.ndarray], exclude_history: bool) -> Ranking:
        """Dense log-probabilities."""
        return Ranking(self.log_probs(histories))

    def log_probs(self, histories: list[np.ndarray]) -> np.ndarray:
        """Of each item being the next one after each history, [N, I]."""
        num_items = self.vectors.shape[0]
        users: Any = decayed_profiles(histories, num_items, DECAY_LENGTH) @ self.vectors
        lengths_N = np.sqrt(np.asarray(users.multiply(users).sum(axis=1)).ravel())
        cosines_NI = dot_products(users, self.vectors) / np.maximum(lengths_N, 1e-12)[:, None]
        logits_NI = self.text_weight * cosines_NI + self.popularity_I
        before: Any = decayed_profiles(histories, num_items, max(map(len, histories), default=1)).tocoo()
        logits_NI[before.row, before.col] = -np.inf
        probs_NI = np.exp(logits_NI - np.max(logits_NI, axis=1, keepdims=True, initial=0.0))
        probs_NI *= (1.0 - self.repeats) / np.maximum(probs_NI.sum(axis=1, keepdims=True), LEAST)
        sums_N = np.bincount(before.row, before.data, len(histories))
        np.add.at(probs_NI, (before.row, before.col), self.repeats * before.data / sums_N[before.row])
        return np.log(np.maximum(probs_NI, LEAST))

    def identity(self) -> str:
        """A hash of all that a list depends on."""
        digest = hashlib.sha256(repr((self.text_weight, self.repeats, self.vectors.shape)).encode())
        for part in (self.vectors.data, self.vectors.indices, self.vectors.indptr, self.popularity_I):
            digest.update(np.ascontiguousarray(part).tobytes())
        return digest.hexdigest()
