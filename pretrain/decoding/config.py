"""The configuration of a search along the trie, and what its scores mean.

Enters: keyword arguments. Leaves: values that cannot change. Must hold: light, so that a command line can show it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class SearchConfig:
    """Beam search over the trie of IDs (section 2.4)."""

    beam: int = 20
    """Hypotheses kept per user."""
    list_length: int | None = None
    """Items of a list; none = as many as the beam is wide. A shorter list is found sooner."""
    length_penalty: float = 0.0
    """A score is the sum of log-probabilities over length ** this (0 = the sum, equation 3)."""
    prior_weight: float = 0.0
    """Share of an ID's log-probability without a history that is taken off its score (0 = equation 3): what is probable
    after any history no longer crowds the lists."""

    def check(self) -> None:
        """Raise ValueError for a beam or list without items. Owners call it when built, searches when they start."""
        for name in ("beam", "list_length"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}; it must be at least 1")
        for name in ("length_penalty", "prior_weight"):
            if not math.isfinite(getattr(self, name)):
                raise ValueError(f"{name} is {getattr(self, name)}; it must be a number")

    @property
    def is_probability(self) -> bool:
        """Whether a score is the logarithm of a probability (equation 3)."""
        return not self.length_penalty and not self.prior_weight

    @property
    def length(self) -> int:
        """Items of a list."""
        return self.beam if self.list_length is None else self.list_length
