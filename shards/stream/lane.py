"""One lane of the stream in one epoch: which sample stands at which place.

Enter the tars of a lane and (seed, epoch, lane); leave samples by place. It must hold that the order is a function of
these, and of the length window where there is one, alone: how and when a group of tars was loaded changes nothing.

Length windows. `length_window` consecutive places are sorted by history length, the same places in every lane. Every
lane is a random share of the same records, so place j of a sorted window has nearly the same length in all lanes; then
the places are permuted in blocks of LENGTH_BLOCK, by one permutation FOR ALL LANES. The slots of a global batch are a
few places over all lanes, hence alike in length, and no rank has read another's lanes to know it.
"""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import NamedTuple

import numpy as np

from shards.counters import generator
from shards.records import Sample
from shards.stream.group import Group, LaneTar

Begin = Callable[[Sequence[LaneTar], int], Callable[[], Group]]

# Places that stay together in a length window: that many times the lanes samples in a row are alike, and a batch of up
# to as many mostly comes from one block. Part of the order: another number is another order.
LENGTH_BLOCK = 32


class Epoch(NamedTuple):
    """What decides the order of all lanes in an epoch. shortest: samples of the lane that has fewest."""

    seed: int
    number: int
    shuffle_tars: int
    length_window: int
    shortest: int


def length_order(lengths: np.ndarray, common: int, seed: int, epoch: int, window: int) -> np.ndarray:
    """The order of one lane's samples of one window: `order[j]` is the sample at place j of the window.

    lengths: (M,) history lengths, in the shuffled order. common: places of this window that every lane fills; what
    lies behind the last whole block of them stays last, where the lanes no longer agree.
    """
    by_length = np.argsort(lengths, kind="stable")
    blocks = common // LENGTH_BLOCK
    places = np.arange(len(lengths))
    block_order = generator(seed, "length-blocks", epoch, window).permutation(blocks)
    together = blocks * LENGTH_BLOCK
    places[:together] = places[:together].reshape(blocks, LENGTH_BLOCK)[block_order].ravel()
    return by_length[places]


class Lane:
    """The samples of one lane in one epoch, read forward.

    It holds the groups of tars that its current window touches (one where there is no length window) and, where
    `prefetch` is above 0, has that many more on their way. `begin(tars, group)` starts loading a group and returns the
    call that waits for it.
    """

    def __init__(self, epoch: Epoch, number: int, tars: Sequence[LaneTar], begin: Begin, prefetch: int) -> None:
        self.epoch = epoch
        permuted = [tars[row] for row in generator(epoch.seed, "tars", epoch.number, number).permutation(len(tars))]
        step = epoch.shuffle_tars
        self.groups = [permuted[start : start + step] for start in range(0, len(tars), step)]
        self.starts = [0, *accumulate(sum(part.tar.samples for part in group) for group in self.groups)]
        self.begin, self.prefetch = begin, prefetch
        self.coming: dict[int, Callable[[], Group]] = {}
        self.held: dict[int, Group] = {}
        self.start = self.stop = 0
        self.order = np.empty(0, dtype=np.int64)

    def __len__(self) -> int:
        return self.starts[-1]

    def announce(self, k: int) -> None:
        """Starts loading what sample `k` will need, where there is prefetch at all."""
        if self.prefetch and k < len(self):
            first = self._group_of(self._window_of(k)[0])
            self._begin_ahead(first, first + self.prefetch)

    def sample(self, k: int, slot: int) -> Sample | None:
        """Sample `k` of the lane, or None behind its end."""
        if k >= len(self):
            return None
        if not self.start <= k < self.stop:
            self._enter(k)
        place = self.start + int(self.order[k - self.start])
        number = self._group_of(place)
        group, row = self.held[number], place - self.starts[number]
        record, prefix_end = group.record[row], int(group.prefix_end[row])
        first = int(group.offsets[record])
        history = group.items[first : first + prefix_end]
        return Sample(group.keys[record], prefix_end, history, int(group.items[first + prefix_end]), slot)

    def _group_of(self, place: int) -> int:
        return bisect_right(self.starts, place) - 1

    def _window_of(self, k: int) -> tuple[int, int]:
        """First place of the window of sample `k` and the first behind it; without windows, those of its group."""
        if not self.epoch.length_window:
            group = self._group_of(k)
            return self.starts[group], self.starts[group + 1]
        start = k - k % self.epoch.length_window
        return start, min(start + self.epoch.length_window, len(self))

    def _enter(self, k: int) -> None:
        self.start, self.stop = self._window_of(k)
        first, last = self._group_of(self.start), self._group_of(self.stop - 1)
        for group in [group for group in self.held if group < first]:
            del self.held[group]
        if self.prefetch:
            self._begin_ahead(first, last + 1 + self.prefetch)
        for group in range(first, last + 1):
            if group not in self.held:
                take = self.coming.pop(group, None) or self.begin(self.groups[group], group)
                self.held[group] = take()
        if not self.epoch.length_window:
            self.order = np.arange(self.stop - self.start)
            return
        lengths = np.concatenate([self.held[group].prefix_end for group in range(first, last + 1)])
        inside = lengths[self.start - self.starts[first] :][: self.stop - self.start]
        common = max(0, min(self.epoch.shortest, self.stop) - self.start)
        window = self.start // self.epoch.length_window
        self.order = length_order(inside, common, self.epoch.seed, self.epoch.number, window)

    def _begin_ahead(self, first: int, stop: int) -> None:
        for group in range(first, min(stop, len(self.groups))):
            if group not in self.held and group not in self.coming:
                self.coming[group] = self.begin(self.groups[group], group)
