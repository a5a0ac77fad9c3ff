"""The stream: training samples in one global order, each exactly once per epoch, for any number of ranks.

Enter a shard folder, its manifest, a seed, rank and world size; leave batches of samples with the position after each.
It must hold (docs/contracts.md): the order is a function of (seed, epoch, lane) alone; slot `n` is sample `n // lanes`
of lane `n % lanes`, or a filler (None, weight zero) where the lane has ended; rank `r` owns the slots with
`n % world_size == r`. Resuming at a position, at any world size, goes on in the same order.
"""

import hashlib
import io
import json
import tarfile
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate
from pathlib import Path

import numpy as np

from shards.counters import generator
from shards.manifest import Manifest, Tar
from shards.records import Position, Sample


class Stream:
    """Reads the train members of one shard folder for one rank.

    At most one group of `shuffle_tars` tars per lane is in memory; groups before a position are skipped unread. A tar's
    hash is checked whenever it is read.
    """

    def __init__(self, folder: str | Path, manifest: Manifest, seed: int, rank: int = 0, world_size: int = 1) -> None:
        if world_size < 1 or not 0 <= rank < world_size:
            raise ValueError(f"rank {rank} of {world_size} is impossible; ranks run from 0 to world_size - 1")
        if not manifest.num_samples:
            raise ValueError(f"{folder} has no training samples; build it with train data sets")
        self.folder, self.manifest, self.seed = Path(folder), manifest, seed
        self.rank, self.world_size = rank, world_size
        self.lanes: list[list[Tar]] = [[] for _ in range(manifest.lanes)]
        for member in manifest.train_members:
            for tar in member.tars:
                self.lanes[tar.lane].append(tar)

    @property
    def slots_per_epoch(self) -> int:
        """Slots of one epoch, fillers included: lanes x samples of the longest lane."""
        return self.manifest.lanes * max(sum(tar.samples for tar in lane) for lane in self.lanes)

    def start(self) -> Position:
        """The first position of the first epoch."""
        return Position(seed=self.seed)

    def batches(self, position: Position, global_batch_size: int) -> Iterator[tuple[Position, list[Sample | None]]]:
        """From `position` to the end of its epoch: (position after the batch, THIS rank's entries in slot order).

        Every rank gets equally many batches and equally many entries in each: `global_batch_size / world_size`, fewer
        in the last one. None is a filler of weight zero. After the last batch the position is slot 0 of the next epoch.
        ValueError when the batch size does not divide, or the position belongs to another seed or lies outside.
        """
        if global_batch_size < 1 or global_batch_size % self.world_size:
            raise ValueError(
                f"global_batch_size {global_batch_size} must be a positive multiple of the {self.world_size} ranks"
            )
        end = self.slots_per_epoch
        if position.seed != self.seed:
            raise ValueError(f"the position has seed {position.seed}, the stream {self.seed}; give both the same seed")
        if position.slot >= end:
            raise ValueError(
                f"position: slot {position.slot} is outside the epoch's {end} slots; are these other shards?"
            )
        return self._batches(position, global_batch_size, end)

    def _batches(self, position: Position, size: int, end: int) -> Iterator[tuple[Position, list[Sample | None]]]:
        lanes: dict[int, _Lane] = {}
        for start in range(position.slot, end, size):
            stop = min(start + size, end)
            # The last batch is rounded up to the world size, so that every rank has as many entries.
            padded = start + -(-(stop - start) // self.world_size) * self.world_size
            first = start + (self.rank - start) % self.world_size
            entries: list[Sample | None] = []
            for slot in range(first, padded, self.world_size):
                number, k = slot % self.manifest.lanes, slot // self.manifest.lanes
                if slot >= end:
                    entries.append(None)
                    continue
                if number not in lanes:
                    lanes[number] = _Lane(self, position.epoch, number)
                entries.append(lanes[number].sample(k, slot))
            after = (position.epoch, stop) if stop < end else (position.epoch + 1, 0)
            yield Position(seed=self.seed, epoch=after[0], slot=after[1]), entries


class _Lane:
    """The samples of one lane in one epoch, read forward; holds one group of tars."""

    def __init__(self, stream: Stream, epoch: int, number: int) -> None:
        self.stream, self.epoch, self.number = stream, epoch, number
        tars = stream.lanes[number]
        order = generator(stream.seed, "tars", epoch, number).permutation(len(tars))
        step = stream.manifest.shuffle_tars
        self.groups = [[tars[row] for row in order[start : start + step]] for start in range(0, len(tars), step)]
        self.starts = [0, *accumulate(sum(tar.samples for tar in group) for group in self.groups)]
        self.loaded = -1
        self.records: list[tuple[str, np.ndarray]] = []
        self.samples = np.empty((0, 2), dtype=np.int64)

    def sample(self, k: int, slot: int) -> Sample | None:
        """Sample `k` of the lane, or None behind its end."""
        if k >= self.starts[-1]:
            return None
        group = bisect_right(self.starts, k) - 1
        if group != self.loaded:
            self._load(group)
        record, prefix_end = self.samples[k - self.starts[group]].tolist()
        key, rows = self.records[record]
        return Sample(key, prefix_end, rows[:prefix_end], int(rows[prefix_end]), slot)

    def _load(self, group: int) -> None:
        offsets = {member.name: member.row_offset for member in self.stream.manifest.train_members}
        self.records = [record for tar in self.groups[group] for record in read_tar(self.stream.folder, tar, offsets)]
        samples = np.array(
            [(number, end) for number, (_, rows) in enumerate(self.records) for end in range(1, len(rows))],
            dtype=np.int64,
        )
        assert len(samples) == self.starts[group + 1] - self.starts[group], "the manifest counts the samples"
        self.samples = generator(self.stream.seed, "samples", self.epoch, self.number, group).permutation(samples)
        self.loaded = group


def read_tar(folder: Path, tar: Tar, offsets: dict[str, int]) -> Sequence[tuple[str, np.ndarray]]:
    """The records of one tar in its order: (key, int32 rows of the Fusion).

    offsets: first row of each category. ValueError names a tar that is missing or is not the one of the manifest.
    """
    from webdataset.tariterators import group_by_keys, tar_file_expander

    path = folder / tar.file
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror}); build the shards again") from error
    if hashlib.sha256(data).hexdigest() != tar.sha256:
        raise ValueError(f"{path} is not the file that the manifest names (wrong SHA-256); build the shards again")
    offset = offsets[tar.file.split("/", 1)[0]]
    # An explicit source: WebDataset's own node and worker splitting would deal out tars unevenly.
    source = [{"url": str(path), "stream": io.BytesIO(data)}]
    try:
        records = [
            (str(entry["__key__"]), np.array(json.loads(entry["json"])["items"], dtype=np.int32) + np.int32(offset))
            for entry in group_by_keys(tar_file_expander(source))
        ]
    except (tarfile.TarError, KeyError, ValueError) as error:
        raise ValueError(f"{path} does not hold records as the contract has them ({error})") from error
    assert len(records) == tar.records, "the manifest counts the records"
    return records
