"""Blends: what an unseen set's popularity and repeats, and its words too, say of an item, added to the model's scores.

Enters: a training-free recommender and a weight. Leaves: what each item is worth after each history. Must hold: the
model's own search finds the items (`pretrain/decoding/lookahead.py`); no target is read; what is blended is named so in
every table, beside the pure model.
"""

from __future__ import annotations

import hashlib

import numpy as np
from scipy import sparse

from pretrain.ranking.text_match import item_vectors
from zeroshot.baselines.text_popularity import TextPopularity
from zeroshot.protocol.config import TEXT_BLEND


def expert_of(name: str, texts: list[str], training_histories: list[np.ndarray]) -> TextPopularity:
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
        """Worth of all items after each history, [N, I], float32."""
        return (self.weight * self.expert.log_probs(histories)).astype(np.float32)

    def identity(self) -> str:
        """A hash of all that it depends on."""
        return hashlib.sha256(repr((self.weight, self.expert.identity())).encode()).hexdigest()
