"""Item texts read line by line: metadata of any format with one item a line.

Enter a path and what makes (item, text) of a line; leave frames of TEXT_SCHEMA in the order of the file.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import polars as pl

from shards.readers.events import TEXT_SCHEMA, parse_lines, reject_too_long
from shards.readers.lines import read_batches
from shards.readers.rejects import Rejects


def read_text(path: Path, rejects: Rejects, row: Callable[[bytes], tuple[str, str]]) -> Iterator[pl.DataFrame]:
    """`row` raises Malformed for a line that is not of the format; such lines go to the rejects."""
    for batch in read_batches(path, reject_too_long(path, rejects)):
        yield parse_lines(batch, path, rejects, TEXT_SCHEMA, lambda _, line: row(line))
    rejects.check(path)
