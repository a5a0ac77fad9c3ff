"""A rank inside a SLURM job: where the ranks meet, and how the job goes back to the queue.

Enters: the job file that the launch wrote, SLURM's environment. Leaves: what the task writes. Must hold: a job that is
taken away saves on all ranks together, and then comes back by itself, but not for ever.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from types import FrameType

from launchers.line.console import Console
from launchers.slurm.state import NoAnswer, job_state, requeue
from pretrain.runtime.interrupt import SIGNALS, STATUS, Interrupted

REQUEUES = "IDGENREC_MAX_REQUEUES"
FIRST_PORT, PORTS = 20000, 12000
"""Below the ports that Linux gives out by itself, from 32768 on."""
ENDED_WITHIN = 120.0
"""Seconds in which SLURM ends the ranks of a job that it has queued again."""
PAUSES = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0)
"""Seconds between questions to a controller that does not answer: one that restarts is back within two minutes."""


class StopSignal(BaseException):
    """A signal before the work listens, or where it has nothing to save; no library may catch it."""

    def __init__(self, number: int) -> None:
        self.signal = number
        super().__init__(f"stopped by {signal.Signals(number).name}; what was written is kept")


def run_job(job_file: str) -> None:
    """A rank of a job: what submitit calls in each task."""
    for number in SIGNALS:  # submitit's own handlers ignore SIGTERM and save on rank 0 alone
        signal.signal(number, _raise_stop)
    from launchers.jobs.rank import ending

    ending(lambda: _perform(job_file))


def _raise_stop(number: int, frame: FrameType | None) -> None:
    _block_signals()
    raise StopSignal(number)


def _block_signals() -> None:
    """Signals end neither this process nor the programs that it starts from here on.

    They are not ignored: where one has arrived whose handler is SIG_IGN before it runs, Python writes a traceback. A
    blocked signal is what a program inherits.
    """
    for number in SIGNALS:
        signal.signal(number, _ignore)
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)


def _ignore(number: int, frame: FrameType | None) -> None:
    del number, frame


def _perform(job_file: str) -> None:
    from launchers.jobs.rank import main

    try:
        try:
            rendezvous()
            main(job_file)
        except Interrupted:  # a signal that arrives right here raises StopSignal
            _block_signals()
            raise
    except StopSignal as stop:
        requeue_and_wait(str(stop))
        sys.exit(STATUS)
    except Interrupted as interrupted:
        requeue_and_wait(str(interrupted))
        raise


def rendezvous() -> None:
    """Where the ranks meet, from SLURM's environment to torch's; rank 0 says which part of which job this is."""
    import submitit

    job, restart = int(os.environ["SLURM_JOB_ID"]), int(os.environ.get("SLURM_RESTART_COUNT", "0"))
    # A part of a job does not meet on the port of the part before, which may be in use for a while.
    os.environ["MASTER_PORT"] = str(FIRST_PORT + (job * 7 + restart) % PORTS)
    where = submitit.helpers.TorchDistributedEnvironment()
    where.export(set_cuda_visible_devices=False, overwrite=True)
    if where.rank == 0:
        nodes = os.environ.get("SLURM_JOB_NUM_NODES", "1")
        code = Path(__file__).resolve().parents[2]
        Console().line(f"job {job}, part {restart + 1}: {where.world_size} ranks on {nodes} nodes, code {code}")


def requeue_and_wait(why: str) -> None:
    """Queue the job again and wait to be ended; returns where it must not come back, or SLURM does not answer. Rank 0
    does it; another rank only where the job still runs after a while, because rank 0 has heard of nothing."""
    rank, job = int(os.environ.get("RANK", "0")), os.environ["SLURM_JOB_ID"]
    if rank:
        time.sleep(ENDED_WITHIN)
    for pause in (*PAUSES, None):
        try:
            if _requeued(job, why):
                time.sleep(ENDED_WITHIN)
            return
        except NoAnswer as silent:  # asked anew from the start: it may have done what it did not answer to
            if pause is None:
                _say(f"{silent} with the same launch: {why}")
                return
            _say(f"{silent} in {pause:.0f} s")
            time.sleep(pause)


def _requeued(job: str, why: str) -> bool:
    """Queue the job again, unless it must not come back. Raises NoAnswer."""
    state, restarts = job_state(job), int(os.environ.get("SLURM_RESTART_COUNT", "0"))
    if state != "RUNNING":  # cancelled, or SLURM has queued it again itself
        Console().line(f"job {job} is {state}: not queued again by us")
        return False
    if restarts >= int(os.environ[REQUEUES]):
        _say(f"job {job} was queued again {restarts} times, --max-requeues; it ends here")
        return False
    Console().line(f"{why}; job {job} goes back to the queue")
    requeue(job)
    return True


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
