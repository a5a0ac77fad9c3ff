"""The exact bytes of a tar of records: one USTAR member `<key>.json` a record, {"user": ..., "items": [...]}.

Enter records, leave bytes, and the other way round. It must hold that equal records give equal bytes, those that
WebDataset's TarWriter writes (user and group "shards", time 0), and that whatever is not such a tar is refused by
name: nothing is guessed and nothing is skipped. WebDataset, `tar` and a person can read the files; this code only
does both many times faster, for it knows that every member is alike.
"""

import hashlib
import re
import tarfile
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np
import orjson

from shards.config import NAME_PATTERN
from shards.files.store import read_bytes
from shards.manifest import Tar

KEY_PATTERN = re.compile(rf"(?P<member>{NAME_PATTERN.pattern})/[0-9]{{9,20}}")
SUFFIX = ".json"
_NAME, _SIZE, _CHECKSUM, _TYPE, _LINK, _MAGIC, _PREFIX = 0, 124, 148, 156, 157, 257, 345
_REGULAR, _USTAR = b"0", b"ustar\x0000"


class Records(NamedTuple):
    """R records: `items[offsets[r]:offsets[r + 1]]` (int32, offsets int64 (R + 1,)) is the history of `keys[r]`."""

    keys: list[str]
    offsets: np.ndarray
    items: np.ndarray


def _template() -> bytes:
    """A header without name and size, its checksum field blank, as the checksum itself is defined."""
    info = tarfile.TarInfo()
    info.mode, info.uname, info.gname = 0o444, "shards", "shards"
    header = info.tobuf(tarfile.USTAR_FORMAT)
    return header[:_CHECKSUM] + b" " * 8 + header[_TYPE:]


_HEADER = _template()
_HEADER_SUM = sum(_HEADER) - sum(_HEADER[_SIZE : _SIZE + 11])


def record_bytes(key: str, user: str, items: Sequence[int] | np.ndarray) -> bytes:
    """The tar member of one record, header and padding included. ValueError for text that is not Unicode."""
    name = (key + SUFFIX).encode("ascii")
    assert len(name) <= 100, "a key is a short category and a number"
    try:
        body = orjson.dumps({"user": user, "items": items}, option=orjson.OPT_SERIALIZE_NUMPY)
    except TypeError as error:
        raise ValueError(f"{key}: user {user!r} or its items cannot be written ({error}); mend the input") from error
    size = b"%011o" % len(body)
    checksum = _HEADER_SUM + sum(name) + sum(size)
    head = b"%b%b%b\x00%b%06o\x00 " % (
        name.ljust(100, b"\x00"),
        _HEADER[100:_SIZE],
        size,
        _HEADER[_SIZE + 12 : _CHECKSUM],
        checksum,
    )
    return head + _HEADER[_TYPE:] + body + bytes(-len(body) % tarfile.BLOCKSIZE)


def end_bytes(length: int) -> bytes:
    """What ends a tar whose members take `length` bytes: two blocks of zeros, then zeros up to a full tape record."""
    end = 2 * tarfile.BLOCKSIZE
    return bytes(end + -(length + end) % tarfile.RECORDSIZE)


def read_tar(folder: str | Path, tar: Tar, category: str, num_items: int) -> tuple[Records, int]:
    """The records of one tar of a category of `num_items` items, in its order, with LOCAL rows; and the bytes read.

    ValueError names a tar that is missing, is not the one of the manifest, or holds other than the manifest promises.
    """
    data = read_bytes(folder, tar.file)
    where = f"{folder}/{tar.file}"
    if hashlib.sha256(data).hexdigest() != tar.sha256:
        raise ValueError(f"{where} is not the file that the manifest names (wrong SHA-256); build the shards again")
    records = read_records(data, where)
    samples = len(records.items) - len(records.keys)
    if (len(records.keys), samples) != (tar.records, tar.samples):
        raise ValueError(
            f"{where} holds {len(records.keys)} records and {samples} samples, the manifest says {tar.records} and "
            f"{tar.samples}; build the shards again"
        )
    strangers = [key for key in records.keys if not key.startswith(f"{category}/")]
    if strangers:
        raise ValueError(f"{where} holds the record {strangers[0]}, which is not of {category}")
    if len(records.items) and int(records.items.max()) >= num_items:
        raise ValueError(
            f"{where} names item row {records.items.max()}, {category} has {num_items} items; build the shards again"
        )
    return records, len(data)


def read_records(data: bytes, where: str) -> Records:
    """The records of a whole tar in its order. ValueError naming `where` for anything but a tar of records."""
    starts, bodies = _members(data, where)
    keys = _keys(data, starts, where)
    items: list[list[int]] = []
    for key, body in zip(keys, bodies, strict=True):
        try:
            value = orjson.loads(body)
        except orjson.JSONDecodeError as error:
            raise ValueError(f"{where}: the body of {key}{SUFFIX} is not JSON ({error})") from error
        # Exact types: a bool is an int to isinstance.
        if (
            type(value) is not dict
            or value.keys() != {"user", "items"}
            or type(value["user"]) is not str
            or type(value["items"]) is not list
            or len(value["items"]) < 2
        ):
            raise ValueError(f'{where}: {key}{SUFFIX} is not {{"user": text, "items": [two rows or more]}}')
        items.append(value["items"])
    lengths = np.fromiter(map(len, items), dtype=np.int64, count=len(items))
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    if set(map(type, chain.from_iterable(items))) - {int}:
        raise ValueError(f"{where} holds items that are not integers")
    try:
        rows = np.fromiter(chain.from_iterable(items), dtype=np.int32, count=offsets[-1])
    except OverflowError as error:
        raise ValueError(f"{where} holds an item row beyond 31 bits ({error})") from error
    if len(rows) and rows.min() < 0:
        raise ValueError(f"{where} holds the item row {rows.min()}; rows start at 0")
    return Records(keys, offsets, rows)


def _members(data: bytes, where: str) -> tuple[np.ndarray, list[bytes]]:
    """Where the headers start, int64 (R,), and the bodies; every header has been checked."""
    block = tarfile.BLOCKSIZE
    if len(data) % block:
        raise ValueError(f"{where} is {len(data)} bytes, not whole blocks of {block}; it is truncated or no tar")
    starts, bodies, at = [], [], 0
    while at < len(data) and data[at]:
        size = data[at + _SIZE : at + _SIZE + 11]
        if not (size.isdigit() and b"8" not in size and b"9" not in size):
            raise ValueError(f"{where}: the member at byte {at} has no octal size; the tar is damaged")
        starts.append(at)
        body = at + block
        at = body + -(-int(size, 8) // block) * block
        bodies.append(data[body : body + int(size, 8)])
        if at > len(data):
            raise ValueError(f"{where} is truncated: the member at byte {starts[-1]} ends behind the file")
    if len(data) - at < 2 * block or data.count(0, at) != len(data) - at:
        raise ValueError(f"{where} does not end in two blocks of zeros at byte {at}; it is truncated or damaged")
    starts = np.array(starts, dtype=np.int64)
    blocks_RB = np.frombuffer(data, np.uint8).reshape(-1, block)[starts // block]
    field = slice(_CHECKSUM, _CHECKSUM + 8)
    sums = blocks_RB.sum(axis=1, dtype=np.int64) - blocks_RB[:, field].sum(axis=1, dtype=np.int64) + 8 * ord(" ")
    written = [bytes(row) for row in blocks_RB[:, field]]
    expected = [b"%06o\x00 " % total for total in sums.tolist()]
    wrong = [start for start, a, b in zip(starts.tolist(), written, expected, strict=True) if a != b]
    if wrong:
        raise ValueError(f"{where}: the header at byte {wrong[0]} has a wrong checksum; the tar is damaged")
    plain = (
        (blocks_RB[:, _TYPE] == ord(_REGULAR))
        & (blocks_RB[:, _LINK:_MAGIC] == 0).all(axis=1)
        & (blocks_RB[:, _MAGIC : _MAGIC + 8] == np.frombuffer(_USTAR, np.uint8)).all(axis=1)
        & (blocks_RB[:, _PREFIX:] == 0).all(axis=1)
    )
    if not plain.all():
        raise ValueError(f"{where}: the member at byte {starts[~plain][0]} is not a plain USTAR file")
    return starts, bodies


def _keys(data: bytes, starts: np.ndarray, where: str) -> list[str]:
    """The keys of the members. Their pattern leaves no room for a path out of the folder."""
    keys = []
    for start in starts.tolist():
        name = data[start : start + 100].rstrip(b"\x00").decode("latin-1")
        key = name.removesuffix(SUFFIX)
        if key == name or not KEY_PATTERN.fullmatch(key):
            raise ValueError(f"{where}: member {name!r} is not named <category>/<number>{SUFFIX}, inside the folder")
        keys.append(key)
    if len(set(keys)) != len(keys):
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"{where} holds the record {twice} twice")
    return keys
