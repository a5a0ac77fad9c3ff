"""Where the ranks of one machine meet, and the environment that tells each of them.

Enters: rank, number of ranks, a port. Leaves: environment variables as torchrun sets them. Must hold: nobody else is
given the port before rank 0 listens there; each rank gets its share of the cores. Nothing heavy is imported.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path

from shards.workers import cores


def environment(rank: int, processes: int, port: int) -> dict[str, str]:
    """The environment of one rank.

    Threads of libraries are bounded; torch's own number comes from the configuration.
    """
    threads = str(max(1, cores() // processes))
    here = str(Path(__file__).parents[2])
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


class HeldPort(socket.socket):
    """A free TCP port of the loopback address, kept until closed: the system gives it to nobody who asks for any port.
    Whoever names it can listen there all the same, as rank 0 does seconds later, once its libraries are imported."""

    def __init__(self) -> None:
        super().__init__()
        self.bind(("127.0.0.1", 0))
        self.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # once bound: `bind` must find a port of no one's
        self.number: int = self.getsockname()[1]
