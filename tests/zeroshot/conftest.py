"""A small made-up evaluation for the tests of results and report, and users with a pattern to learn."""

from typing import Any

import made_up
import numpy as np
import polars as pl
import pytest

from zeroshot.tasks import Task


@pytest.fixture(scope="session")
def kinds() -> dict[str, str]:
    return made_up.KINDS | dict.fromkeys(made_up.VARIANTS, "variant")


@pytest.fixture(scope="session")
def ranks() -> pl.DataFrame:
    return made_up.made_up_ranks()


@pytest.fixture(scope="session")
def found(ranks: pl.DataFrame) -> dict[str, Any]:
    return made_up.made_up_results(ranks)


def walkers(num_users: int = 150, seed: int = 1) -> Task:
    """Everyone walks round a ring of items, one or two steps at a time, from a start of their own; a few items are
    starts more often than others, so that popularity says something."""
    ring = 40
    draw = np.random.default_rng(seed)
    starts = np.minimum(draw.integers(0, ring, num_users), draw.integers(0, ring, num_users))
    walks = [(start + np.cumsum(draw.choice([1, 1, 1, 2], size=7))) % ring for start in starts]
    return Task(
        name="Ring",
        users=[f"u{number}" for number in range(num_users)],
        texts=[f"title: bead {row // 8} of row {row % 8}" for row in range(ring)],
        items=[f"i{row:02d}" for row in range(ring)],
        histories=[walk[:-1] for walk in walks],
        targets=np.array([walk[-1] for walk in walks]),
        training_histories=[walk[:-2] for walk in walks],
        validation=np.array([walk[-2] for walk in walks]),
    )


@pytest.fixture(scope="session")
def ring_task():
    """`ring_task(num_users, seed)`: users who walk round a ring of forty items."""
    return walkers
