"""A small made-up evaluation for the tests of results and report, and users with a pattern to learn."""

from typing import Any

import made_up
import polars as pl
import pytest
import rings


@pytest.fixture(scope="session")
def kinds() -> dict[str, str]:
    return made_up.KINDS


@pytest.fixture(scope="session")
def ranks() -> pl.DataFrame:
    return made_up.made_up_ranks()


@pytest.fixture(scope="session")
def found(ranks: pl.DataFrame) -> dict[str, Any]:
    return made_up.made_up_results(ranks)


@pytest.fixture(scope="session")
def ring_task():
    """`ring_task(num_users, seed)`: users who walk round a ring of forty items."""
    return rings.walkers
