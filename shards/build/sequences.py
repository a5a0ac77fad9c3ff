"""Sequences: cleaned interactions of whole users, and which part of each is history, validation and test target.

Enters the sorted `events.parquet` of `clean.py`; leaves arrays for a few thousand users at a time, laid end to end,
oldest first: `offsets` int64 (U+1,), values (E,); and for each interaction HISTORY, VALID, TEST or UNUSED. It must hold
that a user is never cut in two, that memory is bounded by a batch (and by the longest sequence), that a held-out user
has exactly one VALID and one TEST, both behind its whole HISTORY, and that nothing behind a target is ever used.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

BATCH = 1 << 20


@dataclass(frozen=True)
class Sequences:
    """U users in the order of their codes: `users` int32 (U,), `offsets` int64 (U+1,), `items` int32 and `times` (E,).

    Sequence n is `items[offsets[n]:offsets[n+1]]`, oldest first.
    """

    users: np.ndarray
    offsets: np.ndarray
    items: np.ndarray
    times: np.ndarray


def read_sequences(events: Path, chosen: np.ndarray, batch: int = BATCH) -> Iterator[Sequences]:
    """All sequences of the users that `chosen` (bool, by user code) marks, in order."""
    held: list[np.ndarray] = [np.empty(0, np.int64)] * 3
    with pq.ParquetFile(events) as file:
        for part in file.iter_batches(batch_size=batch, columns=["user", "item", "time"]):
            arrays = [part.column(name).to_numpy() for name in ("user", "item", "time")]
            keep = chosen[arrays[0]]
            held = [np.concatenate([old, new[keep]]) for old, new in zip(held, arrays, strict=True)]
            if len(held[0]) == 0:
                continue
            # The last user may go on in the next batch.
            whole = int(np.searchsorted(held[0], held[0][-1]))
            if whole:
                yield _sequences(*(array[:whole] for array in held))
                held = [array[whole:] for array in held]
    if len(held[0]):
        yield _sequences(*held)


def _sequences(users: np.ndarray, items: np.ndarray, times: np.ndarray) -> Sequences:
    starts = np.flatnonzero(np.diff(users, prepend=-1))
    return Sequences(
        users=users[starts].astype(np.int32),
        offsets=np.append(starts, len(users)).astype(np.int64),
        items=items.astype(np.int32),
        times=times,
    )


HISTORY, VALID, TEST, UNUSED = 0, 1, 2, 3
MIN_LENGTH = 3
MAX_SHARE_SORTED = 0.95
# Fewer ties may be in the order of the ids by chance: 19 of 20 are in two of 100,000 sources.
MIN_TIES = 20


def leave_one_out(offsets: np.ndarray) -> np.ndarray:
    """Parts int8 (E,): the last item is TEST, the second last VALID. Every user must have three items."""
    assert len(offsets) == 1 or int(np.diff(offsets).min()) >= MIN_LENGTH, "shorter users were removed before"
    parts = np.full(int(offsets[-1]), HISTORY, dtype=np.int8)
    parts[offsets[1:] - 1] = TEST
    parts[offsets[1:] - 2] = VALID
    return parts


def split_at(offsets: np.ndarray, times: np.ndarray, moment: int) -> np.ndarray:
    """Parts int8 (E,) of a split at one moment: times int64 (E,), ascending within a user.

    A user with two items before the moment and one at or after it is held out: TEST is the first item at or after it,
    VALID the last one before it. Of all other users what lies before the moment is training history. Later items are
    UNUSED: nothing that happened after the moment is ever trained on.
    """
    users = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    after = times >= moment
    before_U = np.bincount(users, weights=~after, minlength=len(offsets) - 1).astype(np.int64)
    parts = np.where(after, UNUSED, HISTORY).astype(np.int8)
    held_out = (before_U >= MIN_LENGTH - 1) & (before_U < np.diff(offsets))
    first_after = offsets[:-1][held_out] + before_U[held_out]
    parts[first_after] = TEST
    parts[first_after - 1] = VALID
    return parts


def ascending(offsets: np.ndarray, ranks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(is ascending, says something) bool (U,): whether `ranks` (E,) never fall within a user, and ever change."""
    users = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    steps = np.diff(ranks.astype(np.int64))
    within = users[1:] == users[:-1]
    falls = np.bincount(users[1:], weights=within & (steps < 0), minlength=len(offsets) - 1) > 0
    moves = np.bincount(users[1:], weights=within & (steps != 0), minlength=len(offsets) - 1) > 0
    return ~falls & moves, moves


def follow_ids(ties: int, in_order: int) -> bool:
    """Whether a source has its ties of time in the order of the ids: `in_order` of so many neighbours are."""
    return ties >= MIN_TIES and in_order >= MAX_SHARE_SORTED * ties


def ties_by_rank(offsets: np.ndarray, times: np.ndarray, ranks: np.ndarray) -> np.ndarray:
    """`ranks` (E,) of sequences in the order of time, those of one moment rising."""
    users = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    return ranks[np.lexsort((ranks, times, users))]


def check_not_sorted_by_id(name: str, share: float, allow: bool) -> None:
    """ValueError when nearly every sequence is in the order of its item ids, unless `allow` (fault 2)."""
    if share >= MAX_SHARE_SORTED and not allow:
        raise ValueError(
            f"{name}: {share:.1%} of the users have their items in the order of the item ids, so the order is not "
            "chronological; bring the sequences into the order of time, or set allow_sorted_by_id=True"
        )
