"""One interaction: what its user, item, rating and time must be, by value and for a whole table at once.

Enter values as a raw line holds them; leave those of EVENT_SCHEMA, or `Malformed` with the reason. It must hold that
what `plausible` lets through is what the rules by value would give: the fast paths lean on it, else go line by line.
"""

import math
import re
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import polars as pl

from shards.readers.lines import TOO_LONG, Batch, TooLong, read_batches
from shards.readers.rejects import Rejects

EVENT_SCHEMA: dict[str, Any] = {"user": pl.String, "item": pl.String, "rating": pl.Float64, "time": pl.Int64}
TEXT_SCHEMA: dict[str, Any] = {"item": pl.String, "text": pl.String}

Event = tuple[str, str, float | None, int]
Unit = Literal["seconds", "milliseconds", "date"]

# What an id may be made of on a fast path, and the end of a line.
PRINTABLE = bytes(range(ord("!"), ord("~") + 1)) + b"\n"
MAX_ID_BYTES = 256
LINES_AT_ONCE = 10_000
MAX_TIME_MS = 4_102_444_800_000  # 2100-01-01
MAX_PLAIN_RATING = 1e9
MILLISECONDS_IN = {"seconds": 1000, "milliseconds": 1}

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
_DATE = re.compile(r"\d{4}-\d\d-\d\d(?: \d\d:\d\d:\d\d)?", re.ASCII)


class Malformed(ValueError):
    """A line that is not of its format; the message is the reason."""


def identifier(value: object, field: str) -> str:
    """A user's or an item's id: text without spaces and control characters, 256 bytes at most; integers become text."""
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 10**18:
        return str(value)
    if value is None or value == "":
        raise Malformed(f"{field} is missing")
    if not isinstance(value, str):
        raise Malformed(f"{field} is not text")
    if value.split() != [value] or _CONTROL.search(value):
        raise Malformed(f"{field} holds spaces or control characters")
    try:
        if len(value.encode()) > MAX_ID_BYTES:
            raise Malformed(f"{field} is longer than {MAX_ID_BYTES} bytes")
    except UnicodeEncodeError as error:
        raise Malformed(f"{field} is not UTF-8") from error
    return value


def rating(value: object) -> float | None:
    """A finite number; None where there is none."""
    return None if value is None else _finite(value, "rating")


def time_ms(value: object, unit: Unit) -> int:
    """Milliseconds since 1970 (UTC), from a number of `unit` or from a date such as `2019-12-31 10:11:12`."""
    if unit == "date":
        if not isinstance(value, str) or not _DATE.fullmatch(value):
            raise Malformed("date is missing or not of the form 2019-12-31 10:11:12")
        try:
            time = round(datetime.fromisoformat(value).replace(tzinfo=UTC).timestamp() * 1000)
        except ValueError as error:
            raise Malformed(f"date {value} does not exist") from error
    else:
        number = _finite(value, "time")
        # Milliseconds where seconds should stand are out of range as well.
        time = round(number * MILLISECONDS_IN[unit]) if abs(number) <= MAX_TIME_MS else -1
    if not 0 <= time <= MAX_TIME_MS:
        raise Malformed(f"time is outside 1970 to 2100 (it should be in {unit})")
    return time


def number(text: str, field: str) -> int | float:
    """The number that a field of a CSV or TSV file spells: decimal, ASCII."""
    if not _NUMBER.fullmatch(text):
        raise Malformed(f"{field} is missing or not a number")
    return int(text) if text.isdigit() and len(text) < 20 else float(text)


def _finite(value: object, field: str) -> float:
    if value is None:
        raise Malformed(f"{field} is missing")
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Malformed(f"{field} is not a number")
    try:
        result = float(value)
    except OverflowError as error:
        raise Malformed(f"{field} is not finite") from error
    if not math.isfinite(result):
        raise Malformed(f"{field} is not finite")
    return result


def plausible(frame: pl.DataFrame, has_rating: bool = True, printable: bool = False) -> bool:
    """Whether each row of (user, item, rating, time in ms) is surely well formed: no nulls, ids of printable ASCII.

    printable: that the whole batch is printable ASCII is known, so only the lengths of the ids are looked at.
    """
    ids = [pl.col("user").str, pl.col("item").str]
    if printable:
        checks = [name.len_bytes().is_between(1, MAX_ID_BYTES) for name in ids]
    else:
        checks = [name.contains(rf"^[!-~]{{1,{MAX_ID_BYTES}}}$") for name in ids]
    checks.append(pl.col("time").is_between(0, MAX_TIME_MS))
    if has_rating:
        checks.append(pl.col("rating").abs() <= MAX_PLAIN_RATING)  # NaN counts as larger than any number
    return frame.select(pl.all_horizontal(check.fill_null(False).all() for check in checks)).item()


def reject_too_long(path: Path, rejects: Rejects) -> TooLong:
    """What `read_batches` calls for a line above the cap."""

    def too_long(line: int, raw: bytes) -> None:
        rejects.count(path, 1)
        rejects.reject(path, line, TOO_LONG, raw)

    return too_long


def parse_lines(
    batch: Batch, path: Path, rejects: Rejects, schema: dict[str, Any], parse: Callable[[int, bytes], Iterable[object]]
) -> pl.DataFrame:
    """The exact path: `parse(number, line)` gives one row of `schema` for each line, or raises Malformed."""
    lines, rows = batch.lines(), []
    while block := list(islice(lines, LINES_AT_ONCE)):
        rejects.count(path, len(block))
        for place, line in block:
            try:
                rows.append(parse(place, line))
            except Malformed as error:
                rejects.reject(path, place, str(error), line)
    return pl.DataFrame(rows, schema=schema, orient="row")


def read_text(path: Path, rejects: Rejects, row: Callable[[bytes], tuple[str, str]]) -> Iterator[pl.DataFrame]:
    """`row` raises Malformed for a line that is not of the format; such lines go to the rejects."""
    for batch in read_batches(path, reject_too_long(path, rejects)):
        yield parse_lines(batch, path, rejects, TEXT_SCHEMA, lambda _, line: row(line))
    rejects.check(path)
