"""The tables of a shard folder in memory: items and held-out users.

Enter a shard folder (or URL) and its manifest; leave NumPy arrays and lists. It must hold that row `i` of the table is
the row `i` of the stream: rows of the Fusion for all train members together, local rows for one member.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from shards.files.store import is_remote, local_path, read_bytes
from shards.manifest import Manifest, Member
from shards.records import HOLDOUT_SCHEMA, ITEM_SCHEMA

FUSION = "train"


@dataclass(frozen=True)
class ItemTable:
    """N items. `offsets` is int64 (N+1,): the tokens of row i are `token_ids[offsets[i]:offsets[i+1]]` (int32, no EOS).

    `members` gives the half-open range of rows of each category.
    """

    items: list[str]
    texts: list[str]
    token_ids: np.ndarray
    offsets: np.ndarray
    members: Mapping[str, tuple[int, int]]

    def __len__(self) -> int:
        return len(self.items)

    @property
    def num_items(self) -> int:
        return len(self.items)

    def tokens(self, row: int) -> np.ndarray:
        """Token ids of the text of `row`: int32, without EOS, not cut."""
        return self.token_ids[self.offsets[row] : self.offsets[row + 1]]

    def take(self, rows: Sequence[int] | np.ndarray) -> "ItemTable":
        """A table of these rows, in this order; it has no categories."""
        tokens = [self.tokens(row) for row in rows]
        return ItemTable(
            items=[self.items[row] for row in rows],
            texts=[self.texts[row] for row in rows],
            token_ids=np.concatenate([np.zeros(0, dtype=np.int32), *tokens]),
            offsets=np.cumsum([0, *map(len, tokens)]),
            members={},
        )


@dataclass(frozen=True)
class Holdout:
    """N users of one category, rows LOCAL, int32: `histories[n]` is `sequence[:-2]`, `valid` and `test` are (N,)."""

    records: list[str]
    users: list[str]
    histories: list[np.ndarray]
    valid: np.ndarray
    test: np.ndarray

    def __len__(self) -> int:
        return len(self.users)


def items_file(name: str) -> str:
    """Path of a member's item table inside the shard folder."""
    return f"{name}/items.arrow"


def holdout_file(name: str) -> str:
    """Path of a member's held-out users inside the shard folder."""
    return f"{name}/holdout.arrow"


def load_items(folder: str | Path, manifest: Manifest, which: str = FUSION) -> ItemTable:
    """The item table of the Fusion (`which="train"`: all train members, by row_offset) or of the one member named.

    ValueError names the file that is missing or damaged.
    """
    members = manifest.train_members if which == FUSION else (manifest.member(which),)
    if not members:
        raise ValueError(f"{folder} has no train data set; give `train` folders to the build")
    tables, ranges, start = [], {}, 0
    for member in members:
        table = read_table(folder, items_file(member.name), ITEM_SCHEMA)
        if table.num_rows != member.num_items:
            raise ValueError(
                f"{folder}/{items_file(member.name)} has {table.num_rows} rows, the manifest says {member.num_items}; "
                "build the shards again"
            )
        assert which != FUSION or member.row_offset == start, "row offsets follow the order of the members"
        ranges[member.name] = (start, start + table.num_rows)
        start += table.num_rows
        tables.append(table)
    token_ids = pa.concat_tables(tables).column("token_ids").combine_chunks()
    lengths = np.asarray(token_ids.value_lengths())
    return ItemTable(
        items=[item for table in tables for item in table.column("item").to_pylist()],
        texts=[text for table in tables for text in table.column("text").to_pylist()],
        token_ids=np.asarray(token_ids.flatten(), dtype=np.int32),
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        members=ranges,
    )


def load_holdout(folder: str | Path, member: Member | str) -> Holdout:
    """The held-out users of one member, in the order of their records; ValueError names a missing or damaged file."""
    name = member if isinstance(member, str) else member.name
    table = read_table(folder, holdout_file(name), HOLDOUT_SCHEMA)
    history = table.column("history").combine_chunks()
    ends = np.cumsum(np.asarray(history.value_lengths()))[:-1]
    return Holdout(
        records=table.column("record").to_pylist(),
        users=table.column("user").to_pylist(),
        histories=np.split(np.asarray(history.flatten(), dtype=np.int32), ends) if table.num_rows else [],
        valid=table.column("valid").to_numpy().astype(np.int32),
        test=table.column("test").to_numpy().astype(np.int32),
    )


def read_table(folder: str | Path, file: str, schema: pa.Schema) -> pa.Table:
    """One Arrow IPC file of that schema in a folder or URL; ValueError names a missing or damaged file."""
    try:
        if is_remote(folder):
            table = pa.ipc.open_file(pa.BufferReader(read_bytes(folder, file))).read_all()
        else:
            with pa.memory_map(str(local_path(folder, file))) as source:
                table = pa.ipc.open_file(source).read_all()
    except (pa.ArrowInvalid, OSError) as error:
        raise ValueError(f"{folder}/{file} is damaged ({error}); build the shards again") from error
    if not table.schema.equals(schema):
        raise ValueError(f"{folder}/{file} has other columns than {', '.join(schema.names)}; build the shards again")
    return table
