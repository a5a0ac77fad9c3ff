"""Options of the soft path from the generator to the recommender's loss (section 2.5.2).

Must hold: the defaults are the paper's formula, `softmax(logits) E`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class SoftIdConfig:
    """How the generator's logits become embeddings of the recommender."""

    temperature: float = 1.0
    """Divides the logits; below 1 the soft tokens are nearer to single tokens."""
    straight_through: bool = False
    """The loss sees the assigned ID's own embeddings, the gradient is that of the soft ones."""
    top_k: int | None = None
    """Softmax over the k largest logits alone; none = all. Cheaper and biased (docs/benchmarks/soft-ids.md)."""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.temperature) and self.temperature > 0):
            raise ValueError(f"soft_ids.temperature is {self.temperature}; it must be above 0")
        if self.top_k is not None and self.top_k < 1:
            raise ValueError(f"soft_ids.top_k is {self.top_k}; it must be at least 1, or none for the whole vocabulary")
