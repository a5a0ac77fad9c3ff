"""The text match as something that a search adds to the model's scores: the blend.

Enters: TF-IDF vectors of a catalogue's texts and a weight. Leaves: what each item is worth after each history. Must
hold: the model's own search finds the items (`pretrain/decoding/guide.py`); no target is read; what is blended is named
so in every table.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
from scipy import sparse

from zeroshot.baselines.tfidf import DECAY_LENGTH, decayed_profiles

BLEND = "idgenrec+text"
"""Its name in tables."""


class TextMatch:
    """`weight` times the cosine of an item's text with the faded texts of the history (those of `tfidf-decayed`)."""

    def __init__(self, vectors: sparse.csr_matrix, weight: float) -> None:
        self.vectors: Any = vectors
        self.transposed: Any = self.vectors.T.tocsr()
        self.weight = weight

    def __call__(self, histories: list[np.ndarray]) -> np.ndarray:
        """Worth of all items after each history, [N, I], float32."""
        users: Any = decayed_profiles(histories, self.vectors.shape[0], DECAY_LENGTH) @ self.vectors
        lengths_N = np.sqrt(np.asarray(users.multiply(users).sum(axis=1)).ravel())
        cosines_NI = (users @ self.transposed).toarray() / np.maximum(lengths_N, 1e-12)[:, None]
        return (self.weight * cosines_NI).astype(np.float32)

    def identity(self) -> str:
        """A hash of all that it depends on."""
        digest = hashlib.sha256(repr((self.weight, self.vectors.shape)).encode())
        for part in (self.vectors.data, self.vectors.indices, self.vectors.indptr):
            digest.update(np.ascontiguousarray(part).tobytes())
        return digest.hexdigest()
