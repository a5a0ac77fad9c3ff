"""Python literals, one per line, as the metadata of 2014 were written: `{'asin': '0001', 'categories': [['Books']]}`.

Enters a line of any bytes; leaves its dictionary, or `Malformed`. It must hold that nothing is ever evaluated, and that
no line can exhaust the parser: only literals, commas, colons and brackets reach it, and these nested a few levels deep.
"""

import ast
import re
import warnings
from typing import Any

from shards.readers.events import Malformed
from shards.readers.json_lines import parse_object

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
