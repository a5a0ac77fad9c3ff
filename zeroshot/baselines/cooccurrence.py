"""Baselines that read who bought what together, beside the words: of the kind `in-context`. Nothing is trained.

Enters: item texts and the users' training histories (sequence[:-2]). Leaves: dense scores. What must hold: every count
comes from `pretrain.ranking.context`; the weights were chosen on pretraining categories held out
(docs/benchmarks/cooccurrence.md), none on a test set.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import sparse

from pretrain.ranking.context import Context
from pretrain.ranking.text_match import decayed_profiles, dot_products
from zeroshot.baselines.text_popularity import TextPopularity
from zeroshot.baselines.tfidf import DECAY_LENGTH
from zeroshot.protocol.recommender import ProtocolName, Ranking

TEXT_WEIGHT = 2.0
"""Nats for a cosine of 1 between an item's text and the decayed history."""
POPULARITY_WEIGHT = 0.5
"""Nats for each factor e of the users who have an item (one is added to counts)."""
COOCCURRENCE_WEIGHT = 2.0
"""Nats for each factor e of 1 + SATURATION times the mean co-occurrence cosine with the decayed history."""
SATURATION = 40.0
STAR_LENGTH = 3


def mean_cosines(context: Context, histories: list[np.ndarray], length: int) -> np.ndarray:
    """Dense [N, I]: the co-occurrence cosine of each item with the last `length` items, their mean with weights of 0.7
    per step back."""
    profiles: Any = decayed_profiles(histories, len(context.counts_I), length)
    weights_N = np.asarray(profiles.sum(axis=1)).ravel()
    return (profiles @ context.cosines_II).toarray() / np.maximum(weights_N, 1e-12)[:, None]


class TextPopularityCooccurrence(TextPopularity):
    """`text+popularity` whose items that are new to the user also gain by what was bought together with the history."""

    name = "text+popularity+cooccurrence"

    def __init__(
        self, vectors: sparse.csr_matrix, training_histories: list[np.ndarray], context: Context,
        text_weight: float = TEXT_WEIGHT, popularity_weight: float = POPULARITY_WEIGHT,
        cooccurrence_weight: float = COOCCURRENCE_WEIGHT, saturation: float = SATURATION,
    ) -> None:  # fmt: skip
        super().__init__(vectors, training_histories, text_weight, popularity_weight)
        self.context = context
        self.popularity_I = popularity_weight * np.log1p(context.counts_I)
        self.cooccurrence_weight, self.saturation = cooccurrence_weight, saturation

    def logits(self, histories: list[np.ndarray]) -> np.ndarray:
        """Those of `text+popularity`, and the logarithm of the co-occurrence."""
        together_NI = mean_cosines(self.context, histories, DECAY_LENGTH)
        return super().logits(histories) + self.cooccurrence_weight * np.log1p(self.saturation * together_NI)

    def identity(self) -> str:
        """A hash of all that a list depends on."""
        digest = hashlib.sha256(f"{super().identity()} {self.cooccurrence_weight} {self.saturation}".encode())
        for part in (self.context.cosines_II.data, self.context.cosines_II.indices, self.context.cosines_II.indptr):
            digest.update(np.ascontiguousarray(part).tobytes())
        return digest.hexdigest()


class Star:
    """The retrieval rule of STAR (Lee et al., 2024): half the cosine of texts and half the cosine of users, summed over
    the last three items, 0.7 times less with each step back. TF-IDF stands in the place of an LLM's embeddings."""

    name = "star"

    def __init__(self, vectors: sparse.csr_matrix, context: Context) -> None:
        self.vectors: Any = vectors
        self.context = context

    def rank(self, histories: list[np.ndarray], protocols: Sequence[ProtocolName]) -> Ranking:
        """Dense scores."""
        profiles: Any = decayed_profiles(histories, self.vectors.shape[0], STAR_LENGTH)
        texts_NI = dot_products(profiles @ self.vectors, self.vectors)
        return Ranking(0.5 * texts_NI + 0.5 * (profiles @ self.context.cosines_II).toarray())
