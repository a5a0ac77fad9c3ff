"""The database: DuckDB within given means, out of core.

Enters a folder and what may be used; leaves a connection that spills into that folder. It must hold that results do not
depend on the means: every query whose order matters says so.
"""

from dataclasses import dataclass
from pathlib import Path

import duckdb


@dataclass(frozen=True)
class Means:
    """What DuckDB may use: memory in GB, threads."""

    memory_gb: float
    threads: int


def connect(folder: Path, means: Means) -> duckdb.DuckDBPyConnection:
    """A database in memory; what does not fit into it, tables included, goes to a file in `folder`."""
    database = duckdb.connect(
        config={
            "memory_limit": f"{means.memory_gb:.2f}GB",
            "threads": means.threads,
            "temp_directory": str(folder / "spill"),
            "preserve_insertion_order": False,
        },
    )
    # It would draw over the lines of the build.
    database.execute("SET enable_progress_bar = false")
    return database


def parquet(*paths: Path | str, row_numbers: bool = False) -> str:
    """The SQL of a table over Parquet files; with `file_row_number` where `row_numbers`."""
    files = ", ".join(f"'{quoted(path)}'" for path in paths)
    return f"read_parquet([{files}]{', file_row_number=true' if row_numbers else ''})"


def quoted(path: Path | str) -> str:
    """A path inside single quotes of SQL."""
    return str(path).replace("'", "''")
