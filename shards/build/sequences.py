"""Sequences: cleaned interactions read back in batches of whole users.

Enters the sorted `events.parquet` of `clean.py`; leaves arrays for a few thousand users at a time. It must hold that a
user is never cut in two and that memory is bounded by a batch (and by the longest sequence).
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
