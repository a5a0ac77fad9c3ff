"""What this machine has: memory for one rank, room on the disk, how fast it multiplies.

Enters: nothing but the machine. Leaves: bytes and FLOP/s. Must hold: torch is imported only where there is a GPU.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from shards.workers import control_groups, cores

PRODUCT_WIDTH, PRODUCTS = 768, 3


@dataclass(frozen=True)
class Machine:
    """`memory`: bytes that one rank can have on its device. `chunk_bytes`: logits of one chunk there."""

    device: str
    is_gpu: bool
    memory: int
    chunk_bytes: int


def this_machine(processes: int) -> Machine:
    """The GPU of a rank, or its share of the memory that this machine or the job's control group has."""
    if has_gpu():
        import torch

        if torch.cuda.is_available():
            ranks_per_gpu = -(-processes // torch.cuda.device_count())
            properties = torch.cuda.get_device_properties(0)
            return Machine(properties.name, True, properties.total_memory // ranks_per_gpu, 512 << 20)
    return Machine("CPU", False, memory_limit() // processes, 16 << 20)


def has_gpu() -> bool:
    """Whether an NVIDIA device can be seen, found out without torch."""
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1")
    return not hidden and Path("/dev/nvidiactl").exists()


def memory_limit(root: Path = Path("/")) -> int:
    """Bytes of memory: the machine's, or less where a control group says so. `root` is that of the file system."""
    limits = []
    for line in (root / "proc/meminfo").read_text().splitlines():
        if line.startswith("MemTotal:"):
            limits.append(int(line.split()[1]) * 1024)
    for group, version in control_groups("memory", root):
        limit = group / ("memory.limit_in_bytes" if version == 1 else "memory.max")
        if limit.is_file() and (value := limit.read_text().strip()).isdigit():
            limits.append(int(value))
    return min(limits)


def disk_free(folder: Path) -> int:
    """Bytes free where `folder` is or will be."""
    folder = folder.absolute()
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def measured_flops(machine: Machine, threads: int) -> float:
    """FLOP/s of one rank in a float32 matrix product, measured in a fraction of a second.

    The CPU's is numpy's rate with all cores that this process may use, scaled to a rank's `threads`.
    """
    if machine.is_gpu:
        import torch

        side = 8192
        a = torch.randn(side, side, device="cuda")
        torch.mm(a, a)
        torch.cuda.synchronize()
        started = time.perf_counter()
        for _ in range(PRODUCTS):
            torch.mm(a, a)
        torch.cuda.synchronize()
        return PRODUCTS * 2 * side**3 / (time.perf_counter() - started)
    import numpy as np

    side = PRODUCT_WIDTH
    a = np.ones((side, side), dtype=np.float32)
    _seconds(lambda: a @ a)  # the first product starts the threads
    usable = cores()
    used = min(int(os.environ.get("OMP_NUM_THREADS") or usable), usable)
    fastest = min(_seconds(lambda: a @ a) for _ in range(PRODUCTS))
    return 2 * side**3 / fastest * min(threads, usable) / used


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started
