"""The configuration of an evaluation."""

from __future__ import annotations

from dataclasses import dataclass, field

from pretrain.config import SearchConfig


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
    search: SearchConfig = field(default_factory=SearchConfig)
    candidates: str | None = None
    """Text file of item ids, one per line: the model and every baseline rank these alone; none = all items."""
    sweep_users: int = 0
    """Seeded sample of users for other beams (10, 20, 50) and templates (1 to 10); 0 = no sweeps, 500 is plenty."""
    seed: int = 0
    """Of the samples and the bootstrap."""
    threads: int = 1
    """CPU threads per rank."""
    tracking_uri: str | None = None
    """MLflow store of the run; none = mlflow.db beside the run folder."""

    def __post_init__(self) -> None:
        self.search.check()
        if self.search.length < 10:
            raise ValueError(f"lists of {self.search.length} items (search.beam, search.list_length); HR@10 needs 10")
        if self.sweep_users < 0:
            raise ValueError(f"sweep_users is {self.sweep_users}; give a number of users, or 0 for no sweeps")
        if self.max_users is not None and self.max_users < 1:
            raise ValueError(f"max_users is {self.max_users}; it must be at least 1")
