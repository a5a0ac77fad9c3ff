"""A small made-up evaluation for the tests of results and report."""

from typing import Any

import made_up
import polars as pl
import pytest


@pytest.fixture(scope="session")
def kinds() -> dict[str, str]:
    return made_up.KINDS | dict.fromkeys(made_up.VARIANTS, "variant")


@pytest.fixture(scope="session")
def ranks() -> pl.DataFrame:
    return made_up.made_up_ranks()


@pytest.fixture(scope="session")
def found(ranks: pl.DataFrame) -> dict[str, Any]:
    return made_up.made_up_results(ranks)
