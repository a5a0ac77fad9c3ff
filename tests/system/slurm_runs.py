"""What the SLURM tests launch, and what they look at afterwards."""

import json
import os
import re
import sqlite3
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from patience import until

ROOT = Path(__file__).resolve().parents[2]
SHAPE = ["d-model 16", "d-ff 32", "num-layers 1", "num-heads 2"]
RUN = [
    *" ".join(f"--{model}.{value}" for model in ("recommender", "generator") for value in SHAPE).split(),
    "--ids.groups", "3", "--ids.penalty-max", "0.2", "--ids.tier-tokens", "4", "--ids.max-tiers", "2",
    "--ids.item-text-tokens", "32", "--schedule.validation-users", "8", "--search.beam", "10",
    "--batch-size", "16", "--micro-batch-size", "8", "--generator-lr", "1e-3", "--log-steps", "1",
    "--checkpoint-steps", "100000",
]  # fmt: skip
SHORT = [
    "--schedule.teaching-epochs", "4", "--schedule.warmup-epochs", "30", "--schedule.generator-epochs", "20",
    "--schedule.recommender-epochs", "1",
]  # fmt: skip
LONG = ["--schedule.teaching-epochs", "2", "--schedule.warmup-epochs", "3000", "--schedule.generator-epochs", "1"]
"""Its warm-up outlasts SLURM's look at the clock, which it takes every thirty seconds."""
JOB = ["--nodes", "2", "--minutes", "600"]


def launch(*words):
    """Standard output, standard error and status of `idgenrec launch slurm`."""
    return idgenrec("launch", "slurm", *words)


def idgenrec(*words):
    """Standard output, standard error and status of a command, from a folder without our code."""
    done = subprocess.run(
        [sys.executable, "-P", "-m", "launchers.cli", *map(str, words)],
        env=os.environ | {"PYTHONPATH": str(ROOT)}, cwd="/", capture_output=True, text=True,
    )  # fmt: skip
    return done.stdout, done.stderr, done.returncode


def submitted(*words):
    out, err, status = launch(*words)
    assert status == 0, err
    return re.match(r"job (\d+)(_0)?, \d ranks: ", out)[1]  # type: ignore[index]


def points(run, group):
    """Lines of one group of a run's metrics, as far as there are some."""
    file = run / "metrics.jsonl"
    lines = file.read_text().splitlines() if file.is_file() else []
    return [line for line in map(json.loads, lines) if line["group"] == group and f"{group}/loss" in line]


def log(run):
    """The logs of all jobs of a run."""
    folders = (run / "launch", run.with_name(f"{run.name}.launch"))
    return "".join(path.read_text() for folder in folders for path in sorted(folder.glob("*/logs/*_log.*")))


def job_processes(run):
    """Those of a run's job: its ranks, and srun, which starts and stops them."""
    words = {process: process.info["cmdline"] or [""] for process in psutil.process_iter(["cmdline"])}
    return [process for process, line in words.items() if "submitit.core._submit" in line and str(run) in line[-1]]


def ranks(run, node=None):
    """Processes of a run's ranks, of one node if so wished."""
    processes = [process for process in job_processes(run) if "srun" not in process.info["cmdline"][0]]  # type: ignore[attr-defined]
    return [process for process in processes if node in (None, process.environ().get("SLURMD_NODENAME"))]


def suspended(run):
    """The ranks of a run stand still until SLURM, which wants them to end, sends SIGCONT with its signal."""
    for rank in ranks(run):
        rank.suspend()
    return True


def importing(run):
    """Both ranks of a job have begun to import torch, which takes seconds."""
    maps = [Path(f"/proc/{rank.pid}/maps").read_text() for rank in ranks(run)]
    return len(maps) == 2 and all("libtorch" in libraries for libraries in maps)


def resumed(run, number):
    """Ranks that stand still go on once the signal has come to all of them; it meets them where they stood."""
    fields = lambda rank: Path(f"/proc/{rank.pid}/status").read_text().split()  # noqa: E731
    pending = lambda rank: int(fields(rank)[fields(rank).index("ShdPnd:") + 1], 16)  # noqa: E731
    until(lambda: all(pending(rank) >> (number - 1) & 1 for rank in ranks(run)))
    for rank in ranks(run):
        rank.resume()


def final(run):
    """Hashes of all files of the last checkpoint, and its state without MLflow's name of the run."""
    folder = max((run / "checkpoints").glob("step-*"))
    state = json.loads((folder / "state.json").read_text())
    assert state.pop("run_id") and state["finished"]
    hashes = json.loads((folder / "files.json").read_text())
    del hashes["state.json"]
    return folder.name, hashes, state


def tracked(run):
    """Status and tags of the MLflow runs that have the name of this one."""
    with sqlite3.connect(run.parent / "mlflow.db") as store:
        runs = store.execute("select run_uuid, status from runs where name = ?", (run.name,)).fetchall()
        return [
            (status, dict(store.execute("select key, value from tags where run_uuid = ?", (uuid,))))
            for uuid, status in runs
        ]


@pytest.fixture(scope="session")
def runs(tmp_path_factory):
    """A folder for runs of jobs."""
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="session")
def whole(slurm, runs, shard_folder):
    """A job of two nodes that nobody disturbed: its run folder and its number."""
    planted = ["--environment", "HF_TOKEN=hunter2", "--setup", 'test "$HF_TOKEN" || exit 9']
    job = submitted(*JOB, *planted, "--", "pretrain", "--shards", shard_folder, "--out", runs / "whole", *RUN, *SHORT)
    assert slurm.ends(job) == ["COMPLETED"], log(runs / "whole")
    return runs / "whole", job
