"""A group of tars of one lane, loaded: what a worker process of the stream does.

Enter tars and (seed, epoch, lane, group); leaves their samples in order. It must hold that this is a pure function of
the files and these arguments, so that it does not matter which process does it or when; and that importing it costs a
worker little: NumPy and orjson, no Arrow, no torch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from shards.counters import generator
from shards.manifest import Tar
from shards.tars import read_tar


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
