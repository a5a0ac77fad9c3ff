"""The blend: what the words, the popularity and the repeats of an unseen set say of an item, added to the model's
scores.

Enters: the training-free recommender `text+popularity` and a weight. Leaves: what each item is worth after each
history. Must hold: the model's own search finds the items (`pretrain/decoding/guide.py`); no target is read; what is
blended is named so in every table, beside both of its parts.
"""

from __future__ import annotations

import hashlib

import numpy as np

from zeroshot.baselines.text_popularity import TextPopularity

BLEND = "idgenrec+text+popularity"
"""Its name in tables."""


class Blend:
    """`weight` times the log-probability of an item by `text+popularity`: a product of two experts (Hinton 2002)."""

    def __init__(self, expert: TextPopularity, weight: float) -> None:
        self.expert, self.weight = expert, weight

    def __call__(self, histories: list[np.ndarray]) -> np.ndarray:
        """Worth of all items after each history, [N, I], float32."""
        return (self.weight * self.expert.log_probs(histories)).astype(np.float32)

    def identity(self) -> str:
        """A hash of all that it depends on."""
        return hashlib.sha256(repr((self.weight, self.expert.identity())).encode()).hexdigest()
