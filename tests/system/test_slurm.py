"""`idgenrec launch slurm` against a real SLURM of two nodes: a job that is taken away comes back and ends the same."""

import json
import math

import psutil
import pytest
from slurm_cluster import call
from slurm_runs import JOB, LONG, RUN, SHORT, final, launch, log, points, submitted, tracked


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def whole(slurm, runs, shard_folder):
    """A job of two nodes that nobody disturbed: its run folder and its number."""
    planted = ["--environment", "HF_TOKEN=hunter2", "--setup", 'test "$HF_TOKEN" || exit 9']
    job = submitted(*JOB, *planted, "--", "pretrain", "--shards", shard_folder, "--out", runs / "whole", *RUN, *SHORT)
    slurm.wait(lambda: slurm.state(job) not in ("PENDING", "RUNNING", "COMPLETING"), 300)
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
    slurm.wait(lambda: slurm.state(job) not in ("PENDING", "RUNNING", "COMPLETING"), 300)
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


def ranks(run, node=None):
    """Processes of a run's ranks, of one node if so wished."""
    found = []
    for process in processes(run):
        if "srun" not in process.cmdline()[0] and node in (None, process.environ().get("SLURMD_NODENAME")):
            found.append(process)
    return found


def processes(run):
    """Those of a job: its ranks, and srun, which starts and stops them."""
    words = {process: process.info["cmdline"] or [""] for process in psutil.process_iter(["cmdline"])}
    return [process for process, said in words.items() if "submitit.core._submit" in said and str(run) in said[-1]]


def test_preempted_in_the_middle_of_a_save_it_ends_bit_identical(slurm, whole, runs, shard_folder):
    run = runs / "in-a-save"
    job = submitted(
        *JOB, "--", "pretrain", "--shards", shard_folder, "--out", run, *RUN, *SHORT, "--checkpoint-steps", "1"
    )
    drafts = lambda: list((run / "checkpoints").glob(".step-*.writing"))  # noqa: E731
    slurm.wait(lambda: points(run, "recommender"), 120, 0.05)

    def frozen():
        slurm.wait(drafts, 60, 0.0005)
        for rank in ranks(run):
            rank.suspend()
        if drafts() and not list(drafts()[0].glob("COMPLETE")):
            return True
        for rank in ranks(run):
            rank.resume()
        return False

    slurm.wait(frozen, 60, 0.0)
    other = call("sbatch", "-p", "high", "-N2", "--exclusive", "-o", "/dev/null", "--wrap", "sleep 1").split()[-1]
    slurm.wait(lambda: slurm.state(job) == "PENDING", 60)
    said = log(run)
    assert "stopped by SIGTERM" in said and f"job {job} goes back to the queue" in said and not drafts()
    slurm.wait(lambda: slurm.state(other) == "COMPLETED", 40)
    slurm.hurry(job)
    slurm.wait(lambda: slurm.state(job) not in ("PENDING", "RUNNING", "COMPLETING"), 400)
    assert slurm.state(job) == "COMPLETED" and "Traceback" not in log(run), log(run)
    assert final(run) == final(whole[0])


def test_a_lost_node_sends_the_job_back_and_it_ends_bit_identical(slurm, whole, runs, shard_folder):
    run = runs / "lost-node"
    job = submitted(
        *JOB, "--", "pretrain", "--shards", shard_folder, "--out", run, *RUN, *SHORT, "--checkpoint-steps", "20"
    )
    slurm.wait(lambda: len(points(run, "recommender")) > 30, 120, 0.05)
    slurm.lose("node2", ranks(run, "node2"))
    slurm.wait(lambda: slurm.state(job) == "PENDING", 120)
    slurm.wait(lambda: not processes(run), 60)  # an srun that is still there would end the next part with its own
    slurm.find("node2")
    slurm.settle()
    slurm.hurry(job)
    slurm.wait(lambda: slurm.state(job) not in ("PENDING", "RUNNING", "COMPLETING"), 400)
    said = log(run)
    assert slurm.state(job) == "COMPLETED" and slurm.fact(job, "Restarts") == "1", said[-4000:] + slurm.said()
    assert final(run) == final(whole[0])


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
