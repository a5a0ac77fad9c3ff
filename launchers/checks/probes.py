"""What the doctor looks at: this machine, the folders it is given, a run that goes on or has ended, MLflow.

Enters: paths and addresses. Leaves: facts for `doctor.py` to judge. Must hold: nothing is left behind.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from launchers.checks.doctor import Finding

TRIAL_BYTES = 64 << 20
ROUND_TRIP_SECONDS = 180.0
HEALTH_SECONDS = 10.0
NAME = "idgenrec"


def requirements() -> tuple[str, list[str]]:
    """(Python, libraries) that the project wants: of the pyproject.toml beside this code, else as it was installed."""
    file = Path(__file__).parents[2] / "pyproject.toml"
    if file.is_file():
        project = tomllib.loads(file.read_text())["project"]
        return project["requires-python"], project["dependencies"]
    wanted = importlib.metadata.requires(NAME) or []
    python = importlib.metadata.metadata(NAME)["Requires-Python"]
    return python, [text for text in wanted if "extra ==" not in text]


def installed() -> dict[str, str]:
    """Versions of all libraries, by the name that package indexes use."""
    from packaging.utils import canonicalize_name

    return {
        canonicalize_name(package.metadata["Name"]): package.version for package in importlib.metadata.distributions()
    }


def gpu_names() -> list[str]:
    """GPUs that torch sees."""
    import torch

    return [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]


def round_trip(processes: int, folder: Path) -> tuple[dict[str, Any] | None, str]:
    """The answer of so many ranks on this machine (`round_trip.py`), or None and what was said instead."""
    from pretrain.runtime.rendezvous import HeldPort, environment

    words = [sys.executable, "-m", "launchers.checks.round_trip", str(folder)]
    with tempfile.TemporaryFile("w+") as errors, HeldPort() as port:
        ranks = []
        for rank in range(processes):
            variables = environment(rank, processes, port.number)
            ranks.append(subprocess.Popen(words, env=variables, stdout=subprocess.PIPE, stderr=errors, text=True))
        try:
            answer = ranks[0].communicate(timeout=ROUND_TRIP_SECONDS)[0]
        except subprocess.TimeoutExpired:
            return None, f"no answer in {ROUND_TRIP_SECONDS:.0f} s"
        finally:
            for rank in ranks:
                rank.kill()
                rank.wait()
        errors.seek(0)
        error_lines = errors.read().strip().splitlines()
    lines = [line for line in answer.splitlines() if line.startswith("{")]
    return (json.loads(lines[-1]), "") if lines else (None, error_lines[-1] if error_lines else "nothing was said")


def disk_rate(folder: Path) -> float:
    """Bytes a second that the disk of a folder takes, written through to it."""
    block = os.urandom(1 << 20)
    with tempfile.TemporaryFile(dir=folder) as file:
        started = time.perf_counter()
        for _ in range(TRIAL_BYTES // len(block)):
            file.write(block)
        file.flush()
        os.fsync(file.fileno())
        return TRIAL_BYTES / (time.perf_counter() - started)


def open_files() -> int:
    """The soft limit of open files of a process."""
    import resource

    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def extension_locks() -> dict[str, float]:
    """Lock files of torch's extensions, with their age in seconds."""
    root = Path(os.environ.get("TORCH_EXTENSIONS_DIR") or Path.home() / ".cache" / "torch_extensions")
    return {str(path): time.time() - path.stat().st_mtime for path in sorted(root.glob("**/lock"))}


def longest_step(run: Path) -> float | None:
    """Seconds of the longest step between two log lines of a phase; None where a run has not logged two."""
    from pretrain.tracking.tracker import read_lines

    longest, before = None, {}
    for line in read_lines(run / "metrics.jsonl"):
        if f"{line['group']}/loss" not in line:
            before = before if line["group"] == "system" else {}
            continue
        if before.get("group") == line["group"] and line["step"] > before["step"]:
            seconds = (line["time"] - before["time"]) / (line["step"] - before["step"])
            longest = max(longest or 0.0, seconds)
        before = line
    return longest


def save_seconds(run: Path, rate: float) -> float | None:
    """Seconds that the largest checkpoint takes: from its first to its last file, or its bytes at the disk's rate where
    that is longer; None where there is none."""
    from pretrain.training import checkpoint

    seconds = []
    for folder in checkpoint.checkpoints_of(run):
        files = [path.stat() for path in folder.rglob("*") if path.is_file()]
        times = [stat.st_mtime for stat in files]
        seconds.append(max(max(times) - min(times), sum(stat.st_size for stat in files) / rate))
    return max(seconds, default=None)


def saved_config(run: Path) -> Mapping[str, Any] | None:
    """What the newest checkpoint of a run says of its configuration."""
    from pretrain.training import checkpoint

    folders = checkpoint.checkpoints_of(run)
    return checkpoint.read_state(folders[-1])["config"] if folders else None


def mlflow(uri: str) -> Finding:
    """Whether an MLflow store answers."""
    from pretrain.config.tracking_uri import check_uri, sqlite_file
    from pretrain.runtime.redaction import redacted

    shown, file = redacted(uri), sqlite_file(uri)
    try:
        check_uri(uri)
    except ValueError as error:
        return Finding("ERROR", str(error), "a run with this --tracking-uri would be refused")
    if file is not None:
        there = file if file.exists() else _first_there(file)
        if os.access(there, os.W_OK):
            return Finding("OK", f"{shown} can be written")
        return Finding("ERROR", f"{there} cannot be written", "give another --tracking-uri")
    if not uri.startswith(("http://", "https://")):
        return Finding("WARNING", f"{shown} is not a server that can be asked", "look with `idgenrec track sync`")
    import requests

    try:
        answer = requests.get(f"{uri.rstrip('/')}/health", timeout=HEALTH_SECONDS)
    except requests.RequestException as error:
        problem = type(error).__name__
    else:
        if answer.status_code == 200:
            return Finding("OK", f"{shown} answers in {answer.elapsed.total_seconds():.2f} s")
        problem = f"status {answer.status_code}"
    cure = "start it; a run would go on without it and keep its lines for `idgenrec track sync`"
    return Finding("WARNING", f"{shown} does not answer ({problem})", cure)


def _first_there(path: Path) -> Path:
    """The nearest folder above that exists."""
    path = path.absolute()
    while not path.exists():
        path = path.parent
    return path
