"""A rank inside a SLURM job that signals meet at the worst moments: one line, status 75, the job comes back."""

import subprocess
import sys

import pytest

from pretrain.runtime.interrupt import STATUS

SCRIPT = """
import os, signal, subprocess
from launchers.jobs import rank
from launchers.slurm import requeue
from pretrain.runtime.interrupt import SIGNALS, Interrupted

def at_once(*numbers):
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    for number in numbers:
        os.kill(os.getpid(), number)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)

def requeue_and_wait(why):
    print(why, flush=True)
    for number in SIGNALS:
        os.kill(os.getpid(), number)
    subprocess.run(["sh", "-c", "kill -TERM $$; kill -USR2 $$; kill -INT $$; echo the child lives"])

def interrupted(job_file):
    raise Interrupted(signal.SIGUSR2, "saved")

def block_signals(original=requeue._block_signals):
    requeue._block_signals = original
    os.kill(os.getpid(), signal.SIGTERM)
    original()

requeue.requeue_and_wait = requeue_and_wait
requeue.rendezvous = lambda: None
"""
MOMENTS = {
    "two signals at once": "requeue.rendezvous = lambda: at_once(signal.SIGUSR2, signal.SIGTERM)",
    "another one while the first is heard": "requeue._block_signals = block_signals; "
    "requeue.rendezvous = lambda: at_once(signal.SIGUSR2)",
    "another one after all has been saved": "requeue._block_signals = block_signals; rank.main = interrupted",
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_no_signal_is_one_too_many(moment: str) -> None:
    words = [sys.executable, "-c", f"{SCRIPT}{MOMENTS[moment]}; requeue.run_job('job.json')"]
    done = subprocess.run(words, capture_output=True, text=True)
    assert "Traceback" not in done.stderr and "race" not in done.stderr, done.stderr
    assert done.returncode == STATUS, done.stderr
    reason, child = done.stdout.splitlines()
    assert reason.startswith("stopped by SIG") and child == "the child lives"
