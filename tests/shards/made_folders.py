"""Shard folders made by hand, without a build: exactly the records, lanes and tars that a test wants."""

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from shards.manifest import Manifest, Member, Tar, TokenizerInfo
from shards.records import HOLDOUT_SCHEMA, ITEM_SCHEMA, record_key
from shards.tables import holdout_file, items_file
from shards.tars import end_bytes, record_bytes

Histories = dict[str, list[list[int]]]


def histories(seed: int, users: int, num_items: int = 50, longest: int = 12, names=("Garden", "Kitchen")) -> Histories:
    """Random histories of local rows for each category, many short and few long."""
    draw = np.random.default_rng(seed)
    return {
        name: [
            draw.integers(0, num_items, size=int(min(longest, 1 + draw.geometric(0.3)))).tolist() for _ in range(users)
        ]
        for name in names
    }


def tar_bytes(records: list[tuple[str, str, list[int]]]) -> bytes:
    body = b"".join(record_bytes(*record) for record in records)
    return body + end_bytes(len(body))


def make_shards(
    folder: Path, data: Histories, lanes: int = 3, records_per_tar: int = 4, shuffle_tars: int = 2, num_items: int = 50
) -> Manifest:
    """Writes tars and tables of those histories into `folder`, and the manifest, which it returns."""
    totals, members = [0] * lanes, []
    for name, sequences in data.items():
        (folder / name).mkdir(parents=True)
        dealt: list[list[tuple[str, str, list[int]]]] = [[] for _ in range(lanes)]
        for number, items in enumerate(sequences):
            if len(items) > 1:
                lane = totals.index(min(totals))
                totals[lane] += len(items) - 1
                dealt[lane].append((record_key(name, number), f"user {number}", items))
        tars = []
        for lane, records in enumerate(dealt):
            for number, start in enumerate(range(0, len(records), records_per_tar)):
                file, part = f"{name}/train-{lane:04d}-{number:06d}.tar", records[start : start + records_per_tar]
                (folder / file).write_bytes(tar_bytes(part))
                tars.append(described(folder, file, lane, part))
        items = pa.table(
            [[f"{name}/{row}" for row in range(num_items)], ["text"] * num_items, [[3, 4]] * num_items],
            schema=ITEM_SCHEMA,
        )
        keys = [record_key(name, number) for number in range(len(sequences))]
        last = np.zeros(len(sequences), dtype=np.int32)
        holdout = pa.table([keys, keys, sequences, last, last], schema=HOLDOUT_SCHEMA)
        for file, table in ((items_file(name), items), (holdout_file(name), holdout)):
            with pa.OSFile(str(folder / file), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
                writer.write_table(table)
        members.append(
            Member(
                name=name,
                role="train",
                source="plain",
                num_users=len(sequences),
                num_items=num_items,
                num_interactions=sum(len(items) + 2 for items in sequences),
                row_offset=num_items * len(members),
                share_sorted_by_id=0.0,
                tars=tuple(tars),
                files={file: digest(folder, file) for file in (items_file(name), holdout_file(name))},
                inputs={},
                cleaning={},
            )
        )
    manifest = Manifest(TokenizerInfo("none", 128), lanes, shuffle_tars, 0, tuple(members))
    manifest.save(folder)
    return manifest


def described(folder: Path, file: str, lane: int, records: list[tuple[str, str, list[int]]]) -> Tar:
    """The manifest's line for a tar that has been written."""
    size = (folder / file).stat().st_size
    samples = sum(len(items) - 1 for _, _, items in records)
    return Tar(file=file, lane=lane, records=len(records), samples=samples, bytes=size, sha256=digest(folder, file))


def digest(folder: Path, file: str) -> str:
    return hashlib.sha256((folder / file).read_bytes()).hexdigest()


def with_tar(folder: Path, manifest: Manifest, member: int, tar: int, **changes) -> Manifest:
    """The manifest with some fields of one tar replaced; saved in `folder` too."""
    changed = manifest.members[member]
    tars = list(changed.tars)
    tars[tar] = replace(tars[tar], **changes)
    members = list(manifest.members)
    members[member] = replace(changed, tars=tuple(tars))
    manifest = replace(manifest, members=tuple(members))
    manifest.save(folder)
    return manifest
