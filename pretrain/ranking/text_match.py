"""Likeness of words: TF-IDF vectors of item texts, and profiles of histories to compare with them.

Enters: item texts, histories. Leaves: sparse vectors, cosines. Must hold: a row of a product depends on its own user
and nothing else, so that blocks of users change no bit.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from scipy import sparse
from sklearn.feature_extraction.text import TfidfVectorizer

DECAY = 0.7
BLOCK = 512
"""Items whose cosines with all others are held at a time."""


def item_vectors(texts: list[str]) -> sparse.csr_matrix:
    """TF-IDF vectors of the item texts (items x terms), L2-normalised, field names kept as words.

    Token pattern `\\w+`, sublinear term frequency, terms of at least two items.

    Raises:
        ValueError: no word occurs in two texts.
    """
    # One lone word per item leaves nothing after min_df 2; such a catalogue has no text to match.
    vectorizer: Any = TfidfVectorizer(token_pattern=r"\w+", sublinear_tf=True, min_df=2, norm="l2")
    try:
        return sparse.csr_matrix(vectorizer.fit_transform(texts))
    except ValueError:
        raise ValueError("no word occurs in two item texts: TF-IDF has nothing to match") from None


def decayed_profiles(
    histories: list[np.ndarray], num_items: int, length: int, decay: float = DECAY
) -> sparse.csr_matrix:
    """Weights [N, I] of each history's last `length` items: 1 for the last, `decay` times less with each step back; an
    item that comes twice has the sum."""
    recent = [np.asarray(history)[-length:][::-1] for history in histories]
    lengths = [len(history) for history in recent]
    weights = np.concatenate([decay ** np.arange(length) for length in lengths] or [np.zeros(0)])
    columns = np.concatenate(recent or [np.zeros(0, dtype=np.int64)])
    starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return sparse.csr_matrix((weights, columns, starts), shape=(len(histories), num_items))


def dot_products(users: Any, items: Any) -> np.ndarray:
    """Of CSR vectors of users [N, T] and of items [I, T], dense [N, I], float64."""
    # Items times dense users is two to three times as fast as a sparse product that is nearly full in the end.
    terms = np.unique(users.indices)
    return np.ascontiguousarray((items[:, terms] @ np.ascontiguousarray(users[:, terms].toarray().T)).T)


def cosines(profiles: Any, vectors: Any) -> np.ndarray:
    """Dense [N, I]: the cosine of each item's vector with the weighted sum of a profile's vectors, 0 where that
    is 0."""
    users: Any = profiles @ vectors
    lengths_N = np.sqrt(np.asarray(users.multiply(users).sum(axis=1)).ravel())
    return dot_products(users, vectors) / np.maximum(lengths_N, 1e-12)[:, None]


def nearest_texts(vectors: Any, count: int) -> Any:
    """CSR float32 [I, I]: the cosines of each item's `count` nearest other texts, each row divided by its sum."""
    num_items = vectors.shape[0]
    count = min(count, num_items - 1)
    blocks = []
    for first in range(0, num_items if count else 0, BLOCK):
        cosines_BI = dot_products(vectors[first : first + BLOCK], vectors)
        rows = np.arange(len(cosines_BI))
        cosines_BI[rows, rows + first] = 0.0
        nearest_BK = best_rows(cosines_BI, count)
        weights_BK = np.where(nearest_BK >= 0, np.take_along_axis(cosines_BI, nearest_BK, axis=1), 0.0)
        weights_BK /= np.maximum(weights_BK.sum(axis=1, keepdims=True), 1e-12)
        starts = np.arange(0, len(rows) * count + 1, count)
        shape = len(rows), num_items
        blocks.append(sparse.csr_array((weights_BK.ravel(), np.maximum(nearest_BK, 0).ravel(), starts), shape=shape))
    empty: Any = sparse.csr_array((num_items, num_items))
    return (sparse.vstack(blocks, format="csr") if blocks else empty).astype(np.float32)


def best_rows(values_NI: np.ndarray, count: int) -> np.ndarray:
    """Columns of the `count` largest values of each row above 0, [N, count], in any order; -1 where there are fewer."""
    best = torch.topk(torch.from_numpy(np.ascontiguousarray(values_NI)), count)
    values_NK, rows_NK = best.values.numpy(), best.indices.numpy()
    limit_N1 = values_NK[:, -1:]
    # Which of the values equal to the last one were taken is chance; where there are more of them, take the first.
    unsure = np.flatnonzero((limit_N1[:, 0] > 0) & ((values_NI >= limit_N1).sum(axis=1) > count))
    for user in unsure:
        above = np.flatnonzero(values_NI[user] > limit_N1[user])
        level = np.flatnonzero(values_NI[user] == limit_N1[user])[: count - len(above)]
        rows_NK[user] = np.concatenate([above, level])
    return np.where(np.take_along_axis(values_NI, rows_NK, axis=1) > 0, rows_NK, -1)
