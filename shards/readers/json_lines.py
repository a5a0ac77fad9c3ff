"""JSON lines: interactions (a fast path and an exact one) and objects.

Enter files with one JSON object a line; leave frames of EVENT_SCHEMA. It must hold that the two paths give the same row
for every line: a batch takes the fast one only where nothing in it could tell them apart.
"""

import io
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import polars as pl

from shards.readers.events import (
    EVENT_SCHEMA,
    MILLISECONDS_IN,
    Event,
    Malformed,
    Unit,
    identifier,
    parse_lines,
    plausible,
    rating,
    reject_too_long,
    time_ms,
)
from shards.readers.lines import Batch, read_batches
from shards.readers.rejects import Rejects

# With `\u0061` for a letter, a key could be spelled in ways that a search for its bytes does not find.
_ESCAPED_ASCII = re.compile(rb"\\u00[2-7]")
FIRST_BYTES = 100_000
_DATE = r"^[0-9]{4}-[01][0-9]-[0-3][0-9] [0-2][0-9]:[0-5][0-9]:[0-5][0-9]$"


@dataclass(frozen=True)
class Keys:
    """The keys of an interaction's object, and the unit of its time."""

    user: str
    item: str
    rating: str
    time: str
    unit: Unit

    @property
    def names(self) -> tuple[str, str, str, str]:
        return self.user, self.item, self.rating, self.time


def parse_object(line: bytes) -> dict[str, Any]:
    """The object of one line; of a key that comes twice the last value. Malformed for anything else."""
    try:
        value = orjson.loads(line)
    except orjson.JSONDecodeError:
        # What Python's json writes and orjson refuses: NaN, and halves of surrogate pairs.
        try:
            value = json.loads(line.decode("utf-8"))
        except UnicodeDecodeError as error:
            raise Malformed("not UTF-8") from error
        except (ValueError, RecursionError) as error:
            raise Malformed("not JSON") from error
    if not isinstance(value, dict):
        raise Malformed("not a JSON object")
    return value


def read_json_events(path: Path, keys: Keys, rejects: Rejects) -> Iterator[pl.DataFrame]:
    """Interactions of `path`, a frame of EVENT_SCHEMA per batch of lines."""
    for batch in read_batches(path, reject_too_long(path, rejects)):
        frame = fast_events(batch, keys)
        if frame is None:
            frame = exact_events(batch, path, keys, rejects)
        else:
            rejects.count(path, frame.height)
        yield frame
    rejects.check(path)


def exact_events(batch: Batch, path: Path, keys: Keys, rejects: Rejects) -> pl.DataFrame:
    """Line by line, malformed ones to the rejects."""

    def parse(_: int, line: bytes) -> Event:
        found = parse_object(line)
        return (
            identifier(found.get(keys.user), keys.user),
            identifier(found.get(keys.item), keys.item),
            rating(found.get(keys.rating)),
            time_ms(found.get(keys.time), keys.unit),
        )

    return parse_lines(batch, path, rejects, EVENT_SCHEMA, parse)


def _opening(name: str, data: bytes) -> bytes:
    """A key and the quote that opens its value, with a space between or none: as the first lines of `data` have it."""
    spaced = f'"{name}": "'.encode()
    return spaced if data.find(spaced, 0, FIRST_BYTES) >= 0 else f'"{name}":"'.encode()


def fast_events(batch: Batch, keys: Keys) -> pl.DataFrame | None:
    """All lines at once; None where any of them asks for the exact path."""
    data = batch.data
    rows = data.count(b"\n")
    # Each key once a line, its id in quotes: no doubled keys, no numbers or lists that polars would turn into text.
    if any(data.count(f'"{name}"'.encode()) != rows for name in keys.names):
        return None
    if any(data.count(_opening(name, data)) != rows for name in (keys.user, keys.item)):
        return None
    if b"\\u00" in data and _ESCAPED_ASCII.search(data):
        return None
    time = pl.String if keys.unit == "date" else pl.Int64
    schema: dict[str, Any] = dict(zip(keys.names, (pl.String, pl.String, pl.Float64, time), strict=True))
    try:
        frame = pl.read_ndjson(io.BytesIO(data), schema=schema)
    except pl.exceptions.PolarsError:
        return None
    frame = frame.rename(dict(zip(keys.names, EVENT_SCHEMA, strict=True)))
    if frame.height != rows:
        return None
    if keys.unit == "date":
        # Text in quotes and of this form only; a date that does not exist becomes null.
        if not frame["time"].str.contains(_DATE).fill_null(False).all():
            return None
        moment = pl.col("time").str.to_datetime("%Y-%m-%d %H:%M:%S", strict=False)
        frame = frame.with_columns(moment.dt.epoch("ms").alias("time"))
    else:
        # Outside of this range, and so of `plausible` too, a product could wrap around.
        bounded = pl.col("time").clip(-1, 2**50)
        frame = frame.with_columns(bounded * MILLISECONDS_IN[keys.unit])
    return frame if plausible(frame) else None
