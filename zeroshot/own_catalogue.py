"""Anyone's own catalogue and histories, as JSON lines.

Enters: `items.jsonl`, an object per item: `item` and either `text` or any other fields; `histories.jsonl`, an object
per user: `user` and `history`, the items oldest first. Both may end in `.gz`. Leaves: names, texts and rows. Must hold:
what is wrong is named with its file and line before any model is loaded; nothing is passed over in silence.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from shards.readers.events import Malformed
from shards.readers.json_lines import parse_object
from shards.readers.lines import TOO_LONG, read_batches
from shards.tables import ItemTable
from shards.text import MISSING, item_text
from shards.token_coverage import share, token_coverage
from shards.tokenizer import encode_texts

LONGEST_SHOWN = 60


@dataclass(frozen=True)
class Histories:
    """N users by name, and their histories as item rows, oldest first."""

    users: list[str]
    rows: list[np.ndarray]


def read_items(path: Path) -> tuple[list[str], list[str]]:
    """Names and texts of all items, in the order of the file. Raises ValueError with the line that is wrong."""
    line_of: dict[str, int] = {}
    texts: list[str] = []
    for line, fields in _objects(path):
        item = _name(fields, "item", path, line)
        if item in line_of:
            _wrong(path, line, f"item {_shown(item)} is there twice, first in line {line_of[item]}; leave one out")
        line_of[item] = line
        texts.append(_text(item, fields, path, line))
    if not texts:
        raise ValueError(f'{path} holds no item; write one object a line: {{"item": "b1", "title": "Red desk lamp"}}')
    return list(line_of), texts


def read_histories(path: Path, items: list[str]) -> Histories:
    """The users of a file over a catalogue. Raises ValueError with the line that is wrong."""
    row_of = {item: row for row, item in enumerate(items)}
    line_of: dict[str, int] = {}
    rows: list[np.ndarray] = []
    for line, fields in _objects(path):
        unknown = sorted(set(fields) - {"user", "history"})
        if unknown:
            _wrong(path, line, f"unknown key {_shown(unknown[0])}; a line has user and history")
        user = _name(fields, "user", path, line)
        if user in line_of:
            _wrong(path, line, f"user {_shown(user)} is there twice, first in line {line_of[user]}; leave one out")
        line_of[user] = line
        history = fields.get("history")
        if not isinstance(history, list) or not history:
            _wrong(path, line, f"user {_shown(user)} has no history; write a list of at least one item, oldest first")
        names = [_name({"item": item}, "item", path, line) for item in history]
        missing = next((item for item in names if item not in row_of), None)
        if missing is not None:
            _wrong(path, line, f"user {_shown(user)} has item {_shown(missing)}, which is not among the items; add it")
        rows.append(np.array([row_of[item] for item in names], dtype=np.int64))
    if not rows:
        raise ValueError(f'{path} holds no user; write one object a line: {{"user": "u1", "history": ["b1", "b7"]}}')
    return Histories(list(line_of), rows)


def item_table(
    items: list[str], texts: list[str], tokenizer: Any, hear: Callable[[str], None] = lambda line: None
) -> ItemTable:
    """The catalogue as the ID job wants it. `hear` is told how much of the texts the model knows."""
    tokens = encode_texts(tokenizer, texts)
    read = token_coverage(tokenizer, texts, tokens)
    if any(read.bare):
        item = items[read.bare.index(True)]
        raise ValueError(
            f"the texts of {sum(read.bare):,} of {len(items):,} items leave nothing for the model to read, as that of "
            f"{_shown(item)}; describe them in words of the vocabulary "
            f"(unknown tokens: {share(read.unknown, read.tokens)})"
        )
    hear(f"{len(items):,} items; unknown tokens in their texts: {share(read.unknown, read.tokens)}")
    offsets = np.cumsum([0, *map(len, tokens)]).astype(np.int64)
    flat = np.fromiter((token for ids in tokens for token in ids), dtype=np.int32, count=int(offsets[-1]))
    return ItemTable(items, texts, flat, offsets, {})


def _objects(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line number, object) of each line that is not blank."""
    if not path.is_file():
        raise ValueError(f"no file at {path}")
    if path.stat().st_size == 0:
        raise ValueError(f"{path} is empty; write one JSON object a line")

    def too_long(line: int, _: bytes) -> None:
        _wrong(path, line, f"{TOO_LONG}; is every object on a line of its own?")

    for batch in read_batches(path, too_long):
        for line, content in batch.lines():
            try:
                fields = parse_object(content)
                yield line, fields
            except Malformed as why:
                _wrong(path, line, f"{why}; write one JSON object a line, in UTF-8")


def _name(fields: dict[str, Any], key: str, path: Path, line: int) -> str:
    """A user's or an item's name; integers become text."""
    value = fields.get(key)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str) or not value.strip():
        _wrong(path, line, f"`{key}` is missing" if value is None else f"`{key}` is {_shown(value)}, which is no name")
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in value):
        _wrong(path, line, f"{key} {_shown(value)} holds control characters")
    return value


def _text(item: str, fields: dict[str, Any], path: Path, line: int) -> str:
    """The whole text where it is given; otherwise all fields but `item` in the project's layout."""
    others = {name: value for name, value in fields.items() if name != "item"}
    if "text" in others:
        if len(others) > 1:
            other = next(name for name in others if name != "text")
            _wrong(path, line, f"item {_shown(item)} has `text` and `{other}`; give the whole text, or fields alone")
        if not isinstance(others["text"], str):
            _wrong(path, line, f"the text of item {_shown(item)} is {_shown(others['text'])}, which is no text")
        text = " ".join(others["text"].encode("utf-8", "ignore").decode().split())
    else:
        has_value = any(item_text({name: value}) != f"{name}: {MISSING}" for name, value in others.items())
        text = item_text(others) if has_value else ""
    if not any(character.isalnum() for character in text):
        _wrong(path, line, f"item {_shown(item)} has no text; the model knows an item by its words alone")
    return text


def _shown(value: object) -> str:
    text = str(value)
    return repr(text if len(text) <= LONGEST_SHOWN else text[:LONGEST_SHOWN] + "...")


def _wrong(path: Path, line: int, why: str) -> NoReturn:
    raise ValueError(f"{path}, line {line}: {why}")
