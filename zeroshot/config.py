"""The configuration of an evaluation."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class EvaluateConfig:
    """What to judge, and where the results go."""

    checkpoint: str
    """Run folder (its best checkpoint) or one checkpoint."""
    shards: str
    """Shard folder with the test sets."""
    out: str
    """Folder for results, ranks, ID books and report."""
    tasks: tuple[str, ...] = ()
    """Names of test sets; none = all of the shard folder."""
    max_users: int | None = None
    """Seeded sample of users per task; none = everyone."""
    beam: int = 20
    """Width of the search, at least 10."""
    seed: int = 0
    """Of the sample and the bootstrap."""
    threads: int = 1
    """CPU threads per rank."""
    tracking_uri: str | None = None
    """MLflow store of the run; none = mlflow.db beside the run folder."""

    def __post_init__(self) -> None:
        if self.beam < 10:
            raise ValueError(f"beam is {self.beam}; HR@10 needs lists of at least 10")
        if self.max_users is not None and self.max_users < 1:
            raise ValueError(f"max_users is {self.max_users}; it must be at least 1")
