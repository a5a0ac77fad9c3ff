"""Likeness of words: the item whose text is closest to the user's last item, or to the whole history, faded.

Enters: item texts. Leaves: dense scores. What must hold: the numbers measured for five data sets come out again, to the
fourth digit (tests/system/test_anchors.py).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import sparse
from sklearn.feature_extraction.text import TfidfVectorizer

from zeroshot.protocol.recommender import ProtocolName, Ranking

DECAY_LENGTH = 20
DECAY = 0.7


def decayed_profiles(histories: list[np.ndarray], num_items: int, length: int) -> sparse.csr_matrix:
    """Weights [N, I] of each history's last `length` items: 1 for the last, 0.7 times less with each step back; an
    item that comes twice has the sum."""
    recent = [np.asarray(history)[-length:][::-1] for history in histories]
    lengths = [len(history) for history in recent]
    weights = np.concatenate([DECAY ** np.arange(length) for length in lengths] or [np.zeros(0)])
    columns = np.concatenate(recent or [np.zeros(0, dtype=np.int64)])
    starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return sparse.csr_matrix((weights, columns, starts), shape=(len(histories), num_items))


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


def dot_products(users: Any, items: Any) -> np.ndarray:
    """Of CSR vectors of users [N, T] and of items [I, T], dense [N, I], float64."""
    # Items times dense users is two to three times as fast as a sparse product that is nearly full in the end.
    terms = np.unique(users.indices)
    return np.ascontiguousarray((items[:, terms] @ np.ascontiguousarray(users[:, terms].toarray().T)).T)


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
