"""What the nodes of a job are doing: processor, memory, GPUs.

Enters: the world. Leaves: figures named `<node number>/<figure>`, nodes numbered as their ranks are. Must hold: the
names of hosts stay out; a node's first rank speaks for it; what a machine cannot tell is left out, not made up.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import psutil
import torch

from pretrain.runtime.world import World

HAS_NVML = importlib.util.find_spec("pynvml") is not None
Readings = Mapping[str, Callable[[], float]]


class NodeMetrics:
    """Watches the node of this rank, where the rank is its first."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.readings: Readings = {}
        if int(os.environ.get("LOCAL_RANK", "0")) == 0:
            psutil.cpu_percent()  # it tells the share since it was asked last
            self.readings = {"cpu_percent": psutil.cpu_percent, "memory_used_gb": memory_used_gb} | gpus(world.device)

    def report(self) -> dict[str, float]:
        """Figures of all nodes. Collective."""
        return numbered(self.world.gather(read(self.readings)))


def numbered(parts: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Figures of nodes, from those of all ranks: ranks that speak for no node have none."""
    nodes = [part for part in parts if part]
    return {f"{node}/{name}": value for node, part in enumerate(nodes) for name, value in part.items()}


def read(readings: Readings) -> dict[str, float]:
    """The figures that can be had now. A driver that will not tell (part of a GPU, a lost device) stops no training."""
    figures = {}
    for name, reading in readings.items():
        try:
            figures[name] = float(reading())
        except unknown():
            continue
    return figures


def unknown() -> tuple[type[Exception], ...]:
    """What a reading raises where the machine cannot tell."""
    if not HAS_NVML:
        return (RuntimeError,)
    from pynvml import NVMLError  # type: ignore[import-not-found]

    return (RuntimeError, NVMLError)


def memory_used_gb() -> float:
    """Memory of the node that cannot be given to another process, in 10^9 bytes."""
    memory = psutil.virtual_memory()
    return (memory.total - memory.available) / 1e9


def gpus(device: torch.device) -> dict[str, Callable[[], float]]:
    """Readings of the GPUs that this process may use. Without NVML only its own: to ask torch about another one would
    take hundreds of megabytes there."""
    if device.type != "cuda":
        return {}
    if not HAS_NVML:
        return {f"gpu_{device.index or 0}_memory_used_gb": lambda: _taken_gb(device)}
    readings: dict[str, Callable[[], float]] = {}
    for number in range(torch.cuda.device_count()):
        readings[f"gpu_{number}_percent"] = partial(torch.cuda.utilization, number)
        readings[f"gpu_{number}_memory_used_gb"] = lambda number=number: torch.cuda.device_memory_used(number) / 1e9
    return readings


def _taken_gb(device: torch.device) -> float:
    free, total = torch.cuda.mem_get_info(device)
    return (total - free) / 1e9
