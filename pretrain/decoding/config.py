"""The configuration of a search along the trie, and what its scores mean.

Enters: keyword arguments. Leaves: values that cannot change. Must hold: light, so that a command line can show it.
"""

from __future__ import annotations

from dataclasses import dataclass

from shards.bounds import Count, Number, check


@dataclass(frozen=True)
class SearchConfig:
    """Beam search over the trie of IDs (section 2.4)."""

    beam: Count = 20
    """Hypotheses kept per user."""
    list_length: Count | None = None
    """Items of a list; none = as many as the beam is wide. A shorter list is found sooner."""
    length_penalty: Number = 0.0
    """A score is the sum of log-probabilities over length ** this (0 = the sum, equation 3)."""
    prior_weight: Number = 0.0
    """Share of an ID's log-probability without a history that is taken off its score (0 = equation 3): what is probable
    after any history no longer crowds the lists."""

    def __post_init__(self) -> None:
        check(self)

    @property
    def is_probability(self) -> bool:
        """Whether a score is the logarithm of a probability (equation 3)."""
        return not self.length_penalty and not self.prior_weight

    @property
    def length(self) -> int:
        """Items of a list."""
        return self.beam if self.list_length is None else self.list_length
