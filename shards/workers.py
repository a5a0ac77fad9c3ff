"""A pool of worker processes that live exactly as long as their parent wants.

Enters the number of workers; leaves an executor. It must hold that neither an end nor a death of the parent, even by
SIGKILL, leaves a worker behind, and that no worker prints a traceback at Ctrl-C, which reaches the whole group.
"""

import multiprocessing
import os
import signal
import threading
from concurrent.futures import ProcessPoolExecutor


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
