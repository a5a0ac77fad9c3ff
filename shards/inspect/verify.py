"""Is this shard folder what its manifest says? Every byte is read.

Enters a shard folder (or URL); leaves its manifest, or a ValueError that names the first file that is not as promised,
and how. It must hold that nothing behind the first damage is trusted, and that a right hash is not taken for right
content: a tar may have been wrong when it was hashed.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from shards.files import store
from shards.manifest import MANIFEST_FILE, TOKENIZER_FOLDER, Manifest, Member
from shards.records import HOLDOUT_SCHEMA, ITEM_SCHEMA
from shards.tables import holdout_file, items_file, read_table
from shards.tars import read_tar
from shards.tokenizer import fingerprint, load_tokenizer


def verify(folder: str | Path, progress: Callable[[int, int], None] = lambda done, total: None) -> Manifest:
    """Checks paths, hashes, the tokenizer, the tables and every record; returns the manifest. ValueError: see above.

    `progress` is called with the files that are read and how many there are.
    """
    manifest = Manifest.load(folder)
    _check_layout(folder, manifest)
    made_with = fingerprint(load_tokenizer(store.local_copy(folder, TOKENIZER_FOLDER)))
    if made_with != manifest.tokenizer.fingerprint:
        raise ValueError(
            f"{folder}/{MANIFEST_FILE} is from another tokenizer than {folder}/{TOKENIZER_FOLDER} (fingerprint "
            f"{manifest.tokenizer.fingerprint[:12]}, not {made_with[:12]}); build the shards again"
        )
    done, total = 0, sum(len(member.files) + len(member.tars) for member in manifest.members)
    for member in manifest.members:
        for file, digest in member.files.items():
            if store.sha256(folder, file) != digest:
                raise ValueError(
                    f"{folder}/{file} is not the file that the manifest names (wrong SHA-256); build the shards again"
                )
        _check_items(folder, member, manifest.tokenizer.vocab_size)
        _check_holdout(folder, member)
        done += len(member.files)
        progress(done, total)
        for _ in _check_tars(folder, member):
            done += 1
            progress(done, total)
    return manifest


def _check_layout(folder: str | Path, manifest: Manifest) -> None:
    """Lanes, row offsets and file names fit together."""
    where, row_offset, seen = f"{folder}/{MANIFEST_FILE}", 0, set()
    for member in manifest.members:
        if member.row_offset != (row_offset if member.role == "train" else 0):
            raise ValueError(f"{where}: rows of {member.name} start at {member.row_offset}; build the shards again")
        row_offset += member.num_items if member.role == "train" else 0
        for file in (items_file(member.name), holdout_file(member.name)):
            if file not in member.files:
                raise ValueError(f"{where} has no SHA-256 of {file}; build the shards again")
        for tar in member.tars:
            if not 0 <= tar.lane < manifest.lanes:
                raise ValueError(
                    f"{where}: {tar.file} is in lane {tar.lane} of {manifest.lanes}; build the shards again"
                )
        for file in (*member.files, *(tar.file for tar in member.tars)):
            if file in seen:
                raise ValueError(f"{where} names {file} twice; build the shards again")
            seen.add(file)


def _check_items(folder: str | Path, member: Member, vocab_size: int) -> None:
    file = items_file(member.name)
    table = read_table(folder, file, ITEM_SCHEMA)
    if table.num_rows != member.num_items:
        raise ValueError(
            f"{folder}/{file} has {table.num_rows} rows, the manifest says {member.num_items}; build the shards again"
        )
    _check_range(f"{folder}/{file}: token ids", table.column("token_ids").combine_chunks().flatten(), vocab_size)


def _check_holdout(folder: str | Path, member: Member) -> None:
    file = holdout_file(member.name)
    table = read_table(folder, file, HOLDOUT_SCHEMA)
    for name, values in (
        ("history", table.column("history").combine_chunks().flatten()),
        ("valid", table.column("valid").combine_chunks()),
        ("test", table.column("test").combine_chunks()),
    ):
        _check_range(f"{folder}/{file}: rows in {name}", values, member.num_items)


def _check_range(column: str, values: pa.Array, stop: int) -> None:
    numbers = np.asarray(values, dtype=np.int64)
    if len(numbers) and (numbers.min() < 0 or numbers.max() >= stop):
        raise ValueError(f"{column} run from {numbers.min()} to {numbers.max()}, not inside 0 to {stop - 1}")


def _check_tars(folder: str | Path, member: Member) -> Iterator[None]:
    """Every tar is whole, and no record is in two. Yields after each tar."""
    numbers: list[np.ndarray] = []
    for tar in member.tars:
        records, size = read_tar(folder, tar, member.name, member.num_items)
        if size != tar.bytes:
            raise ValueError(f"{folder}/{tar.file} has {size} bytes, the manifest says {tar.bytes}; build it again")
        here = np.array([int(key.rpartition("/")[2]) for key in records.keys], dtype=np.int64)
        numbers.append(here)
        yield
    everywhere = np.concatenate([*numbers, np.empty(0, dtype=np.int64)])
    if len(np.unique(everywhere)) == len(everywhere):
        return
    seen: set[int] = set()
    for tar, here in zip(member.tars, numbers, strict=True):
        if not seen.isdisjoint(here.tolist()):
            again = min(seen.intersection(here.tolist()))
            raise ValueError(f"{folder}/{tar.file} holds the record {member.name}/{again:09d} of another tar again")
        seen.update(here.tolist())
