"""The plain layout: `user_sequence.txt(.gz)` and `item_plain_text.txt(.gz)` in one folder.

Enters a folder whose data are already cleaned: `user item item ...` (oldest first) and `item field: value; field: ...`,
one per line, UTF-8; leave frames of EVENT_SCHEMA and TEXT_SCHEMA in the order of the files, the time of an interaction
being its place in the line. It must hold that users and items are unique; nothing is forgiven, errors name file and
line.
"""

import io
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import NoReturn

import numpy as np
import polars as pl

from shards.readers.events import EVENT_SCHEMA, LINES_AT_ONCE, TEXT_SCHEMA
from shards.readers.lines import TOO_LONG, Batch, TooLong, read_batches
from shards.readers.rejects import Rejects

SEQUENCE_FILE = "user_sequence.txt"
TEXT_FILE = "item_plain_text.txt"

# ASCII lines whose words are parted by one space each can be split all at once.
_UNEVEN = re.compile(rb"[\x00-\x09\x0b-\x1f]|  |\n | \n|\n\n")


def read_plain_events(path: Path, rejects: Rejects) -> Iterator[pl.DataFrame]:
    """Sequences of one item or more. ValueError for a user who comes twice and for a file without users."""
    users = _Unique(path, "user")
    for batch in read_batches(path, _too_long(path)):
        even = _split_evenly(batch)
        for frame in _split_each(batch, path) if even is None else (even,):
            users.add(frame["user"])
            rejects.count(path, frame.height)
            yield _events(frame)
    if not users.count():
        raise ValueError(f"{path}: no users; write one line `user item item ...` per user")


def read_plain_items(path: Path, rejects: Rejects) -> Iterator[pl.DataFrame]:
    """Item texts as they stand. ValueError for an item that comes twice or has no text, and for less than two items."""
    known = _Unique(path, "item")
    for batch in read_batches(path, _too_long(path)):
        lines = _texts(batch, path)
        while block := list(islice(lines, LINES_AT_ONCE)):
            frame = pl.DataFrame([_item(path, *line) for line in block], schema=TEXT_SCHEMA, orient="row")
            known.add(frame["item"])
            rejects.count(path, frame.height)
            yield frame
    count = known.count()
    if count < 2:
        raise ValueError(f"{path}: a catalogue of {count} item(s) leaves nothing to rank; give at least two")


def _split_evenly(batch: Batch) -> pl.DataFrame | None:
    """user, items of each line; None where lines are not plain enough for that."""
    data = batch.data.replace(b"\r\n", b"\n")
    if not data.isascii() or data[:1] in b" \n" or _UNEVEN.search(data):
        return None
    lines = pl.read_csv(
        io.BytesIO(data), has_header=False, schema={"line": pl.String}, separator="\x1f", quote_char=None
    )
    words = pl.col("line").str.split(" ")
    frame = lines.select(user=words.list.first(), items=words.list.slice(1))
    return frame if frame["items"].list.len().min() != 0 else None


def _split_each(batch: Batch, path: Path) -> Iterator[pl.DataFrame]:
    """user, items of each line, whatever parts them, some lines at a time."""
    lines = _texts(batch, path)
    while block := list(islice(lines, LINES_AT_ONCE)):
        rows = []
        for place, text in block:
            user, *items = text.split()
            if not items:
                raise ValueError(f"{path}:{place}: user {_shown(user)} has no item; write `user item item ...`")
            rows.append((user, items))
        yield pl.DataFrame(rows, schema={"user": pl.String, "items": pl.List(pl.String)}, orient="row")


def _item(path: Path, place: int, line: str) -> tuple[str, str]:
    item, *rest = line.split(maxsplit=1)
    if not rest:
        raise ValueError(f"{path}:{place}: item {_shown(item)} has no text; write `item field: value; ...`")
    return item, rest[0]


def _events(frame: pl.DataFrame) -> pl.DataFrame:
    lengths = frame["items"].list.len()
    return (
        frame.with_columns(time=pl.int_ranges(0, lengths))
        .explode("items", "time")
        .select(pl.col("user"), pl.col("items").alias("item"), pl.lit(None).alias("rating"), pl.col("time"))
        .cast(pl.Schema(EVENT_SCHEMA))
    )


def _texts(batch: Batch, path: Path) -> Iterator[tuple[int, str]]:
    for place, line in batch.lines():
        try:
            text = line.decode("utf-8").strip()
        except UnicodeDecodeError as error:
            raise ValueError(f"{path}:{place}: not UTF-8 ({error.reason}); convert the file to UTF-8") from error
        if text:
            yield place, text


def _shown(word: str) -> str:
    """For a message of one line: a file of another kind may hold words of megabytes."""
    return repr(word) if len(word) <= 80 else f"{word[:80]!r}..."


def _too_long(path: Path) -> TooLong:
    def too_long(place: int, raw: bytes) -> NoReturn:
        raise ValueError(f"{path}:{place}: a line {TOO_LONG}; is this the right file?")

    return too_long


class _Unique:
    """The ids that came first in their lines: none may come twice. Eight bytes each, for tens of millions of users."""

    def __init__(self, path: Path, kind: str) -> None:
        self._path, self._kind = path, kind
        self._hashes: list[np.ndarray] = []

    def add(self, ids: pl.Series) -> None:
        self._hashes.append(ids.hash(seed=0).to_numpy())

    def count(self) -> int:
        """How many ids there are. ValueError when one of them came twice."""
        hashes = np.sort(np.concatenate([np.empty(0, np.uint64), *self._hashes]))
        twice = hashes[1:][hashes[1:] == hashes[:-1]]
        if len(twice):
            self._look_again(set(twice.tolist()))
        return len(hashes)

    def _look_again(self, suspects: set[int]) -> None:
        """Reads the file once more: equal hashes mean the same id, but for a chance of one in a million."""
        first: dict[str, int] = {}
        for batch in read_batches(self._path, _too_long(self._path)):
            lines = list(_texts(batch, self._path))
            ids = pl.Series([text.split(maxsplit=1)[0] for _, text in lines], dtype=pl.String)
            for (place, _), one, code in zip(lines, ids, ids.hash(seed=0), strict=True):
                if code in suspects:
                    if one in first:
                        raise ValueError(
                            f"{self._path}:{place}: {self._kind} {_shown(one)} occurs a second time (first in line "
                            f"{first[one]}); keep one line per {self._kind}"
                        )
                    first[one] = place
