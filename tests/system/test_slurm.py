"""`idgenrec launch slurm` against a real SLURM of two nodes: a job that is taken away comes back and ends the same.

A lost node, a save that is cut in two, time limits and random moments: tests/soak.
"""

import json
import signal

from slurm_cluster import call
from slurm_runs import (
    JOB,
    LONG,
    RUN,
    SHORT,
    final,
    importing,
    launch,
    log,
    points,
    resumed,
    submitted,
    suspended,
    tracked,
)


def test_two_nodes_train_one_run_from_the_snapshot(whole):
    run, job = whole
    assert f"job {job}, part 1: 2 ranks on 2 nodes, code {run}/launch/001/code" in log(run)
    ((status, tags),) = tracked(run)
    assert (status, tags["slurm.job_id"], tags["idgenrec.world_size"]) == ("FINISHED", job, "2")
    record = json.loads((run / "launch" / "001" / "launch.json").read_text())
    assert record["job"] == job and record["ranks"] == 2
    assert final(run)[2]["world_size"] == 2
    files = [path for path in run.rglob("*") if path.is_file()]
    assert len(files) > 100 and not [path for path in files if b"hunter2" in path.read_bytes()]


def test_signalled_preempted_and_requeued_it_ends_bit_identical_in_one_mlflow_run(slurm, whole, runs, shard_folder):
    run = runs / "taken-away"
    job = submitted(*JOB, "--", "pretrain", "--shards", shard_folder, "--out", run, *RUN, *SHORT)
    back, stays = f"job {job} goes back to the queue", f"job {job} is COMPLETING: not queued again by us"

    slurm.wait(lambda: importing(run) and suspended(run), job)  # nobody can agree on anything yet
    call("scancel", "--signal=USR2", job)
    resumed(run, signal.SIGUSR2)
    slurm.queued_again(job, lambda: f"stopped by SIGUSR2; what was written is kept; {back}" in log(run))
    assert not points(run, "recommender")

    slurm.hurry(job)
    slurm.wait(lambda: len(points(run, "recommender")) > 10 and suspended(run), job)
    before = log(run).count(back)
    call("sbatch", "-p", "high", "-N2", "--exclusive", "-o", "/dev/null", "--wrap", "true")
    slurm.queued_again(job, lambda: log(run).count(back) > before)
    assert "stopped by SIGTERM" in log(run)
    assert 10 < len(points(run, "recommender")) < len(points(whole[0], "recommender")), "in the middle of the phase"

    slurm.hurry(job)
    slurm.wait(lambda: len(points(run, "generator")) > 10 and suspended(run), job)
    call("scontrol", "requeue", job)  # by the administrator: SLURM sends SIGTERM, and kills after KillWait
    slurm.queued_again(job, lambda: stays in log(run))
    assert 10 < len(points(run, "generator")) < len(points(whole[0], "generator")), "in the middle of the phase"

    slurm.hurry(job)
    assert slurm.ends(job) == ["COMPLETED"] and slurm.fact(job, "Restarts") == "3", log(run)
    assert "part 4: 2 ranks on 2 nodes" in log(run) and "Traceback" not in log(run)
    assert final(run) == final(whole[0])
    ((status, tags),) = tracked(run)
    assert (status, tags["idgenrec.restarts"], tags["slurm.job_id"]) == ("FINISHED", "2", job)
    for group in ("teaching", "recommender", "generator"):
        steps = [line["step"] for line in points(run, group)]
        assert steps == [line["step"] for line in points(whole[0], group)], "no step is lost, none is done twice"


def test_a_running_job_has_its_run_alone_and_cancelled_it_stays_away(slurm, runs, shard_folder):
    run = runs / "cancelled"
    words = ["pretrain", "--shards", shard_folder, "--out", run, *RUN, *LONG]
    job = submitted(*JOB, "--", *words)
    slurm.wait(lambda: points(run, "recommender"), job)
    for changed, how in ([], "the same as this"), (["--threads", "2"], "with config.threads 1, not 2"):
        out, err, status = launch(*JOB, "--", *words, *changed)
        assert (out, status) == ("", 2) and err.startswith(f"error: job {job} (RUNNING) has {run}, {how}: cancel it")
    call("scancel", job)
    slurm.kill(job, lambda: f"job {job} is COMPLETING: not queued again by us" in log(run))
    assert slurm.ends(job) == ["CANCELLED"] and "Traceback" not in log(run)
    assert [status for status, _ in tracked(run)] == ["KILLED"]
    assert list((run / "checkpoints").glob("step-*")), "all is saved"
    out, err, status = launch(*JOB, "--", *words, "--seed", "3")
    assert status == 2 and "seed 0, not 3: give another --out" in err, "the run goes on as it was, or not at all"
