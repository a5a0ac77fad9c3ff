"""What the SLURM tests launch, and what they look at afterwards."""

import json
import os
import re
import sqlite3
import subprocess
import sys
from pathlib import Path

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
JOB = ["--nodes", "2", "--minutes", "10"]


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
    """All that the jobs of a run have said."""
    folders = (run / "launch", run.with_name(f"{run.name}.launch"))
    return "".join(path.read_text() for folder in folders for path in sorted(folder.glob("*/logs/*_log.*")))


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
