"""Likeness of words: the item whose text is closest to the user's last item, or to the whole history, faded.

Enters: item texts. Leaves: dense scores. What must hold: the numbers measured for five data sets come out again, to the
fourth digit (tests/system/test_anchors.py).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import sparse

from pretrain.ranking.text_match import decayed_profiles, dot_products
from zeroshot.protocol.recommender import ProtocolName, Ranking

DECAY_LENGTH = 20


class TfidfDecayed:
    """Cosine of an item's text with the decayed sum of the last 20 items' texts, weight 0.7 per step back."""

    name = "tfidf-decayed"
    length = DECAY_LENGTH

    def __init__(self, vectors: sparse.csr_matrix) -> None:
        self.vectors: Any = vectors

    def rank(self, histories: list[np.ndarray], protocols: Sequence[ProtocolName]) -> Ranking:
        """Dense scores, not normalised by the length of the user's vector: that would not change an order."""
        profiles: Any = decayed_profiles(histories, self.vectors.shape[0], self.length)
        return Ranking(dot_products(profiles @ self.vectors, self.vectors))


class TfidfLast(TfidfDecayed):
    """Cosine of an item's text with the text of the last item of the history."""

    name = "tfidf-last"
    length = 1
