"""The configuration of the ID job: what Algorithm 1 tries, and how many items at a time.

Enters: keyword arguments. Leaves: values that cannot change. Must hold: what changes no ID is named in `FREE`.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from shards.bounds import Bounds, Count, NonNegative, Positive, check

Form = Literal["generated", "titles", "random-words"]


@dataclass(frozen=True)
class IdConfig:
    """Algorithm 1 (section 2.3, implementation details 3.2): k groups, penalty 0.1 to 1.0, tiers of new tokens."""

    form: Form = "generated"
    """Who writes: the generator (the paper), or as controls the first words of an item's text, or words that say
    nothing of it."""
    groups: Count = 5
    """k, the groups of diverse beam search; one candidate ID each."""
    penalty_start: NonNegative = 0.1
    """First diversity penalty lambda."""
    penalty_step: Positive = 0.1
    """Added to lambda for each further attempt, as far as penalty_max."""
    penalty_max: NonNegative = 1.0
    """Last lambda before the next length tier."""
    tier_tokens: Annotated[int, Bounds(least=2)] = 10
    """Width of a length tier: 10 gives 1-9, 10-19, 20-29 new tokens."""
    max_tiers: Count = 3
    """Tiers before numeric suffixes."""
    item_text_tokens: Annotated[int, Bounds(least=2)] = 256
    """Item texts are cut to this many tokens, EOS included."""
    block_size: Count = 32
    """Items decoded at once, a fixed shape; a quarter of it for further attempts."""
    blocks_per_wave: Count = 32
    """Blocks a rank decodes between two reconciliations; a killed job loses at most these. Changes no ID."""
    encoder_cache_gb: NonNegative = 1.0
    """Memory per rank for encoded texts of items that may need another attempt. Changes no ID."""

    FREE: ClassVar[tuple[str, ...]] = ("blocks_per_wave", "encoder_cache_gb")

    def __post_init__(self) -> None:
        check(self)
        if self.penalty_start > self.penalty_max:
            raise ValueError(
                f"penalties go from {self.penalty_start} to {self.penalty_max}; penalty_max must not be below "
                "penalty_start"
            )

    def options(self) -> dict[str, Any]:
        """What an item's candidates depend on."""
        return {name: value for name, value in dataclasses.asdict(self).items() if name not in self.FREE}

    @property
    def num_penalties(self) -> int:
        """Attempts per length tier."""
        return math.ceil(round((self.penalty_max - self.penalty_start) / self.penalty_step, 6)) + 1

    def penalty(self, step: int) -> float:
        """The diversity penalty of an attempt of a length tier; the last one is `penalty_max`, whatever the step."""
        return round(min(self.penalty_start + step * self.penalty_step, self.penalty_max), 6)

    @property
    def num_attempts(self) -> int:
        """Attempts of the generator before numeric suffixes."""
        return self.max_tiers * self.num_penalties

    def tier_range(self, tier: int) -> tuple[int, int]:
        """Fewest and most tokens of an ID in a tier, EOS not counted: 1-9, 10-19, 20-29, ..."""
        return max(1, tier * self.tier_tokens), (tier + 1) * self.tier_tokens - 1
