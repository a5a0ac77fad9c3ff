"""Writing one member of a shard folder: item table, held-out users and tars.

Enter rows and token ids; leave files with their hashes. It must hold that identical input gives identical bytes: fixed
times and owners in the tars, no clock and no path in any file. `Lanes` deals the records, across members.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from shards.manifest import Tar, file_sha256
from shards.records import HOLDOUT_SCHEMA, ITEM_SCHEMA


class Lanes:
    """Deals records to lanes: each to the lane with the fewest samples so far (the lowest of equals).

    `totals` is the number of samples of each lane; it lives on from member to member, so that the lanes stay level.
    """

    def __init__(self, lanes: int) -> None:
        self.totals = [0] * lanes

    def deal(self, num_samples: int) -> int:
        """The lane of the next record, which has `num_samples` samples."""
        lane = self.totals.index(min(self.totals))
        self.totals[lane] += num_samples
        return lane


def write_items(path: Path, items: Sequence[str], texts: Sequence[str], token_ids: Sequence[Sequence[int]]) -> None:
    """The item table, an Arrow IPC file of ITEM_SCHEMA: one row per item."""
    _write_arrow(path, pa.table([list(items), list(texts), list(token_ids)], schema=ITEM_SCHEMA))


def write_holdout(
    path: Path,
    records: Sequence[str],
    users: Sequence[str],
    histories: Sequence[Sequence[int]],
    valid: Sequence[int],
    test: Sequence[int],
) -> None:
    """The held-out users, an Arrow IPC file of HOLDOUT_SCHEMA: one row per user, rows local to the member."""
    columns = [list(records), list(users), list(histories), list(valid), list(test)]
    _write_arrow(path, pa.table(columns, schema=HOLDOUT_SCHEMA))


def write_tars(
    folder: Path,
    name: str,
    records: Sequence[str],
    users: Sequence[str],
    histories: Sequence[Sequence[int]],
    lanes: Lanes,
    records_per_tar: int,
) -> tuple[Tar, ...]:
    """Writes `folder/<name>/train-LLLL-NNNNNN.tar` and returns them by lane and number.

    histories: local rows, oldest first. A record of one item has no sample and goes into no tar.
    """
    from webdataset.writer import TarWriter

    dealt: dict[int, list[int]] = {}
    for row, history in enumerate(histories):
        if len(history) > 1:
            dealt.setdefault(lanes.deal(len(history) - 1), []).append(row)
    tars = []
    for lane in sorted(dealt):
        for number, start in enumerate(range(0, len(dealt[lane]), records_per_tar)):
            rows = dealt[lane][start : start + records_per_tar]
            file = f"{name}/train-{lane:04d}-{number:06d}.tar"
            with (
                open(folder / file, "wb") as stream,
                TarWriter(stream, user="shards", group="shards", mtime=0, encoder=False) as writer,
            ):
                for row in rows:
                    value = {"user": users[row], "items": list(histories[row])}
                    body = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
                    writer.write({"__key__": records[row], "json": body})
            samples = sum(len(histories[row]) - 1 for row in rows)
            tars.append(Tar(file, lane, len(rows), samples, file_sha256(folder / file)))
    return tuple(tars)


def _write_arrow(path: Path, table: pa.Table) -> None:
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
