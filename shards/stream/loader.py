"""Who loads the groups of tars: the caller, threads or worker processes.

Enters what `group.load_group` takes; leaves a call that waits for the group. It must hold that who loads changes
nothing: the same groups, the same ValueError. A worker that dies is an error at once, and neither an end nor a death of
this process leaves a worker behind.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path

from shards.stream.group import Group, LaneTar, load_group
from shards.workers import worker_pool

# Requests to a remote store wait for the network, not for a core.
REMOTE_THREADS = 8


class Loader:
    """Loads groups with `workers` processes; with none, in threads from a remote store, else in the caller."""

    def __init__(self, workers: int, remote: bool) -> None:
        self.executor: Executor | None = None
        if workers:
            self.executor = worker_pool(workers, outlive_ctrl_c=True)
        elif remote:
            self.executor = ThreadPoolExecutor(REMOTE_THREADS, "stream")

    @property
    def loads_ahead(self) -> bool:
        return self.executor is not None

    def begin(
        self, folder: str | Path, tars: Sequence[LaneTar], seed: int, epoch: int, lane: int, group: int, prefix_run: int
    ) -> Callable[[], Group]:
        """Starts loading where somebody else does it. The call returned waits for the group and raises its errors."""
        work = partial(load_group, folder, tars, seed, epoch, lane, group, prefix_run)
        if self.executor is None:
            return work
        try:
            return partial(_wait, self.executor.submit(work))
        except BrokenProcessPool as error:
            raise _died() from error

    def close(self) -> None:
        """Drops what has not begun and waits for the rest: afterwards no worker is left."""
        if self.executor is not None:
            self.executor.shutdown(wait=True, cancel_futures=True)


def _wait(future: "Future[Group]") -> Group:
    try:
        return future.result()
    except BrokenProcessPool as error:
        raise _died() from error


def _died() -> RuntimeError:
    return RuntimeError(
        "a worker process of the stream died (killed, perhaps for want of memory); use fewer stream workers, or build "
        "the shards with smaller shuffle_tars or records_per_tar (a script of your own that starts workers needs "
        "`if __name__ == '__main__':`)"
    )
