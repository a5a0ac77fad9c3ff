"""Pipelines and arrays on a real SLURM: shards, then a run, then its IDs and the judge on every unseen set."""

import contextlib
import json

import pytest
from mlflow_server import Server
from slurm_cluster import call
from slurm_runs import JOB, RUN, idgenrec, launch, log, submitted

QUICK = [
    "--schedule.teaching-epochs", "1", "--schedule.warmup-epochs", "2", "--schedule.generator-epochs", "1",
    "--schedule.recommender-epochs", "1",
]  # fmt: skip
SECRET = "hunter2"
PLANTED = ["--environment", f"HF_TOKEN={SECRET}", "--setup", 'test "$HF_TOKEN" || exit 9']
ONE = ["--nodes", "1", "--minutes", "600"]


@pytest.fixture
def stages(shard_folder, tmp_path):
    """Words of the stages, by name; nothing of what they write is there."""
    raw, shards, run = shard_folder.parent / "raw", tmp_path / "shards", tmp_path / "run"
    build = ["--train", raw / "Garden", raw / "Kitchen", "--test", raw / "Gifts", raw / "Places"]
    return {
        "shard": ["shard", "build", *build, "--out", shards, "--vocab-size", "420", "--lanes", "4"],
        "pretrain": ["pretrain", "--shards", shards, "--out", run, *RUN, *QUICK],
        "ids": ["ids", "--generator", run, "--shards", shards, "--catalogue", "Gifts", "--out", tmp_path / "ids.arrow"],
        "judge": ["zeroshot", "--checkpoint", run, "--shards", shards, "--tasks", "{each}", "--out",
                  tmp_path / "report-{each}", "--search.beam", "10", "--baselines", "popularity", "random"],
    }  # fmt: skip


@pytest.fixture
def tracking_uri(tmp_path):
    """A server's, with a password, which it does not ask for."""
    with Server(tmp_path, tmp_path / "mlflow.db") as server:
        yield f"http://me:{SECRET}@127.0.0.1:{server.port}"


@contextlib.contextmanager
def nothing_starts():
    """Jobs are taken, and wait until all have been looked at, however long that takes."""
    call("scontrol", "update", "PartitionName=main", "State=DOWN")
    try:
        yield
    finally:
        call("scontrol", "update", "PartitionName=main", "State=UP")


def test_a_pipeline_from_raw_data_to_reports_keeps_its_secrets(slurm, stages, tracking_uri, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", SECRET)
    run, books = tmp_path / "run", tmp_path / "ids.arrow"
    with nothing_starts():
        jobs = [submitted(*ONE, *PLANTED, "--", *stages["shard"])]
        after = ["--after", tmp_path / "shards"]
        jobs.append(submitted(*JOB, *PLANTED, *after, "--", *stages["pretrain"], "--tracking-uri", tracking_uri))
        jobs.append(submitted(*JOB, *PLANTED, "--after", run, "--", *stages["ids"]))
        out, err, status = launch(
            *ONE, *PLANTED, "--after", run, books, "--each", "Gifts", "Places", "--", *stages["judge"],
            "--tracking-uri", tracking_uri,
        )  # fmt: skip
        assert status == 0, err
        array = out.splitlines()[0].split()[1].rstrip(",").removesuffix("_0")
        assert f"job {array}_1, 1 ranks: {tmp_path}/report-Places/launch/001" in out
        assert f"waits for job {jobs[1]} of {run}" in out and f"waits for job {jobs[2]} of {books}" in out
        shown = idgenrec("jobs", run, tmp_path / "report-Places")[0]
        assert f"waits for job {jobs[0]} of {tmp_path}/shards: " in shown
        assert f"waits for job {jobs[1]} of {run}: " in shown
    names = [*jobs, f"{array}_0", f"{array}_1"]
    assert slurm.ends(*names) == ["COMPLETED"] * 5, log(run)
    for name in ("Gifts", "Places"):
        results = json.loads((tmp_path / f"report-{name}" / "results.json").read_text())
        assert list(results["tasks"]) == [name]
        assert (tmp_path / f"report-{name}" / "report.html").is_file()
    assert books.is_file() and "2 ranks on 2 nodes" in log(books)
    assert "Places, idgenrec: " in idgenrec("logs", tmp_path / "report-Places")[0]
    assert "lines are not in MLflow" not in log(run) and not (run / "refused.jsonl").exists()
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) > 500
    assert [path for path in files if SECRET.encode() in path.read_bytes()] == []


def test_the_doctor_asks_sbatch(slurm, tmp_path):
    out, _, _ = idgenrec("doctor", "--run", tmp_path / "runs", "--slurm.nodes", "2")
    assert "OK      sbatch takes the job: Job " in out and "to start at" in out
    out, _, status = idgenrec("doctor", "--run", tmp_path / "runs", "--slurm.nodes", "3")
    assert status == 1 and "ERROR   sbatch refuses the job: " in out, out


def test_a_failed_stage_stops_what_waits_for_it_and_says_why(slurm, stages, tmp_path):
    shards, run = tmp_path / "shards", tmp_path / "run"
    with nothing_starts():
        first = submitted(*ONE, "--setup", "echo the disk is away >&2; exit 7", "--", *stages["shard"])
        second = submitted(*JOB, "--after", shards, "--", *stages["pretrain"])
        third = submitted(*ONE, "--after", run, "--each", "Gifts", "Places", "--", *stages["judge"])
    assert slurm.ends(first, second, f"{third}_1") == ["FAILED", "CANCELLED", "CANCELLED"]
    out, _, _ = idgenrec("jobs", run, tmp_path / "report-Places")
    assert f"did not start: job {first} of {shards} is FAILED\n    the disk is away\n" in out
    assert f"did not start: job {second} of {run} is CANCELLED" in out
    out, err, status = launch(*JOB, "--after", shards, "--", *stages["pretrain"])
    assert status == 2 and f"job {first} of {shards} is FAILED: what waits for it would never start" in err
    assert not (run / "checkpoints").exists() and not shards.exists()


def test_a_cancelled_stage_takes_the_rest_with_it_and_the_same_launches_are_taken_again(slurm, stages, tmp_path):
    shards, run = tmp_path / "shards", tmp_path / "run"
    with nothing_starts():
        first = submitted(*ONE, "--", *stages["shard"])
        second = submitted(*JOB, "--after", shards, "--", *stages["pretrain"])
        assert idgenrec("cancel", shards) == (f"{shards}: job {first} is cancelled\n", "", 0)
        assert slurm.ends(first, second) == ["CANCELLED", "CANCELLED"]
        third = submitted(*ONE, "--", *stages["shard"])
        fourth = submitted(*JOB, "--after", shards, "--", *stages["pretrain"])
        shown = idgenrec("jobs", run)[0]
        assert "launch 002" in shown and f"waits for job {third} of {shards}: " in shown
        call("scancel", third, fourth)
        assert slurm.ends(third, fourth) == ["CANCELLED", "CANCELLED"]
