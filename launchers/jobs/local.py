"""N ranks of a job on this machine.

Enters: a task, its configuration as a dict, the number of processes. Leaves: the task's files. Must hold: when one rank
fails, the others are stopped; on Ctrl-C or SIGTERM all are asked to save and stop, and get the time for it; none is
left behind; each rank gets its share of the cores.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from pretrain.runtime.interrupt import STATUS
from pretrain.runtime.rendezvous import HeldPort, environment

GRACE_SECONDS = 10.0
"""For ranks whose fellow has failed: they can save nothing any more."""
SAVING_SECONDS = 600.0
"""For ranks that are asked to stop: the end of a step and a checkpoint. A second Ctrl-C is a failure."""


class RankFailed(RuntimeError):
    """A rank ended with a non-zero status; `status` is that of the first one."""

    def __init__(self, rank: int, status: int) -> None:
        super().__init__(f"rank {rank} ended with status {status}")
        self.status = status


def launch(task: str, config: dict[str, Any], processes: int) -> None:
    """Start `processes` ranks of the job, wait for all. Raises RankFailed when one fails."""
    if processes < 1:
        raise ValueError(f"processes is {processes}; at least one is needed")
    with tempfile.TemporaryDirectory(prefix="idgenrec-job-") as folder:
        job = Path(folder) / "job.json"
        job.write_text(json.dumps({"task": task, "config": config}))
        before = signal.signal(signal.SIGTERM, _terminate)
        with HeldPort() as port:
            ranks = [start(job, environment(rank, processes, port.number)) for rank in range(processes)]
            try:
                wait_for(ranks)
            except (KeyboardInterrupt, SystemExit):
                stop(ranks, SAVING_SECONDS)
                raise
            finally:
                stop(ranks, GRACE_SECONDS)
                signal.signal(signal.SIGTERM, before)


def start(job: Path, variables: dict[str, str]) -> subprocess.Popen[bytes]:
    """One rank of the job in a process of its own."""
    return subprocess.Popen([sys.executable, "-m", "launchers.jobs.rank", str(job)], env=variables)


def _terminate(number: int, frame: object) -> None:
    """Leave by an exception, so that the ranks are stopped on the way out."""
    raise SystemExit(128 + number)


def wait_for(ranks: list[subprocess.Popen[bytes]]) -> None:
    """Return when all ranks have ended well; raise RankFailed as soon as one has not, or when all have stopped as they
    were asked to."""
    while True:
        codes = [rank.poll() for rank in ranks]
        ended = all(code is not None for code in codes)
        for index, code in enumerate(codes):
            if code and (code != STATUS or ended):
                raise RankFailed(index, code)
        if ended:
            return
        time.sleep(0.05)


def stop(ranks: list[subprocess.Popen[bytes]], seconds: float) -> None:
    """Ask the ranks that still run to end, and make them after so many seconds."""
    for rank in ranks:
        if rank.poll() is None:
            rank.send_signal(signal.SIGTERM)
    deadline = time.monotonic() + seconds
    for rank in ranks:
        try:
            rank.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            rank.kill()
            rank.wait()
