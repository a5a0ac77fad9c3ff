"""Take two-node jobs away at random moments, in every way a cluster has; each must end as the one left alone.

    python tests/system/soak_slurm.py [--runs 10] [--seed 0]

As root; SLURM is installed where it is missing, started and stopped. Ways: preemption by a job of a higher partition,
`scontrol requeue`, and the signal of the time limit. A third of the moments are in a save.
"""

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from slurm_cluster import Cluster, call
from slurm_runs import JOB, RUN, SHORT, final, log, submitted

from benchmarks.soak_train import prepare, writing

ENDED = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT")


def disturb(slurm, job, draw):
    """Take the job away in one of the ways; which."""
    way = draw.choice(("preempted", "requeued", "signalled"))
    if way == "preempted":
        call("sbatch", "-p", "high", "-N2", "--exclusive", "-o", "/dev/null", "--wrap", "sleep 1")
    elif way == "requeued":
        call("scontrol", "requeue", job)
    else:
        call("scancel", "--signal=USR2", job)
    slurm.wait(lambda: slurm.state(job) in ("PENDING", *ENDED), 90)
    return way


def soak(slurm, folder, runs, seed):
    draw, shards = random.Random(seed), folder / "shards"
    prepare(folder, seed, stage=1)

    def start(name):
        return submitted(*JOB, "--", "pretrain", "--shards", shards, "--out", folder / name, *RUN, *SHORT,
                         "--checkpoint-steps", "5")  # fmt: skip

    started = time.monotonic()
    job = start("whole")
    slurm.wait(lambda: slurm.state(job) in ENDED, 600)
    takes, whole, done = time.monotonic() - started, final(folder / "whole"), 0
    for number in range(runs):
        run = folder / f"run-{number}"
        job, ways = start(run.name), []
        for _ in range(draw.randint(1, 3)):
            until = time.monotonic() + draw.uniform(0, takes)
            while time.monotonic() < until and slurm.state(job) not in ENDED:
                time.sleep(0.2)
            if draw.random() < 1 / 3:
                while not writing(run) and slurm.state(job) not in ENDED:
                    time.sleep(0.002)
            if slurm.state(job) == "RUNNING":
                ways.append(disturb(slurm, job, draw))
                time.sleep(3)  # srun ends
                if slurm.state(job) == "PENDING":
                    slurm.hurry(job)
        slurm.wait(lambda job=job: slurm.state(job) in ENDED, 600)
        assert slurm.state(job) == "COMPLETED", log(run)
        assert final(run) == whole, f"run {number} ended otherwise"
        done += len(ways)
        print(f"run {number}: {', '.join(ways) or 'left alone'}; every byte is the same", flush=True)
    return f"{runs} jobs of two nodes were taken away {done} times, seed {seed}; each ended with the same bytes"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary, Cluster(Path(temporary) / "cluster") as slurm:
        print(soak(slurm, Path(temporary), options.runs, options.seed))


if __name__ == "__main__":
    main()
