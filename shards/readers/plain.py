"""Reader of the plain layout: `user_sequence.txt(.gz)` and `item_plain_text.txt(.gz)` in one folder.

Enters a folder whose data are already cleaned: `user item item ...` (oldest first) and `item field: value; field: ...`,
one per line, UTF-8. Leaves a `RawDataset` named after the folder. It must hold that users and items are unique, that
every item of a sequence has text and that every sequence has three items; errors name file and line.
"""

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path

import polars as pl

from shards.clean import MIN_LENGTH
from shards.counters import generator
from shards.manifest import file_sha256
from shards.records import RawDataset

SEQUENCE_FILE = "user_sequence.txt"
TEXT_FILE = "item_plain_text.txt"


def read_plain(
    folder: str | Path, max_users: int | None = None, seed: int = 0, keep_all_items: bool = True
) -> RawDataset:
    """Reads one folder.

    max_users: keep a seeded sample of whole users, in the order of the file. keep_all_items: keep the item table whole;
    otherwise only the items that the kept users touched. ValueError on anything that breaks the rules above.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError(f"{folder} is not a folder; it should hold {SEQUENCE_FILE} and {TEXT_FILE} (or .gz)")
    name = folder.resolve().name
    sequence_path, text_path = _find(folder, SEQUENCE_FILE), _find(folder, TEXT_FILE)
    texts = _read_texts(text_path)
    sequences = _read_sequences(sequence_path, texts, text_path)
    if max_users is not None:
        if max_users < 1:
            raise ValueError(f"{name}: max_users is {max_users}; it must be at least 1")
        users = list(sequences)
        if max_users < len(users):
            chosen = generator(seed, "users", name).choice(len(users), size=max_users, replace=False)
            sequences = {users[row]: sequences[users[row]] for row in sorted(chosen.tolist())}
    if not keep_all_items:
        touched = {item for items in sequences.values() for item in items}
        texts = {item: text for item, text in texts.items() if item in touched}
        if len(texts) < 2:
            raise ValueError(f"{sequence_path}: all kept users have the same one item; a catalogue needs two")
    rows = [(user, item, position) for user, items in sequences.items() for position, item in enumerate(items)]
    return RawDataset(
        name=name,
        source="plain",
        interactions=pl.DataFrame(
            rows, schema={"user": pl.String, "item": pl.String, "position": pl.Int64}, orient="row"
        ),
        items=pl.DataFrame(
            {"item": list(texts), "text": list(texts.values())}, schema={"item": pl.String, "text": pl.String}
        ),
        inputs={path.name: file_sha256(path) for path in (sequence_path, text_path)},
    )


def _find(folder: Path, file: str) -> Path:
    found = [path for path in (folder / file, folder / f"{file}.gz") if path.is_file()]
    if not found:
        raise ValueError(f"{folder / file} is missing (and so is {file}.gz); add it or name another folder")
    if len(found) == 2:
        raise ValueError(f"{folder} holds both {file} and {file}.gz; remove one of them")
    return found[0]


def _lines(path: Path) -> Iterator[tuple[str, str]]:
    """`(file:line, text)` of each line that is not blank."""
    try:
        data = path.read_bytes()
        if path.suffix == ".gz":
            data = gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{path} cannot be read ({error}); fetch it again") from error
    for number, line in enumerate(data.split(b"\n"), start=1):
        try:
            text = line.decode("utf-8")
        except UnicodeDecodeError as error:
            raise ValueError(f"{path}:{number}: not UTF-8 ({error.reason}); convert the file to UTF-8") from error
        if text.strip():
            yield f"{path}:{number}", text.strip()


def _read_texts(path: Path) -> dict[str, str]:
    texts: dict[str, str] = {}
    for place, line in _lines(path):
        item, *rest = line.split(maxsplit=1)
        if not rest:
            raise ValueError(f"{place}: item {item!r} has no text; write `item field: value; ...`")
        if item in texts:
            raise ValueError(f"{place}: item {item!r} occurs a second time; keep one line per item")
        texts[item] = rest[0]
    if len(texts) < 2:
        raise ValueError(f"{path}: a catalogue of {len(texts)} item(s) leaves nothing to rank; give at least two")
    return texts


def _read_sequences(path: Path, texts: dict[str, str], text_path: Path) -> dict[str, list[str]]:
    sequences: dict[str, list[str]] = {}
    for place, line in _lines(path):
        user, *items = line.split()
        if user in sequences:
            raise ValueError(f"{place}: user {user!r} occurs a second time; keep one line per user")
        if len(items) < MIN_LENGTH:
            raise ValueError(
                f"{place}: user {user!r} has {len(items)} item(s); leave-one-out needs {MIN_LENGTH}, remove the user"
            )
        for item in items:
            if item not in texts:
                raise ValueError(f"{place}: item {item!r} has no text in {text_path.name}; add its line there")
        sequences[user] = items
    if not sequences:
        raise ValueError(f"{path}: no users; write one line `user item item ...` per user")
    return sequences
