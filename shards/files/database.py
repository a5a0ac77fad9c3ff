"""DuckDB within given resources, out of core; and Parquet files by their paths, for DuckDB and polars.

Enters a folder and what may be used; leaves a connection that spills into that folder. It must hold that results do not
depend on the resources: every query whose order matters says so. A path is the path of one file, whatever signs are in
it: both libraries take it for a pattern and would read a neighbour's file, and `name=value` in it for a column.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb
import polars as pl


@dataclass(frozen=True)
class Resources:
    """What DuckDB may use: memory in GB, threads."""

    memory_gb: float
    threads: int


def connect(folder: Path, resources: Resources) -> duckdb.DuckDBPyConnection:
    """A database in memory; what does not fit into it, tables included, goes to a file in `folder`."""
    database = duckdb.connect(
        config={
            "memory_limit": f"{resources.memory_gb:.2f}GB",
            "threads": resources.threads,
            "temp_directory": str(folder / "spill"),
            "preserve_insertion_order": False,
        },
    )
    # It would draw over the lines of the build.
    database.execute("SET enable_progress_bar = false")
    return database


def parquet(*paths: Path | str, row_numbers: bool = False) -> str:
    """The SQL of a table over Parquet files; with `file_row_number` where `row_numbers`."""
    literal = [quoted(re.sub(r"([*?[])", r"[\1]", str(path))) for path in paths]
    files = ", ".join(f"'{path}'" for path in literal)
    rows = ", file_row_number=true" if row_numbers else ""
    return f"read_parquet([{files}], hive_partitioning=false{rows})"


def read_parquet(path: Path | str, columns: Sequence[str] | None = None) -> pl.DataFrame:
    """The table of one file."""
    return pl.read_parquet(path, columns=None if columns is None else [*columns], glob=False, hive_partitioning=False)


def scan_parquet(path: Path | str) -> pl.LazyFrame:
    """The same, not read yet."""
    return pl.scan_parquet(path, glob=False, hive_partitioning=False)


def quoted(path: Path | str) -> str:
    """A path inside single quotes of SQL."""
    return str(path).replace("'", "''")
