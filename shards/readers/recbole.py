"""RecBole's atomic files: `<name>.inter` and `<name>.item`, TSV with typed column names such as `user_id:token`.

Enter the two files; leave frames of EVENT_SCHEMA and TEXT_SCHEMA in the order of the files. Columns come in any order;
rating and timestamp (in seconds) may be absent, and without a timestamp the lines are in order. A file of histories
(`item_id_list:token_seq`) is refused.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import polars as pl

from shards.readers.delimited import Columns, read_delimited_events, split_fields, without_header
from shards.readers.events import TEXT_SCHEMA, identifier, parse_lines
from shards.readers.rejects import Rejects
from shards.text import item_text

USER, ITEM, RATING, TIME = "user_id", "item_id", "rating", "timestamp"


def read_recbole_events(path: Path, rejects: Rejects) -> Iterator[pl.DataFrame]:
    """Interactions; a time is the number of the line where the file has no timestamps."""
    batches = (
        (Columns(names, "\t", USER, ITEM, _optional(RATING, names), _optional(TIME, names), "seconds"), batch)
        for names, batch in without_header(path, rejects, "\t", (USER, ITEM), _holds_list)
    )
    return read_delimited_events(path, batches, rejects)


def read_recbole_items(path: Path, rejects: Rejects) -> Iterator[pl.DataFrame]:
    """Item texts: every other column is a field, in the order of the file."""
    for names, batch in without_header(path, rejects, "\t", (ITEM,)):
        yield parse_lines(batch, path, rejects, TEXT_SCHEMA, _text_row(names))
    rejects.check(path)


def _text_row(names: tuple[str, ...]) -> Callable[[int, bytes], tuple[str, str]]:
    def row(_: int, line: bytes) -> tuple[str, str]:
        fields: dict[str, str] = dict(zip(names, split_fields(line, "\t", len(names)), strict=True))
        return identifier(fields.pop(ITEM), ITEM), item_text(fields)

    return row


def _holds_list(column: str) -> bool:
    """Whether a column of `.inter` makes histories of the lines, as RecBole's sequential data sets have it. Other
    sequences, such as the words of a review, are no part of an interaction."""
    name, _, kind = column.partition(":")
    return kind.endswith("_seq") and (name.endswith("_list") or name in (USER, ITEM, RATING, TIME))


def _optional(name: str, names: tuple[str, ...]) -> str | None:
    return name if name in names else None
