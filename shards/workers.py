"""Cores, and the worker processes that use them.

Enters: the machine, or the number of workers. Leaves: cores and control groups (memory is read in
`launchers/checks/machine.py`), or an executor. It must hold that a container or a batch job on part of a machine is no
whole machine, because threads beyond its cores wait for each other; that neither an end nor a death of the parent,
even by SIGKILL, leaves a worker behind; and that no worker prints a traceback at Ctrl-C, which reaches the whole group.
"""

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

ROOT = Path("/")


def cores(root: Path = ROOT) -> int:
    """Cores that this process may use at a time: those it is bound to, or fewer where a control group has a quota."""
    limits = [len(os.sched_getaffinity(0))]
    for group, version in control_groups("cpu", root):
        if version == 1:
            words = [_word(group / "cpu.cfs_quota_us"), _word(group / "cpu.cfs_period_us")]
        else:
            words = _word(group / "cpu.max").split()
        if len(words) == 2 and all(word.isdigit() and int(word) for word in words):  # "max" and -1 are no limit
            limits.append(int(words[0]) // int(words[1]))
    return max(1, min(limits))


def control_groups(controller: str, root: Path = ROOT) -> Iterator[tuple[Path, int]]:
    """Folders of the control groups that this process is in, each with those above it, and their version. Inside a
    container the own path may not be there."""
    own, base = root / "proc/self/cgroup", root / "sys/fs/cgroup"
    for line in own.read_text().splitlines() if own.is_file() else []:
        number, controllers, path = line.split(":", 2)
        if number == "0":
            folder, version = base, 2
        elif controller in controllers.split(","):
            folder, version = base / controller, 1
        else:
            continue
        inside = Path(path.lstrip("/"))
        for part in (Path(), *reversed(inside.parents), inside):
            yield folder / part, version


def _word(file: Path) -> str:
    return file.read_text().strip() if file.is_file() else ""


def worker_pool(workers: int, *, outlive_ctrl_c: bool) -> ProcessPoolExecutor:
    """A started pool of spawned processes: a fork would copy the locks of torch's and CUDA's threads.

    outlive_ctrl_c: Ctrl-C is the parent's to handle and the workers go on; else it ends them at once, without a word.
    """
    action = signal.SIG_IGN if outlive_ctrl_c else signal.SIG_DFL
    pool = ProcessPoolExecutor(
        workers, multiprocessing.get_context("spawn"), initializer=_serve_only_the_parent, initargs=(action,)
    )
    # A worker inherits the mask: until it knows what Ctrl-C means to it, none reaches it.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        pool.submit(int)  # the first submission starts every worker of a pool that spawns
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return pool


def _serve_only_the_parent(action: signal.Handlers) -> None:
    signal.signal(signal.SIGINT, action)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    parent = multiprocessing.parent_process()
    assert parent is not None, "a worker has a parent"

    def follow() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
