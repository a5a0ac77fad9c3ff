"""Amazon reviews and metadata, releases 2014, 2018 and 2023.

Enter the two files of one category; leave frames of EVENT_SCHEMA and TEXT_SCHEMA in the order of the files. It must
hold that an item is an `asin` (2023: the `parent_asin`, whose variants share one text) and a time is in milliseconds.
"""

import ast
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl

from shards.readers.delimited import Columns, read_delimited_events, without_header
from shards.readers.events import Malformed, identifier, read_text, reject_too_long
from shards.readers.json_lines import Keys, parse_object, read_json_events
from shards.readers.lines import read_batches
from shards.readers.rejects import Rejects
from shards.text import item_text

REVIEWS = {
    "amazon-2014": Keys("reviewerID", "asin", "overall", "unixReviewTime", "seconds"),
    "amazon-2018": Keys("reviewerID", "asin", "overall", "unixReviewTime", "seconds"),
    "amazon-2023": Keys("user_id", "parent_asin", "rating", "timestamp", "milliseconds"),
}
# Files of ratings alone; those of 2023 name their columns.
RATINGS = {
    "amazon-2014": ("user", "item", "rating", "timestamp"),
    "amazon-2018": ("item", "user", "rating", "timestamp"),
}
RATINGS_2023 = ("user_id", "parent_asin", "rating", "timestamp")


def read_amazon_events(path: Path, release: str, rejects: Rejects) -> Iterator[pl.DataFrame]:
    """Reviews (JSON lines) or ratings (`.csv`, `.csv.gz`) of one category."""
    if ".csv" not in path.suffixes:
        return read_json_events(path, REVIEWS[release], rejects)
    if release == "amazon-2023":
        user, item, rating, time = RATINGS_2023
        columns = (
            (Columns(names, ",", user, item, rating, time, "milliseconds"), batch)
            for names, batch in without_header(path, rejects, ",", RATINGS_2023)
        )
    else:
        fixed = Columns(RATINGS[release], ",", "user", "item", "rating", "timestamp", "seconds")
        columns = ((fixed, batch) for batch in read_batches(path, reject_too_long(path, rejects)))
    return read_delimited_events(path, columns, rejects)


def read_amazon_items(path: Path, release: str, rejects: Rejects) -> Iterator[pl.DataFrame]:
    """Metadata of one category."""
    parse = parse_literal if release == "amazon-2014" else parse_object
    key = "parent_asin" if release == "amazon-2023" else "asin"

    def row(line: bytes) -> tuple[str, str]:
        value = parse(line)
        return identifier(value.get(key), key), item_text(item_fields(value, release))

    return read_text(path, rejects, row)


def item_fields(value: dict[str, Any], release: str) -> dict[str, object]:
    """title, brand, categories, description of one line of metadata."""
    if release == "amazon-2023":
        # The store is who sells; the maker stands in the details where it is known.
        details = value.get("details")
        maker = details.get("Brand") if isinstance(details, dict) else None
        brand, description = maker or value.get("store"), [value.get("description"), value.get("features")]
    else:
        brand, description = value.get("brand"), value.get("description")
    # 2014: `categories`, a list of paths; 2018: `category`, one path; 2023: `categories`, one path.
    categories = value.get("category" if release == "amazon-2018" else "categories")
    return {"title": value.get("title"), "brand": brand, "categories": categories, "description": description}


MAX_DEPTH = 32
# What a page of a shop needs is some kilobytes; the parser takes hundreds of bytes of memory for each of them.
MAX_LITERAL_BYTES = 256 << 10

_STRING = rb"""[uU]?(?:'[^'\\]*+(?:\\.[^'\\]*+)*+'|"[^"\\]*+(?:\\.[^"\\]*+)*+")"""
_NUMBER = rb"[+-]?[0-9][0-9.]{0,40}(?:[eE][+-]?[0-9]{1,4})?(?![\w.+-])"
_LITERAL = re.compile(rb"(?:[\[\](){}:,\s]++|" + _STRING + rb"|" + _NUMBER + rb"|None\b|True\b|False\b)*+", re.DOTALL)
_STRINGS = re.compile(_STRING, re.DOTALL)
_OPENING, _CLOSING = b"[({", b"])}"


def parse_literal(line: bytes) -> dict[str, Any]:
    """The dictionary of one line, a Python literal or a JSON object."""
    try:
        return parse_object(line)
    except Malformed:
        pass  # not JSON, as most lines of these files
    if len(line) > MAX_LITERAL_BYTES:
        raise Malformed(f"a literal longer than {MAX_LITERAL_BYTES >> 10} KiB")
    if b"\0" in line or not _LITERAL.fullmatch(line):
        raise Malformed("not a Python literal")
    if _depth(line) > MAX_DEPTH:
        raise Malformed(f"nested deeper than {MAX_DEPTH} levels")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a path such as 'C:\\data' is an odd escape, not an error
            value = ast.literal_eval(line.decode("utf-8").strip())
    except UnicodeDecodeError as error:
        raise Malformed("not UTF-8") from error
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
        raise Malformed("not a Python literal") from error
    if not isinstance(value, dict):
        raise Malformed("not a dictionary")
    return value


def _depth(line: bytes) -> int:
    if sum(line.count(bracket) for bracket in _OPENING) <= MAX_DEPTH:
        return 0  # deep enough for nobody, whatever stands in its strings
    depth = deepest = 0
    for byte in _STRINGS.sub(b"", line):
        if byte in _OPENING:
            depth += 1
            deepest = max(deepest, depth)
        elif byte in _CLOSING:
            depth -= 1
    return deepest
