"""CSV and TSV without quoting: interactions (a fast path and an exact one) and fields.

Enter files whose columns a header names or the format fixes; leave frames of EVENT_SCHEMA. It must hold that a line
with a field too many or too few is malformed, and that the two paths give the same row for every line.
"""

import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from shards.readers.events import (
    EVENT_SCHEMA,
    MILLISECONDS_IN,
    PRINTABLE,
    Event,
    Malformed,
    Unit,
    identifier,
    number,
    parse_lines,
    plausible,
    rating,
    reject_too_long,
    time_ms,
)
from shards.readers.lines import Batch, read_batches
from shards.readers.rejects import Rejects


@dataclass(frozen=True)
class Columns:
    """The columns of a file in order, and which of them hold an interaction; without a time, lines are in order."""

    names: tuple[str, ...]
    separator: str
    user: str
    item: str
    rating: str | None
    time: str | None
    unit: Unit = "seconds"


def split_fields(line: bytes, separator: str, count: int) -> list[str]:
    """The fields of one line. Malformed when they are not `count`, or not UTF-8."""
    try:
        fields = line.decode("utf-8").split(separator)
    except UnicodeDecodeError as error:
        raise Malformed("not UTF-8") from error
    if len(fields) != count:
        raise Malformed(f"{len(fields)} field(s) instead of {count}")
    return fields


def without_header(
    path: Path,
    rejects: Rejects,
    separator: str,
    required: Sequence[str],
    holds_list: Callable[[str], bool] = lambda column: False,
) -> Iterator[tuple[tuple[str, ...], Batch]]:
    """(column names, batch) for each batch after the header; names lose a type such as `:token`.

    ValueError when the first line that is not blank does not name the `required` columns, or names one that
    `holds_list`: lists are not read, and what stands beside them is not all of the data.
    """
    names: tuple[str, ...] = ()
    for batch in read_batches(path, reject_too_long(path, rejects)):
        if not names:
            place, line = next(batch.lines(), (batch.first, b""))
            if not line:
                continue
            header = line.decode("utf-8", errors="replace").split(separator)
            names = tuple(name.split(":")[0].strip() for name in header)
            if len(set(names)) < len(names) or not set(required) <= set(names):
                shown, needed = separator.join(header)[:100], ", ".join(required)
                raise ValueError(
                    f"{path}:{place}: the header is {shown!r}; it must name each column once, with {needed}"
                )
            lists = [column.strip() for column in header if holds_list(column.strip())]
            if lists:
                raise ValueError(
                    f"{path}:{place}: {', '.join(lists)[:100]} holds lists, so a line is no interaction but a history; "
                    "give the file that has one interaction a line"
                )
            skipped = place - batch.first + 1
            begin = _after_newlines(batch.data, skipped)
            if begin == len(batch.data):
                continue
            batch = Batch(batch.first + skipped, batch.data[begin:])
        yield names, batch


def _after_newlines(data: bytes, count: int) -> int:
    at = 0
    for _ in range(count):
        at = data.index(b"\n", at) + 1
    return at


def read_delimited_events(
    path: Path, batches: Iterator[tuple[Columns, Batch]], rejects: Rejects
) -> Iterator[pl.DataFrame]:
    """Interactions of `path`, a frame of EVENT_SCHEMA per batch of lines."""
    for columns, batch in batches:
        frame = fast_events(batch, columns)
        if frame is None:
            frame = parse_lines(batch, path, rejects, EVENT_SCHEMA, exact_event(columns))
        else:
            rejects.count(path, frame.height)
        yield frame
    rejects.check(path)


def exact_event(columns: Columns) -> Callable[[int, bytes], Event]:
    """What turns (line number, line) into a row, or raises Malformed."""

    def parse(place: int, line: bytes) -> Event:
        values = split_fields(line, columns.separator, len(columns.names))
        value_of = dict(zip(columns.names, values, strict=True))
        stars = value_of[columns.rating] if columns.rating else ""
        return (
            identifier(value_of[columns.user], columns.user),
            identifier(value_of[columns.item], columns.item),
            rating(number(stars, "rating") if stars else None),
            time_ms(number(value_of[columns.time], "time"), columns.unit) if columns.time else place,
        )

    return parse


def fast_events(batch: Batch, columns: Columns) -> pl.DataFrame | None:
    """All lines at once; None where any of them asks for the exact path."""
    data = batch.data.replace(b"\r\n", b"\n") if b"\r" in batch.data else batch.data
    if b"\r" in data:  # polars drops it at the end of any field
        return None
    try:
        frame = pl.read_csv(
            io.BytesIO(data),
            has_header=False,
            schema=dict.fromkeys(columns.names, pl.String),
            separator=columns.separator,
            quote_char=None,
        )
    except pl.exceptions.PolarsError:
        return None
    # Polars refuses fields too many and fills up those too few with null; blank lines it leaves out or fills up too.
    if frame.height != data.count(b"\n") or frame[columns.names[-1]].null_count():
        return None
    stars, time = pl.lit(None, pl.Float64), batch.first + pl.int_range(pl.len(), dtype=pl.Int64)
    if columns.rating:
        stars = _number(columns.rating, r"^[0-9]{1,9}(\.[0-9]{1,6})?$", pl.Float64)
    if columns.time:
        time = _number(columns.time, r"^[0-9]{1,15}$", pl.Int64) * MILLISECONDS_IN[columns.unit]
    frame = frame.select(user=pl.col(columns.user), item=pl.col(columns.item), rating=stars, time=time)
    printable = not data.translate(None, PRINTABLE + columns.separator.encode())
    return frame if plausible(frame, columns.rating is not None, printable) else None


def _number(column: str, pattern: str, dtype: type[pl.DataType]) -> pl.Expr:
    """Null where the field is not of this form, which every way of reading numbers reads alike."""
    return pl.when(pl.col(column).str.contains(pattern)).then(pl.col(column)).cast(dtype)
