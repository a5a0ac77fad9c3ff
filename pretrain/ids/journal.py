"""What an ID job has decoded so far, on disk: lists of candidates, and nothing else.

Enters: (row, attempt, candidates) of each wave. Leaves: one Arrow file per rank and wave in a folder named after the
job's identity. Must hold: a file is there whole or not at all; a job that is killed anywhere and started again, on any
number of ranks, decodes nothing anew but what was in flight.

Lists are pure and Algorithm 1's result depends on the lists alone, so that who holds what need not be saved: it is
settled anew, which takes seconds.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from pretrain.ids.assign import Candidate
from shards.files.atomic import whole

SCHEMA = pa.schema([("row", pa.int64()), ("attempt", pa.int32()), ("candidates", pa.list_(pa.binary()))])


class Written(NamedTuple):
    """What the generator wrote for an item in one attempt."""

    row: int
    attempt: int
    candidates: list[Candidate]


class Journal:
    """The journal of one rank in `folder`, shared by all ranks; `identity` names all that the lists depend on."""

    def __init__(self, folder: Path, identity: str, rank: int) -> None:
        self.folder, self.rank = folder / identity[:16], rank
        self.folder.mkdir(parents=True, exist_ok=True)
        self.files = sorted(self.folder.glob("wave-*.arrow"))
        self.wave = 1 + max((int(file.stem.split("-")[1]) for file in self.files), default=-1)

    def read(self) -> Iterator[Written]:
        """All that was there when the journal was opened, an item's attempts in order."""
        for file in self.files:
            with pa.memory_map(str(file)) as source:
                table = pa.ipc.open_file(source).read_all()
            columns = (table.column(name).to_pylist() for name in SCHEMA.names)
            yield from map(Written._make, zip(*columns, strict=True))

    def write(self, entries: list[Written]) -> None:
        """Add a wave; it is on the disk when this returns."""
        final = self.folder / f"wave-{self.wave:06d}-rank-{self.rank:05d}.arrow"
        self.wave += 1
        if not entries:
            return
        columns = (
            pa.array(column, field.type) for column, field in zip(zip(*entries, strict=True), SCHEMA, strict=True)
        )
        with whole(final) as sink, pa.ipc.new_file(sink, SCHEMA) as writer:
            writer.write_table(pa.Table.from_arrays(list(columns), schema=SCHEMA))


def discard(folder: Path) -> None:
    """Remove the journals of a job whose book is saved."""
    shutil.rmtree(folder, ignore_errors=True)
