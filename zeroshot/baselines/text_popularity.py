"""Likeness of words, popularity and the habit of repeating, as one probability of the next item. Nothing is trained.

Enters: item texts and the users' training histories (sequence[:-2]). Leaves: log-probabilities, as a baseline of its
own and as the item bonus that a blend adds to the model's scores, whose own search finds the items
(`pretrain/decoding/lookahead.py`). What must hold: every item has one; a blend is named so in every table, beside the
pure model; the constants were chosen on pretraining categories held out
(benchmarks/zeroshot/text_popularity.py), none on a test set.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import sparse

from pretrain.ranking.text_match import cosines, decayed_profiles, item_vectors
from zeroshot.baselines.tfidf import DECAY_LENGTH
from zeroshot.protocol.config import TEXT_BLEND
from zeroshot.protocol.recommender import ProtocolName, Ranking

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

    def rank(self, histories: list[np.ndarray], protocols: Sequence[ProtocolName]) -> Ranking:
        """Dense log-probabilities."""
        return Ranking(self.log_probs(histories))

    def logits(self, histories: list[np.ndarray]) -> np.ndarray:
        """What the softmax over items that are new to the user is of, [N, I]."""
        profiles = decayed_profiles(histories, self.vectors.shape[0], DECAY_LENGTH)
        return self.text_weight * cosines(profiles, self.vectors) + self.popularity_I

    def log_probs(self, histories: list[np.ndarray]) -> np.ndarray:
        """Of each item being the next one after each history, [N, I]."""
        num_items, logits_NI = self.vectors.shape[0], self.logits(histories)
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


def blend_expert(name: str, texts: list[str], training_histories: list[np.ndarray]) -> TextPopularity:
    """Whom a blend adds: the baseline `text+popularity`, or the set's own prior, which reads no text: an item of the
    history with the share of repeats, else any by its count plus one."""
    if name == TEXT_BLEND:
        return TextPopularity(item_vectors(texts), training_histories)
    no_words = sparse.csr_matrix((len(texts), 1))
    return TextPopularity(no_words, training_histories, text_weight=0.0, popularity_weight=1.0)


class Blend:
    """`weight` times the log-probability of an item by the expert: a product of two experts (Hinton 2002)."""

    def __init__(self, expert: TextPopularity, weight: float) -> None:
        self.expert, self.weight = expert, weight

    def __call__(self, histories: list[np.ndarray]) -> np.ndarray:
        """Bonus of all items after each history, [N, I], float32."""
        return (self.weight * self.expert.log_probs(histories)).astype(np.float32)

    def identity(self) -> str:
        """A hash of all that it depends on."""
        return hashlib.sha256(repr((self.weight, self.expert.identity())).encode()).hexdigest()


def blend(name: str, weight: float, texts: list[str], training_histories: list[np.ndarray]) -> Blend:
    """The blend of that name over a catalogue and its training histories."""
    return Blend(blend_expert(name, texts, training_histories), weight)
