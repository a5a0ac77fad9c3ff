"""JSON lines: interactions and objects.

Enter files with one JSON object a line; leave frames of EVENT_SCHEMA. Every line is parsed by itself: on 60,000 reviews
of 700 bytes, polars' reader and the checks that it needs took as much core time as orjson does.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import polars as pl

from shards.readers.events import (
    EVENT_SCHEMA,
    Event,
    Malformed,
    Unit,
    identifier,
    parse_lines,
    rating,
    reject_too_long,
    time_ms,
)
from shards.readers.lines import read_batches
from shards.readers.rejects import Rejects


@dataclass(frozen=True)
class Keys:
    """The keys of an interaction's object, and the unit of its time."""

    user: str
    item: str
    rating: str
    time: str
    unit: Unit


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
    """Interactions of `path`, a frame of EVENT_SCHEMA per batch of lines; malformed lines to the rejects."""

    def parse(_: int, line: bytes) -> Event:
        value = parse_object(line)
        return (
            identifier(value.get(keys.user), keys.user),
            identifier(value.get(keys.item), keys.item),
            rating(value.get(keys.rating)),
            time_ms(value.get(keys.time), keys.unit),
        )

    for batch in read_batches(path, reject_too_long(path, rejects)):
        yield parse_lines(batch, path, rejects, EVENT_SCHEMA, parse)
    rejects.check(path)
