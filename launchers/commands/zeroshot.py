"""`idgenrec zeroshot` and `idgenrec report`: judge a run, and write its report again.

Enters: words. Leaves: a folder with the report. Must hold: exit status 3 where the audit failed, with the results
written.
"""

from __future__ import annotations

import dataclasses
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from launchers.line.config_file import FromFile
from shards.bounds import Count, check
from zeroshot.protocol.config import AUDIT_FAILED, EvaluateConfig


@dataclass(frozen=True)
class Zeroshot(FromFile):
    """Judge a run on the unseen data sets of a shard folder, beside the training-free baselines; writes the report.

    In: a run or a checkpoint, and a shard folder with test sets.

    Out: a folder with report.html, report.md, results.json, ranks.parquet and the ID book of each data set. An
    interrupted evaluation is taken up again by the same command.

    Exit status 3: the audit found that these numbers cannot be believed; the results are written all the same.

    Example: idgenrec zeroshot --checkpoint runs/first --shards shards --out runs/first-report
    """

    config: Annotated[EvaluateConfig, tyro.conf.arg(name="")]
    processes: Count = 1
    """Local processes (ranks)."""

    def __post_init__(self) -> None:
        check(self)

    def run(self) -> None:
        from launchers.jobs.local import RankFailed, launch
        from launchers.jobs.summary import failed_checks, headline_lines
        from launchers.line.console import Console

        status = 0
        try:
            launch("zeroshot", dataclasses.asdict(self.config), self.processes)
        except RankFailed as error:
            if error.status != AUDIT_FAILED:
                raise
            status = error.status
        results = Path(self.config.out) / "results.json"
        console = Console()
        console.results(headline_lines(results))
        page = Path(self.config.out) / "report.html"
        console.result(f"report: {page}", file=str(page))
        for line in failed_checks(results):
            print(line, file=sys.stderr)
        if status:
            sys.exit(status)


@dataclass(frozen=True)
class Report:
    """Write report.html and report.md again from the results.json and ranks.parquet of a folder, or one report of
    several folders: the data sets that the jobs of an array have judged.

    In: folders that `idgenrec zeroshot` wrote; several are of one checkpoint, judged alike on different data sets.

    Out: report.html and report.md in that folder, or with --out all four files of the joined report; no model is
    needed.

    Example: idgenrec report --results runs/first-report-Beauty runs/first-report-Toys --out runs/first-report
    """

    results: tuple[str, ...]
    """Folder with results.json and ranks.parquet; several are joined."""
    out: str | None = None
    """Folder of the joined report; needed for several, refused for one."""

    def __post_init__(self) -> None:
        if not self.results:
            raise ValueError("--results names no folder; give those that `idgenrec zeroshot` wrote")
        if (len(self.results) > 1) != (self.out is not None):
            raise ValueError("--out is the folder of a report joined from several: give both, or one folder alone")
        if self.out is not None and Path(self.out).resolve() in [Path(folder).resolve() for folder in self.results]:
            raise ValueError(f"--out {self.out} is one of the reports to join; give the joined one a folder of its own")

    def run(self) -> None:
        from launchers.line.console import Console
        from zeroshot.judge.ranks import load_ranks, save_ranks
        from zeroshot.report import results
        from zeroshot.report.page import write_report

        folders = [Path(folder) for folder in self.results]
        if self.out is None:
            [folder] = folders
            ranks, found = load_ranks(folder / "ranks.parquet"), results.load(folder / "results.json")
        else:
            folder = Path(self.out)
            found, ranks = results.join(folders)
            folder.mkdir(parents=True, exist_ok=True)
            results.save(found, folder / "results.json")
            save_ranks(ranks, folder / "ranks.parquet")
        console = Console()
        page = write_report(found, ranks, folder, console)[0]
        console.result(str(page), file=str(page))
