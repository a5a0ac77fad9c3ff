"""`idgenrec compare`: judged runs side by side."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import tyro

from shards.bounds import Natural, check


@dataclass(frozen=True)
class Compare:
    """Put judged runs side by side, with paired tests on the users they share; seeds of one recipe are pooled too.

    In: folders that `idgenrec zeroshot` wrote, of the same data sets.

    Out: compare.html, compare.md and compare.json, and a table on standard output.

    Example: idgenrec compare runs/seed-0/report runs/seed-1/report --out runs/compared
    """

    reports: Annotated[tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="FOLDER...")]
    """Folders with results.json and ranks.parquet, at least two."""
    out: str
    """Folder for compare.html, compare.md and compare.json."""
    seed: Natural = 0
    """Of the bootstrap and the tests."""

    def __post_init__(self) -> None:
        check(self)

    def run(self) -> None:
        from launchers.line.console import Console
        from zeroshot.compare.comparison import compare, load_runs
        from zeroshot.compare.page import console_lines, write_comparison

        console = Console()
        comparison = compare(load_runs(list(self.reports)), self.seed, console)
        page = write_comparison(comparison, self.out)[1]
        console.results([*console_lines(comparison), ""])
        console.result(f"comparison: {page}", file=str(page))
