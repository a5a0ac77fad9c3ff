"""`idgenrec launch slurm` against a real SLURM of two nodes: a job that is taken away comes back and ends the same."""

import json
import math
import os
import re
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from slurm_cluster import call

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
    """Standard output, standard error and status of `idgenrec launch slurm`, from a folder without our code."""
    done = subprocess.run(
        [sys.executable, "-P", "-m", "launchers.cli", "launch", "slurm", *map(str, words)],
        env=os.environ | {"PYTHONPATH": str(ROOT)}, cwd="/", capture_output=True, text=True,
    )  # fmt: skip
    return done.stdout, done.stderr, done.returncode


def submitted(*words):
    out, err, status = launch(*words)
    assert status == 0, err
    return re.match(r"job (\d+), 2 ranks: ", out)[1]  # type: ignore[index]


def points(run, group):
    """Lines of one group of a run's metrics, as far as there are some."""
    file = run / "metrics.jsonl"
    lines = file.read_text().splitlines() if file.is_file() else []
    return [line for line in map(json.loads, lines) if line["group"] == group and f"{group}/loss" in line]


def log(run):
    return "".join(path.read_text() for path in sorted((run / "launch").glob("*/logs/*_log.*")))


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


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def whole(slurm, runs, shard_folder):
    """A job of two nodes that nobody disturbed: its run folder and its number."""
    planted = ["--environment", "HF_TOKEN=hunter2", "--setup", 'test "$HF_TOKEN" || exit 9']
    job = submitted(*JOB, *planted, "--", "pretrain", "--shards", shard_folder, "--out", runs / "whole", *RUN, *SHORT)
    slurm.wait(lambda: slurm.state(job) not in ("PENDING", "RUNNING", "COMPLETING"), 150)
    assert slurm.state(job) == "COMPLETED", log(runs / "whole")
    return runs / "whole", job


def test_two_nodes_train_one_run_from_the_snapshot(whole):
    run, job = whole
    said = log(run)
    assert f"job {job}, part 1: 2 ranks on 2 nodes, code {run}/launch/001/code" in said
    ((status, tags),) = tracked(run)
    assert (status, tags["slurm.job_id"], tags["idgenrec.world_size"]) == ("FINISHED", job, "2")
    record = json.loads((run / "launch" / "001" / "launch.json").read_text())
    assert record["job"] == job and record["ranks"] == 2
    assert final(run)[2]["world_size"] == 2
    files = [path for path in run.rglob("*") if path.is_file()]
    assert len(files) > 100 and not [path for path in files if b"hunter2" in path.read_bytes()]


def test_preempted_and_requeued_it_ends_bit_identical_in_one_mlflow_run(slurm, whole, runs, shard_folder):
    run = runs / "taken-away"
    job = submitted(*JOB, "--", "pretrain", "--shards", shard_folder, "--out", run, *RUN, *SHORT)
    slurm.wait(lambda: len(points(run, "recommender")) > 10, 120, 0.05)
    other = call("sbatch", "-p", "high", "-N2", "--exclusive", "-o", "/dev/null", "--wrap", "sleep 1").split()[-1]
    slurm.wait(lambda: slurm.state(job) == "PENDING", 40)
    slurm.wait(lambda: slurm.state(other) == "COMPLETED", 40)
    done = len(points(run, "recommender"))
    assert 10 < done < len(points(whole[0], "recommender")), "in the middle of the phase"
    slurm.hurry(job)
    slurm.wait(lambda: len(points(run, "generator")) > 10, 120, 0.05)
    call("scontrol", "requeue", job)  # by the administrator: SLURM sends SIGTERM, and kills after KillWait
    slurm.wait(lambda: slurm.state(job) == "PENDING", 40)
    assert 10 < len(points(run, "generator")) < len(points(whole[0], "generator"))
    slurm.hurry(job)
    slurm.wait(lambda: slurm.state(job) not in ("PENDING", "RUNNING", "COMPLETING"), 150)
    assert slurm.state(job) == "COMPLETED" and slurm.fact(job, "Restarts") == "2", log(run)
    said = log(run)
    assert "stopped by SIGTERM" in said and f"job {job} goes back to the queue" in said
    assert "part 3: 2 ranks on 2 nodes" in said and "Traceback" not in said
    assert final(run) == final(whole[0])
    ((status, tags),) = tracked(run)
    assert (status, tags["idgenrec.restarts"], tags["slurm.job_id"]) == ("FINISHED", "2", job)
    for group in ("teaching", "recommender", "generator"):
        steps = [line["step"] for line in points(run, group)]
        assert steps == [line["step"] for line in points(whole[0], group)], "no step is lost, none is done twice"


def test_at_its_time_limit_it_saves_and_comes_back_and_cancelled_it_stays_away(slurm, runs, shard_folder):
    run = runs / "long"
    words = ["pretrain", "--shards", shard_folder, "--out", run, *RUN, *LONG]
    job = submitted(*JOB, "--signal-seconds", "60", "--", *words)
    slurm.wait(lambda: "part 1: 2 ranks" in log(run), 60, 0.05)
    call("scancel", "--signal=USR2", job)  # while the ranks import: nobody can agree on anything yet
    slurm.wait(lambda: slurm.state(job) == "PENDING", 60)
    assert "what was written is kept; job" in log(run) and not points(run, "recommender")
    slurm.hurry(job)
    slurm.wait(lambda: points(run, "recommender"), 120)
    for changed, how in ([], "the same as this"), (["--threads", "2"], "with config.threads 1, not 2"):
        out, err, status = launch(*JOB, "--", *words, *changed)
        assert (out, status) == ("", 2) and err.startswith(f"error: job {job} (RUNNING) has {run}, {how}: cancel it")
    # SLURM looks at the clock every 30 s, and sends the signal up to 30 s too early rather than too late.
    minutes, seconds = map(int, slurm.fact(job, "RunTime").split(":")[1:])
    limit = max(2, math.ceil((60 * minutes + seconds + 45) / 60))
    call("scontrol", "update", f"JobId={job}", f"TimeLimit={limit}")
    slurm.wait(lambda: slurm.state(job) == "PENDING", 100)
    said, done = log(run), len(points(run, "recommender"))
    assert "stopped by SIGUSR2; " in said and said.count(f"job {job} goes back to the queue") == 2
    assert "Traceback" not in said
    saved = max(path.name for path in (run / "checkpoints").glob("step-*"))
    call("scontrol", "update", f"JobId={job}", "TimeLimit=10")
    slurm.hurry(job)
    slurm.wait(lambda: len(points(run, "recommender")) > done + 5, 120)
    steps = [line["step"] for line in points(run, "recommender")]
    assert steps == list(range(steps[0], steps[0] + len(steps))) and saved == f"step-{steps[done - 1]:07d}"
    call("scancel", job)
    slurm.wait(lambda: slurm.state(job) == "CANCELLED", 40)
    assert f"job {job} is COMPLETING: not queued again by us" in log(run) and "Traceback" not in log(run)
    assert [status for status, _ in tracked(run)] == ["KILLED"]
    out, err, status = launch(*JOB, "--", *words, "--seed", "3")
    assert status == 2 and "seed 0, not 3: give another --out" in err, "the run goes on as it was, or not at all"
