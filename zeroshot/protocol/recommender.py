"""What the judge asks of a recommender, what it gets back, and what the judge makes of it.

Enters: histories, each the item rows before the target, oldest first. Leaves: a `Ranking`, either dense (one score
per item of the catalogue) or a list (the best items by falling score); of all users, a `Judged`. What must hold: the
target is never passed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from pretrain.ranking.metrics import PROTOCOLS, ProtocolName, Ranking

__all__ = ["PROTOCOLS", "TOP", "Judged", "ProtocolName", "Ranking", "Rankings", "Recommender", "Resumable"]

Rankings = Ranking | Mapping[ProtocolName, Ranking]
"""One ranking that serves every protocol, or one for each protocol that was asked for."""

TOP = 10
"""Items of a list that are kept for coverage, novelty and the report."""


class Recommender(Protocol):
    """Anything that ranks a catalogue for a block of users."""

    name: str

    def rank(self, histories: list[np.ndarray], protocols: Sequence[ProtocolName]) -> Rankings:
        """Ranks the items for each history (item rows, oldest first), for all the protocols in one call.

        Dense scores serve every protocol: the judge takes the history out. Lists are one `Ranking` for each protocol,
        those of `new` without the items of the history.
        """
        ...


@runtime_checkable
class Resumable(Recommender, Protocol):
    """A recommender so slow that its finished blocks of users are kept until the evaluation ends."""

    def identity(self) -> str:
        """A hash of everything that its lists depend on."""
        ...

    def input_lengths(self, histories: list[np.ndarray]) -> np.ndarray:
        """How much it reads of each history: users of like length are asked together."""
        ...


@dataclass(frozen=True)
class Judged:
    """What one recommender did for N users under one protocol.

    Attributes:
        ranks_N: float64, 1-based, mid-rank for ties, inf for an absent target.
        top_NK: int32 [N, 10], item rows of the best ten, -1 where the list is short; ties of dense scores by row.
        scores_NK: float32 [N, 10], their scores, -inf where the list is short.
        seconds: that the answers took, all ranks together; protocols that are asked for together share them evenly.
    """

    ranks_N: np.ndarray
    top_NK: np.ndarray
    scores_NK: np.ndarray
    seconds: float = 0.0

    def __post_init__(self) -> None:
        shape = (len(self.ranks_N), TOP)
        assert self.top_NK.shape == self.scores_NK.shape == shape, "one rank and one list per user"

    def __len__(self) -> int:
        return len(self.ranks_N)

    @classmethod
    def joined(cls, parts: Sequence[Judged]) -> Judged:
        """Several blocks of users one after the other."""
        return cls(
            ranks_N=np.concatenate([np.zeros(0), *(part.ranks_N for part in parts)]),
            top_NK=np.concatenate([np.zeros((0, TOP), dtype=np.int32), *(part.top_NK for part in parts)]),
            scores_NK=np.concatenate([np.zeros((0, TOP), dtype=np.float32), *(part.scores_NK for part in parts)]),
            seconds=sum(part.seconds for part in parts),
        )

    def take(self, rows: np.ndarray) -> Judged:
        """These users, in this order."""
        return Judged(self.ranks_N[rows], self.top_NK[rows], self.scores_NK[rows], self.seconds)
