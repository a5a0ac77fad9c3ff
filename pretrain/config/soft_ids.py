"""Options of the soft path from the generator to the recommender's loss (section 2.5.2).

Must hold: the defaults are the paper's formula, `softmax(logits) E`.
"""

from __future__ import annotations

from dataclasses import dataclass

from shards.bounds import Count, Positive, check


@dataclass(frozen=True)
class SoftIdConfig:
    """How the generator's logits become embeddings of the recommender."""

    temperature: Positive = 1.0
    """Divides the logits; below 1 the soft tokens are nearer to single tokens."""
    straight_through: bool = False
    """The loss sees the assigned ID's own embeddings, the gradient is that of the soft ones."""
    top_k: Count | None = None
    """Softmax over the k largest logits alone; none = all. Cheaper and biased (docs/benchmarks/soft-ids.md)."""

    def __post_init__(self) -> None:
        check(self, lambda name: f"soft_ids.{name}")
