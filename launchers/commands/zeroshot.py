"""`idgenrec zeroshot`, `report` and `compare`: judge a run, write its report again, put judged runs side by side.

Enters: words. Leaves: a folder with the report. Must hold: exit status 3 where the audit failed, with the results
written.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from launchers.line.config_file import FromFile
from shards.bounds import Count, Natural, check
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
            ranks, judged = load_ranks(folder / "ranks.parquet"), results.load(folder / "results.json")
        else:
            folder = Path(self.out)
            judged, ranks = results.join(folders)
            folder.mkdir(parents=True, exist_ok=True)
            results.save(judged, folder / "results.json")
            save_ranks(ranks, folder / "ranks.parquet")
        console = Console()
        page = write_report(judged, ranks, folder, console)[0]
        console.result(str(page), file=str(page))


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


def headline_lines(path: Path) -> list[str]:
    """HR@10 under protocol `all`, a row per recommender, a column per data set."""
    results = json.loads(path.read_text())
    tasks = list(results["tasks"])
    rows = [row for row in results["rows"] if row["protocol"] == "all" and row["users"] == "all"]
    names = list(dict.fromkeys(row["recommender"] for row in rows))
    value = {(row["recommender"], row["task"]): row["metrics"]["HR@10"] for row in rows}
    width = max(map(len, ["HR@10, all items", *names])) + 2
    lines = ["", f"{'HR@10, all items':<{width}}" + "".join(f"{task:>14}" for task in tasks)]
    for name in names:
        cells = "".join(f"{value[name, task]:>14.4f}" if (name, task) in value else f"{'-':>14}" for task in tasks)
        lines.append(f"{name:<{width}}{cells}")
    lines.append("")
    for row in results["comparisons"]:
        wanted = (row["recommender"], row["baseline"], row["metric"]) == ("idgenrec", "popularity", "HR@10")
        if wanted and (row["protocol"], row["users"]) == ("all", "all"):
            interval = f"{row['low']:+.4f} to {row['high']:+.4f}"
            lines.append(f"{row['task']}: idgenrec minus popularity {row['difference']:+.4f} (95% interval {interval})")
    return lines


def failed_checks(path: Path) -> list[str]:
    """One line for each check of the audit that failed."""
    failed = [one for one in json.loads(path.read_text())["audit"] if one["verdict"] == "failed"]
    return [f"audit failed: {one['task']}, {one['check']}: {one['words']}" for one in failed]
