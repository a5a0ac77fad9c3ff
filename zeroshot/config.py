"""The configuration of an evaluation."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class EvaluateConfig:
    """What to judge.

    `checkpoint`: a run folder (its best checkpoint) or one checkpoint. `tasks`: names of test sets of the shard
    folder, none =
    all of them. `max_users`: a seeded sample of users per task, None = everyone. `beam`: width of the search, at least
    10.
    """

    checkpoint: str
    shards: str
    out: str
    tasks: tuple[str, ...] = ()
    max_users: int | None = None
    beam: int = 20
    seed: int = 0
    threads: int = 1
    tracking_uri: str | None = None

    def __post_init__(self) -> None:
        if self.beam < 10:
            raise ValueError(f"beam is {self.beam}; HR@10 needs lists of at least 10")
        if self.max_users is not None and self.max_users < 1:
            raise ValueError(f"max_users is {self.max_users}; it must be at least 1")
