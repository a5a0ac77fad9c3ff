"""A group of tars of one lane, and the loader that reads groups, here or ahead in worker processes.

Enter tars and (seed, epoch, lane, group); leaves their samples in order. It must hold that this is a pure function of
the files and these arguments, so that it does not matter which process does it or when; and that importing it costs a
worker little: NumPy and orjson, no Arrow, no torch.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from shards.counters import generator
from shards.manifest import Tar
from shards.tars import read_tar
from shards.workers import worker_pool


class LaneTar(NamedTuple):
    """A tar and what its category must be: the number of items, and the first row in the Fusion."""

    tar: Tar
    category: str
    num_items: int
    row_offset: int


@dataclass(frozen=True)
class Group:
    """The S samples of a group of tars in their order: sample s is record `record[s]` up to `prefix_end[s]` (int32).

    Record r has the key `keys[r]` and the rows of the Fusion `items[offsets[r]:offsets[r + 1]]` (int32).
    """

    keys: list[str]
    offsets: np.ndarray
    items: np.ndarray
    record: np.ndarray
    prefix_end: np.ndarray
    bytes_read: int


def load_group(
    folder: str | Path, tars: Sequence[LaneTar], seed: int, epoch: int, lane: int, group: int, prefix_run: int = 1
) -> Group:
    """Reads, checks and permutes one group of tars; a pure function of the files and its arguments.

    prefix_run: so many consecutive prefixes of a record stay together (`in_runs`).
    ValueError names a tar that is missing or is not what the manifest promises.
    """
    keys: list[str] = []
    lengths, items, size = [], [], 0
    for tar, category, num_items, row_offset in tars:
        records, read = read_tar(folder, tar, category, num_items)
        keys += records.keys
        lengths.append(np.diff(records.offsets))
        items.append(records.items + np.int32(row_offset))
        size += read
    lengths_R = np.concatenate(lengths)
    offsets = np.concatenate([[0], np.cumsum(lengths_R)])
    record = np.repeat(np.arange(len(keys), dtype=np.int32), lengths_R - 1)
    first_sample = offsets[:-1] - np.arange(len(keys))
    prefix_end = (np.arange(len(record)) - first_sample[record] + 1).astype(np.int32)
    draw = generator(seed, "samples", epoch, lane, group)
    order = draw.permutation(len(record)) if prefix_run == 1 else in_runs(record, prefix_end, prefix_run, draw)
    return Group(keys, offsets, np.concatenate(items), record[order], prefix_end[order], size)


def in_runs(record_S: np.ndarray, prefix_end_S: np.ndarray, length: int, draw: np.random.Generator) -> np.ndarray:
    """A random order of S samples in which up to `length` consecutive prefixes of a record stand together, rising.

    Prefixes of one record share their items: a batch with whole runs holds fewer distinct ones, each encoded once.
    Where a record's runs begin is drawn, so that no prefix comes first in its run in every epoch.
    """
    shift_R = draw.integers(length, size=int(record_S[-1]) + 1)
    part_S = (prefix_end_S + shift_R[record_S]) // length
    first_S = np.ones(len(record_S), dtype=bool)
    first_S[1:] = (record_S[1:] != record_S[:-1]) | (part_S[1:] != part_S[:-1])
    run_S = np.cumsum(first_S) - 1
    return np.argsort(draw.permutation(int(run_S[-1]) + 1)[run_S], kind="stable")


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
