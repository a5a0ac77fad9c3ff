"""Two-node jobs on a real SLURM that lose a node, are cut in two in a save, meet their time limit, or are taken away at
random moments: each ends as the one that nobody disturbed.

A time limit and a lost node take minutes, because SLURM looks at its clock twice a minute.
"""

import math
import os
import random
import re
import signal

import pytest
from patience import until
from slurm_cluster import ENDED, call
from slurm_runs import JOB, LONG, RUN, SHORT, final, job_processes, log, points, ranks, resumed, submitted, suspended


def preempt():
    call("sbatch", "-p", "high", "-N2", "--exclusive", "-o", "/dev/null", "--wrap", "true")


def drafts(run):
    return list((run / "checkpoints").glob(".step-*.writing"))


def in_a_save(run):
    """Its ranks stand still in the middle of a save."""
    if not drafts(run):
        return False
    suspended(run)
    if drafts(run) and not list(drafts(run)[0].glob("COMPLETE")):
        return True
    for rank in ranks(run):
        rank.resume()
    return False


def test_preempted_in_the_middle_of_a_save_it_ends_bit_identical(slurm, whole, runs, shard_folder):
    run = runs / "in-a-save"
    words = ["pretrain", "--shards", shard_folder, "--out", run, *RUN, *SHORT, "--checkpoint-steps", "1"]
    job = submitted(*JOB, "--", *words)
    slurm.wait(lambda: points(run, "recommender"), job)
    until(lambda: in_a_save(run), slurm.logs, 0.0005)
    preempt()
    slurm.queued_again(job, lambda: f"job {job} goes back to the queue" in log(run))
    assert "stopped by SIGTERM" in log(run) and not drafts(run)
    slurm.hurry(job)
    assert slurm.ends(job) == ["COMPLETED"] and "Traceback" not in log(run), log(run)
    assert final(run) == final(whole[0])


def test_a_lost_node_sends_the_job_back_and_it_ends_bit_identical(slurm, whole, runs, shard_folder):
    run = runs / "lost-node"
    words = ["pretrain", "--shards", shard_folder, "--out", run, *RUN, *SHORT, "--checkpoint-steps", "20"]
    job = submitted(*JOB, "--", *words)
    slurm.wait(lambda: len(points(run, "recommender")) > 30 and suspended(run), job)
    slurm.lose("node2", ranks(run, "node2"))
    for rank in ranks(run):
        rank.resume()
    slurm.wait(lambda: slurm.state(job) == "PENDING", job)
    slurm.wait(lambda: not job_processes(run))  # an srun that is still there would end the next part with its own
    slurm.find("node2")
    slurm.settle()
    slurm.hurry(job)
    assert slurm.ends(job) == ["COMPLETED"] and slurm.fact(job, "Restarts") == "1", log(run) + slurm.logs()
    assert final(run) == final(whole[0])


def test_at_its_time_limit_it_saves_and_comes_back(slurm, runs, shard_folder):
    run = runs / "long"
    words = ["pretrain", "--shards", shard_folder, "--out", run, *RUN, *LONG]
    job = submitted(*JOB, "--signal-seconds", "60", "--", *words)
    slurm.wait(lambda: points(run, "recommender"), job)
    # SLURM looks at the clock every 30 s, and sends the signal up to 30 s too early rather than too late.
    minutes, seconds = map(int, slurm.fact(job, "RunTime").split(":")[1:])
    limit = max(2, math.ceil((60 * minutes + seconds + 45) / 60))
    call("scontrol", "update", f"JobId={job}", f"TimeLimit={limit}")
    slurm.queued_again(job, lambda: f"job {job} goes back to the queue" in log(run))
    done = len(points(run, "recommender"))
    assert "stopped by SIGUSR2; " in log(run) and "Traceback" not in log(run)
    saved = max(path.name for path in (run / "checkpoints").glob("step-*"))
    call("scontrol", "update", f"JobId={job}", "TimeLimit=600")
    slurm.hurry(job)
    slurm.wait(lambda: len(points(run, "recommender")) > done + 5, job)
    steps = [line["step"] for line in points(run, "recommender")]
    assert steps == list(range(steps[0], steps[0] + len(steps))) and saved == f"step-{steps[done - 1]:07d}"
    call("scancel", job)
    slurm.kill(job, lambda: "not queued again by us" in log(run))
    assert slurm.ends(job) == ["CANCELLED"]


def take_away(slurm, job, run, draw):
    """A running job is preempted, queued again by the administrator, or signalled; which."""
    way, before = draw.choice(("preempted", "requeued", "signalled")), len(ends(run, job))
    if way == "preempted":
        preempt()
    elif way == "requeued":
        call("scontrol", "requeue", job)
    else:
        call("scancel", "--signal=USR2", job)
        resumed(run, signal.SIGUSR2)
    slurm.queued_again(job, lambda: len(ends(run, job)) > before)
    slurm.hurry(job)
    return way


def ends(run, job):
    """What its ranks have said at the end of each part."""
    return re.findall(f"job {job} (?:goes back to the queue|is COMPLETING: not queued again by us)", log(run))


@pytest.mark.parametrize("seed", range(int(os.environ.get("IDGENREC_SOAK", "10"))))
def test_taken_away_at_random_moments_it_ends_bit_identical(slurm, whole, runs, shard_folder, seed):
    draw, run, ways = random.Random(seed), runs / f"random-{seed}", []
    words = ["pretrain", "--shards", shard_folder, "--out", run, *RUN, *SHORT, "--checkpoint-steps", "5"]
    job = submitted(*JOB, "--", *words)
    num_steps = len((whole[0] / "metrics.jsonl").read_text().splitlines())
    for moment in sorted(draw.uniform(0, 0.9) for _ in range(draw.randint(1, 3))):

        def is_there(moment=moment):
            lines = run / "metrics.jsonl"
            return lines.is_file() and len(lines.read_text().splitlines()) > moment * num_steps and suspended(run)

        slurm.wait(is_there, job)
        if draw.random() < 1 / 3:
            for rank in ranks(run):
                rank.resume()
            until(lambda: in_a_save(run) or slurm.state(job) in ENDED, slurm.logs, 0.0005)
        if slurm.state(job) == "RUNNING":
            ways.append(take_away(slurm, job, run, draw))
    assert slurm.ends(job) == ["COMPLETED"] and "Traceback" not in log(run), log(run)
    assert final(run) == final(whole[0]), ways
