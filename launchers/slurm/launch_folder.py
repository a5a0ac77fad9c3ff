"""The folders of launches, `RUN/launch/NNN`: the code and configuration of a job, its record, its logs.

Enters: what is to be launched. Leaves: a folder that nobody changes afterwards, but for the job's logs. Must hold: two
launches never share a number; nothing secret is written; the code is that of the four packages as it was.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from shards.files.atomic import locked as file_locked
from shards.files.atomic import write_whole

PACKAGES = ("shards", "pretrain", "zeroshot", "launchers")
CODE, JOB, RECORD, LOGS = "code", "job.json", "launch.json", "logs"


@contextmanager
def locked(launches: Path) -> Iterator[None]:
    """Nobody else launches into these folders meanwhile. The lock goes with the process."""
    with ExitStack() as held:
        try:
            held.enter_context(file_locked(launches / ".lock", wait=False))
        except BlockingIOError as error:
            raise ValueError(f"somebody is launching into {launches.parent} now; wait for it") from error
        yield


def numbered(launches: Path) -> list[Path]:
    """The folders of all launches, oldest first."""
    folders = launches.iterdir() if launches.is_dir() else ()
    return sorted((path for path in folders if path.name.isdigit()), key=lambda path: int(path.name))


def next_folder(launches: Path) -> Path:
    """The folder that the next launch gets."""
    taken = numbered(launches)
    return launches / f"{int(taken[-1].name) + 1 if taken else 1:03d}"


def write(folder: Path, job: Mapping[str, Any]) -> str:
    """Make the folder, with the code and the job file in it. Returns the hash of the code."""
    folder.mkdir(parents=True)
    source = Path(__file__).resolve().parents[2]
    for package in PACKAGES:
        shutil.copytree(source / package, folder / CODE / package, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    (folder / LOGS).mkdir()
    (folder / JOB).write_text(json.dumps(job, indent=1) + "\n")
    return code_hash(folder / CODE)


def code_hash(code: Path) -> str:
    """SHA-256 over names and bytes of all files."""
    digest = hashlib.sha256()
    for path in sorted(path for path in code.rglob("*") if path.is_file() and "__pycache__" not in path.parts):
        digest.update(f"{path.relative_to(code)}\0".encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def write_record(folder: Path, record: Mapping[str, Any]) -> None:
    """Say what was launched: whole or not at all."""
    text = json.dumps({"time": round(time.time(), 3), **record}, indent=1) + "\n"
    write_whole(folder / RECORD, text.encode())


def records(launches: Path) -> list[tuple[Path, dict[str, Any]]]:
    """Folders and records of the launches that were submitted, oldest first."""
    return [
        (folder, json.loads((folder / RECORD).read_text()))
        for folder in numbered(launches)
        if (folder / RECORD).is_file()
    ]


def newest(run: Path) -> tuple[Path, dict[str, Any]]:
    """Folder and record of the last launch of a run. Raises ValueError where there is none."""
    for launches in (run / "launch", run.with_name(f"{run.name}.launch")):
        launched = records(launches)
        if launched:
            return launched[-1]
    raise ValueError(f"{run} was not launched on SLURM; give the --out of a launch")


def log_files(record: Mapping[str, Any], rank: int) -> list[Path]:
    """Standard output and standard error of a rank."""
    return [Path(record["logs"]) / f"{record['job']}_{rank}_log.{stream}" for stream in ("out", "err")]


def read_job(folder: Path) -> dict[str, Any]:
    """The job file of a launch."""
    return json.loads((folder / JOB).read_text())
