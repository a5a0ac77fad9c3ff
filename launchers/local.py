"""N ranks of a job on this machine.

Enters: a task, its configuration as a dict, the number of processes. Leaves: the task's files. Must hold: when one rank
fails, the others are stopped; on Ctrl-C or SIGTERM all are asked to save and stop, and get the time for it; none is
left behind; each rank gets its share of the cores.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from pretrain.interrupt import STATUS
from shards.cores import cores

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
    return subprocess.Popen([sys.executable, "-m", "launchers.rank", str(job)], env=variables)


def _terminate(number: int, frame: object) -> None:
    """Leave by an exception, so that the ranks are stopped on the way out."""
    raise SystemExit(128 + number)


def environment(rank: int, processes: int, port: int) -> dict[str, str]:
    """The environment of one rank.

    Threads of libraries are bounded; torch's own number comes from the configuration.
    """
    threads = str(max(1, cores() // processes))
    here = str(Path(__file__).parent.parent)
    return os.environ | {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(processes),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "OMP_NUM_THREADS": threads,
        "POLARS_MAX_THREADS": threads,
        "PYTHONPATH": os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH", "")])),
    }


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


class HeldPort(socket.socket):
    """A free TCP port of the loopback address, kept until closed: the system gives it to nobody who asks for any port.
    Whoever names it can listen there all the same, as rank 0 does seconds later, once its libraries are imported."""

    def __init__(self) -> None:
        super().__init__()
        self.bind(("127.0.0.1", 0))
        self.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # once bound: `bind` must find a port of no one's
        self.number: int = self.getsockname()[1]
