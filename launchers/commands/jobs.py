"""`idgenrec jobs`, `cancel`, `logs`: the SLURM jobs of run folders, as their launch records name them.

Enters: folders of runs or reports (for ids and shard build, the file or folder they write). Leaves: lines. Must hold:
what a folder says is read while its job writes it; only jobs that this project launched are cancelled.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from launchers.line.console import Console
from launchers.slurm.launch_folder import log_files, newest
from launchers.slurm.state import LIVE, job_state
from shards.bounds import Natural, check

SHOWN_LINES = 3
PAUSE = 0.5


@dataclass(frozen=True)
class Jobs:
    """State, progress and last words of the jobs of runs, and where MLflow has them.

    In: folders that `idgenrec launch slurm` launched into, and what SLURM knows of their jobs.

    Out: lines for each run; nothing is changed.

    Example: idgenrec jobs runs/first runs/second
    """

    folders: Annotated[tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="FOLDER...")] = ()
    """Run folders; none = all below runs/ that were launched."""

    def run(self) -> None:
        chosen = [Path(folder) for folder in self.folders]
        runs = chosen or sorted(folder.parent for folder in Path("runs").glob("*/launch"))
        if not runs:
            raise ValueError("nothing below runs/ was launched on SLURM; name run folders")
        console = Console()
        for run in runs:
            folder, record = newest(run)
            job, state = record["job"], job_state(record["job"])
            line_of_job = (
                f"{run}: job {job} {state or 'is gone from SLURM'}, {record['ranks']} ranks, launch {folder.name}"
            )
            console.result(line_of_job, run=str(run), job=job, state=state, launch=str(folder))
            lines = [*waiting_lines(record, state), *progress_lines(run), *last_words(log_files(record, 0))]
            for line in lines:
                console.result(f"  {line}", run=str(run), job=job)


@dataclass(frozen=True)
class Cancel:
    """Cancel the jobs of runs: they save and do not come back. The same launch goes on from there.

    In: folders whose jobs wait or run; a job that was not launched from here is left alone.

    Out: a line for each job that is cancelled.

    Example: idgenrec cancel runs/first
    """

    folders: Annotated[tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="FOLDER...")]
    """Run folders."""

    def run(self) -> None:
        if not self.folders:
            raise ValueError("name the run folders whose jobs are to be cancelled, as: idgenrec cancel runs/first")
        for run in map(Path, self.folders):
            _, record = newest(run)
            state = job_state(record["job"])
            if state not in LIVE:
                raise ValueError(f"job {record['job']} of {run} is {state or 'gone'}; there is nothing to cancel")
            done = subprocess.run(["scancel", record["job"]], capture_output=True, text=True, timeout=60)
            if done.returncode:
                raise ValueError(f"scancel {record['job']}: {done.stderr.strip()}")
            Console().result(f"{run}: job {record['job']} is cancelled", run=str(run), job=record["job"])


@dataclass(frozen=True)
class Logs:
    """Print what the newest job of a run has said.

    In: a folder that `idgenrec launch slurm` launched into.

    Out: both logs of a rank as they stand, output first; with -f also what is said from now on.

    Example: idgenrec logs -f runs/first
    """

    folder: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="FOLDER")]
    """Run folder."""
    follow: Annotated[bool, tyro.conf.arg(aliases=["-f"])] = False
    """Go on until the job has ended, through every requeue."""
    rank: Natural = 0
    """Whose."""

    def __post_init__(self) -> None:
        check(self)

    def run(self) -> None:
        _, record = newest(Path(self.folder))
        files = log_files(record, self.rank)
        places = dict.fromkeys(files, 0)
        console = Console()
        while True:
            live = self.follow and job_state(record["job"]) in LIVE
            for file in files:
                lines, places[file] = lines_behind(file, places[file], unfinished=not live)
                console.results(lines)
            if not live:
                return
            time.sleep(PAUSE)


def lines_behind(file: Path, place: int, unfinished: bool) -> tuple[list[str], int]:
    """The lines of a file behind a place, and the place behind them. No file: nothing yet. `unfinished`: a last line
    without its end counts too."""
    if not file.is_file():
        return [], place
    with file.open("rb") as source:
        source.seek(place)
        new = source.read()
    if not unfinished:
        new = new[: new.rfind(b"\n") + 1]
    return new.decode(errors="replace").removesuffix("\n").split("\n") if new else [], place + len(new)


def waiting_lines(record: Mapping[str, Any], state: str | None) -> list[str]:
    """Of the jobs that this one waits for, or has waited for in vain: what has become of them, and their last words."""
    lines = []
    for run, job in record["after"].items():
        other = job_state(job) or "gone from SLURM"
        if state == "PENDING" and other != "COMPLETED":
            lines.append(f"waits for job {job} of {run}: {other}")
        elif state == "CANCELLED" and other not in (*LIVE, "COMPLETED"):
            lines.append(f"did not start: job {job} of {run} is {other}")
            last = newest(Path(run))[1]
            lines += [f"  {word}" for word in last_words(log_files(last, 0))[-1:] if last["job"] == job]
    return lines


def progress_lines(run: Path) -> list[str]:
    """How far a run is and where MLflow has it, as its folder says."""
    from pretrain.tracking.uploader import METRICS, STATE, Address

    lines, metrics = [], run / METRICS
    written = metrics.read_bytes().splitlines(keepends=True) if metrics.is_file() else []
    whole = [line for line in written if line.endswith(b"\n")]
    if whole:
        last = json.loads(whole[-1])
        figures = ", ".join(f"{name} {value:.4g}" for name, value in last.items() if "/" in name)
        age = time.time() - last["time"]
        lines.append(f"step {last['step']:,}, {age:,.0f} s ago: {figures}")
    if (run / STATE).is_file():
        address = Address.load(run)
        lines.append(f"MLflow: run {address.run_id or '(not answered yet)'} of {address.experiment} at {address.uri}")
    return lines


def last_words(files: Sequence[Path]) -> list[str]:
    """The last lines of the first file, and of the second where it has some."""
    last_lines = []
    for file in files:
        if file.is_file():
            lines = [line for line in file.read_text(errors="replace").splitlines() if line.strip()]
            last_lines += lines[-SHOWN_LINES:]
    return last_lines
