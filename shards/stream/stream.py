"""The stream: training samples in one global order, each exactly once per epoch, for any number of ranks.

Enter a shard folder (or URL), its manifest, a seed, rank and world size; leave batches of samples with the position
after each. It must hold (docs/contracts.md): the order is a function of (seed, epoch, lane, length_window, prefix_run)
alone; slot `n` is sample `n // lanes` of lane `n % lanes`, or a filler (None, weight zero) where the lane has ended;
rank `r` owns the slots with `n % world_size == r`. Resuming at a position, at any world size and with any number of
workers, goes on in the same order.
"""

from collections.abc import Iterator, Sequence
from contextlib import closing
from math import gcd
from pathlib import Path

from shards.files.store import is_remote
from shards.manifest import MANIFEST_FILE, Manifest
from shards.records import Position, Sample
from shards.stream.group import Group, LaneTar, Loader
from shards.stream.lane import Begin, Epoch, Lane

Batches = Iterator[tuple[Position, list[Sample | None]]]


def read_amplification(lanes: int, world_size: int) -> float:
    """How often each byte is read in an epoch, all ranks together: 1.0 where the world size divides the lanes."""
    return world_size / gcd(lanes, world_size)


class Stream:
    """Reads the train members of one shard folder for one rank. A tar's hash is checked whenever it is read.

    workers: processes that load groups of `shuffle_tars` tars ahead; 0 loads in the caller, where a group is due (from
    a URL: ahead, in threads). prefetch: groups under way per lane beside the one in use. length_window: places of a
    lane that are sorted by history length together (`lane.py`), 0 for none. prefix_run: prefixes of a record that stay
    together (`group.in_runs`), 1 for none; it excludes a length window. `bytes_read` counts the tars received.
    """

    def __init__(
        self,
        folder: str | Path,
        manifest: Manifest,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        *,
        workers: int = 0,
        prefetch: int = 1,
        length_window: int = 0,
        prefix_run: int = 1,
    ) -> None:
        if world_size < 1 or not 0 <= rank < world_size:
            raise ValueError(f"rank {rank} of {world_size} is impossible; ranks run from 0 to world_size - 1")
        if workers < 0 or prefetch < 1 or length_window < 0:
            raise ValueError(
                f"workers is {workers}, length_window {length_window} (both at least 0) and prefetch {prefetch} (at "
                "least 1); change what is too small"
            )
        if prefix_run < 1 or (prefix_run > 1 and length_window):
            raise ValueError(
                f"prefix_run is {prefix_run} and length_window {length_window}: a run has at least 1 prefix, and its "
                "prefixes are not of like lengths, so set one of the two only"
            )
        if not manifest.num_samples:
            raise ValueError(f"{folder} has no training samples; build it with train data sets")
        self.folder, self.manifest, self.seed = folder, manifest, seed
        self.rank, self.world_size = rank, world_size
        self.workers, self.prefetch = workers, prefetch
        self.length_window, self.prefix_run = length_window, prefix_run
        self.lanes = _lanes(folder, manifest)
        self.lengths = [sum(part.tar.samples for part in lane) for lane in self.lanes]
        self.bytes_read = 0

    @property
    def slots_per_epoch(self) -> int:
        """Slots of one epoch, fillers included: lanes x samples of the longest lane."""
        return self.manifest.lanes * max(self.lengths)

    def start(self) -> Position:
        """The first position of the first epoch."""
        return Position(seed=self.seed, length_window=self.length_window, prefix_run=self.prefix_run)

    def batches(self, position: Position, global_batch_size: int) -> Batches:
        """From `position` to the end of its epoch: (position after the batch, THIS rank's entries in slot order).

        Every rank gets equally many batches and equally many entries in each: `global_batch_size / world_size`, fewer
        in the last one. None is a filler of weight zero. After the last batch the position is slot 0 of the next epoch.
        ValueError when the batch size does not divide, or the position belongs to another seed or length window or lies
        outside. Closing the iterator ends its worker processes; RuntimeError when one of them dies.
        """
        if global_batch_size < 1 or global_batch_size % self.world_size:
            raise ValueError(
                f"global_batch_size {global_batch_size} must be a positive multiple of the {self.world_size} ranks"
            )
        if position.seed != self.seed:
            raise ValueError(f"the position has seed {position.seed}, the stream {self.seed}; give both the same seed")
        for name in ("length_window", "prefix_run"):
            theirs, ours = getattr(position, name), getattr(self, name)
            if theirs != ours:
                raise ValueError(f"the position has {name} {theirs}, the stream {ours}; give both the same")
        end = self.slots_per_epoch
        if position.slot >= end:
            raise ValueError(
                f"position: slot {position.slot} is outside the epoch's {end} slots; are these other shards?"
            )
        return self._batches(position, global_batch_size, end)

    def _batches(self, position: Position, size: int, end: int) -> Batches:
        with closing(Loader(self.workers, is_remote(self.folder))) as loader:
            lanes = self._open_lanes(position, loader)
            for start in range(position.slot, end, size):
                stop = min(start + size, end)
                # The last batch is rounded up to the world size, so that every rank has as many entries.
                padded = start + -(-(stop - start) // self.world_size) * self.world_size
                first = start + (self.rank - start) % self.world_size
                entries: list[Sample | None] = []
                for slot in range(first, padded, self.world_size):
                    k, number = divmod(slot, self.manifest.lanes)
                    entries.append(lanes[number].sample(k, slot) if slot < end else None)
                epoch, slot = (position.epoch, stop) if stop < end else (position.epoch + 1, 0)
                yield Position(self.seed, epoch, slot, self.length_window, self.prefix_run), entries

    def _open_lanes(self, position: Position, loader: Loader) -> dict[int, Lane]:
        """This rank's lanes in that epoch; where there is somebody to load ahead, they begin at once."""
        shuffle_tars, shortest = self.manifest.shuffle_tars, min(self.lengths)
        epoch = Epoch(self.seed, position.epoch, shuffle_tars, self.length_window, shortest)
        shared = gcd(self.manifest.lanes, self.world_size)
        lanes = {}
        for number in range(self.rank % shared, self.manifest.lanes, shared):
            prefetch = self.prefetch if loader.loads_ahead else 0
            lane = Lane(epoch, number, self.lanes[number], self._begin(loader, position.epoch, number), prefetch)
            lane.announce(-(-(position.slot - number) // self.manifest.lanes))
            lanes[number] = lane
        return lanes

    def _begin(self, loader: Loader, epoch: int, lane: int) -> Begin:
        def begin(tars: Sequence[LaneTar], group: int):
            wait = loader.begin(self.folder, tars, self.seed, epoch, lane, group, self.prefix_run)

            def received() -> Group:
                loaded = wait()
                self.bytes_read += loaded.bytes_read
                return loaded

            return received

        return begin


def _lanes(folder: str | Path, manifest: Manifest) -> list[list[LaneTar]]:
    """The tars of each lane, in the manifest's order."""
    lanes: list[list[LaneTar]] = [[] for _ in range(manifest.lanes)]
    for member in manifest.train_members:
        for tar in member.tars:
            if not 0 <= tar.lane < manifest.lanes:
                raise ValueError(
                    f"{folder}/{MANIFEST_FILE}: {tar.file} is in lane {tar.lane} of {manifest.lanes}; build the shards "
                    "again"
                )
            lanes[tar.lane].append(LaneTar(tar, member.name, member.num_items, member.row_offset))
    return lanes
