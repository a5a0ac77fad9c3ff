"""A raw folder: which format its files are of, and its interactions and item texts as frames.

Enters a folder of one data set; leave frames of EVENT_SCHEMA and TEXT_SCHEMA in the order of the files. It must hold
that memory is bounded by a batch, that no line is dropped without being counted, and that nothing is filtered.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from shards.readers import amazon, plain, recbole, yelp
from shards.readers.events import EVENT_SCHEMA, TEXT_SCHEMA
from shards.readers.rejects import Rejects

__all__ = ["EVENT_SCHEMA", "TEXT_SCHEMA", "RawFolder", "detect", "read_events", "read_items"]

ROWS_PER_FRAME = 100_000

_GZ = r"(?:\.gz)?"
_CATEGORY = r"(?P<category>[A-Za-z0-9_&-]+?)"
# What a category of 2018 or 2023 cannot be called: these begin files of other formats.
_OTHERS = r"(?!reviews_|ratings_|meta_|yelp_|review\.|business\.)"


@dataclass(frozen=True)
class _Layout:
    """The names of the two files of a format, for `re.fullmatch`, and as shown to a person."""

    format: str
    events: str
    items: str
    file_names: str


_LAYOUTS = (
    _Layout(
        "amazon-2014",
        rf"(?:reviews_{_CATEGORY}(?:_5)?\.json|ratings_(?P<rated>[A-Za-z0-9_&-]+)\.csv){_GZ}",
        rf"meta_{_CATEGORY}\.json{_GZ}",
        "reviews_<Category>_5.json.gz (or ratings_<Category>.csv) and meta_<Category>.json.gz",
    ),
    _Layout(
        "amazon-2018",
        rf"{_OTHERS}{_CATEGORY}(?:(?:_5)?\.json|\.csv){_GZ}",
        rf"meta_{_CATEGORY}\.json{_GZ}",
        "<Category>_5.json.gz (or <Category>.csv) and meta_<Category>.json.gz",
    ),
    _Layout(
        "amazon-2023",
        rf"{_OTHERS}{_CATEGORY}\.(?:jsonl|csv){_GZ}",
        rf"meta_{_CATEGORY}\.jsonl{_GZ}",
        "<Category>.jsonl.gz (or <Category>.csv) and meta_<Category>.jsonl.gz",
    ),
    _Layout(
        "yelp",
        rf"(?:yelp_academic_dataset_)?review\.json{_GZ}",
        rf"(?:yelp_academic_dataset_)?business\.json{_GZ}",
        "review.json and business.json (or yelp_academic_dataset_...)",
    ),
    _Layout("recbole", rf".+\.inter{_GZ}", rf".+\.item{_GZ}", "<name>.inter and <name>.item"),
    _Layout(
        "plain",
        rf"user_sequence\.txt{_GZ}",
        rf"item_plain_text\.txt{_GZ}",
        f"{plain.SEQUENCE_FILE} and {plain.TEXT_FILE}",
    ),
)


@dataclass(frozen=True)
class RawFolder:
    """The files of one data set; `cleaned` where they are taken as cleaned already."""

    folder: Path
    name: str
    format: str
    events: Path
    items: Path
    cleaned: bool


def detect(folder: str | Path) -> RawFolder:
    """The format of `folder`, by the names of its files. ValueError when there is none, half of one, or several."""
    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError(f"{folder} is not a folder; name one that holds the raw files of one data set")
    files = sorted(path for path in folder.iterdir() if path.is_file())
    candidates = [(layout, _matching(files, layout.events), _matching(files, layout.items)) for layout in _LAYOUTS]
    whole = [entry for entry in candidates if entry[1] and entry[2]]
    if len(whole) == 1 and len(whole[0][1]) == len(whole[0][2]) == 1:
        layout, [events], [items] = whole[0]
        if _category(events, layout.events) != _category(items, layout.items):
            raise ValueError(f"{folder}: {events.name} and {items.name} are of two categories; give each a folder")
        return RawFolder(folder, folder.resolve().name, layout.format, events, items, layout.format == "plain")
    if whole:
        names = ", ".join(path.name for entry in whole for path in (*entry[1], *entry[2]))
        raise ValueError(
            f"{folder} is ambiguous: it holds {_shown(names)}; keep one file of interactions and one of items"
        )
    # The metadata of 2014 and of 2018 have the same name: a folder with interactions says which it was meant to be.
    for layout, events, items in sorted(candidates, key=lambda entry: not entry[1]):
        if events or items:
            names = ", ".join(path.name for path in (*events, *items))
            lacks = "item texts" if events else "interactions"
            raise ValueError(
                f"{folder} holds {_shown(names)} but no {lacks}; {layout.format} needs {layout.file_names}"
            )
    folders = sorted(path.name for path in folder.iterdir() if path.is_dir() and path.name[0] != ".")
    if folders and not files:
        raise ValueError(f"{folder} holds folders alone; name each data set: {_shown(', '.join(folders))}")
    names = _shown(", ".join(path.name for path in files)) or "no file"
    raise ValueError(
        f"{folder} holds no known format: {names}; expected: " + "; or ".join(one.file_names for one in _LAYOUTS)
    )


def read_events(raw: RawFolder, rejects: Rejects) -> Iterator[pl.DataFrame]:
    """Interactions in the order of the file: EVENT_SCHEMA, time in ms since 1970 (plain: place in the line).

    Malformed lines go to `rejects`. ValueError when the file is empty or damaged, or too much of it is malformed.
    """
    if raw.format == "plain":
        frames = plain.read_plain_events(raw.events, rejects)
    elif raw.format == "yelp":
        frames = yelp.read_yelp_events(raw.events, rejects)
    elif raw.format == "recbole":
        frames = recbole.read_recbole_events(raw.events, rejects)
    else:
        frames = amazon.read_amazon_events(raw.events, raw.format, rejects)
    return _together(frames)


def read_items(raw: RawFolder, rejects: Rejects) -> Iterator[pl.DataFrame]:
    """Item texts in the order of the file: TEXT_SCHEMA; an item that comes twice comes twice. Errors as above."""
    if raw.format == "plain":
        frames = plain.read_plain_items(raw.items, rejects)
    elif raw.format == "yelp":
        frames = yelp.read_yelp_items(raw.items, rejects)
    elif raw.format == "recbole":
        frames = recbole.read_recbole_items(raw.items, rejects)
    else:
        frames = amazon.read_amazon_items(raw.items, raw.format, rejects)
    return _together(frames)


def _together(frames: Iterator[pl.DataFrame]) -> Iterator[pl.DataFrame]:
    """Frames of ROWS_PER_FRAME rows and more, the last one less: 8 MB of long reviews are only ten thousand."""
    waiting: list[pl.DataFrame] = []
    for frame in frames:
        waiting.append(frame)
        if sum(part.height for part in waiting) >= ROWS_PER_FRAME:
            yield pl.concat(waiting)
            waiting = []
    if any(part.height for part in waiting):
        yield pl.concat(waiting)


def _matching(files: list[Path], pattern: str) -> list[Path]:
    return [path for path in files if re.fullmatch(pattern, path.name)]


def _category(path: Path, pattern: str) -> str | None:
    match = re.fullmatch(pattern, path.name)
    assert match is not None
    return next((value for value in match.groupdict().values() if value), None)


def _shown(names: str) -> str:
    return names if len(names) <= 200 else f"{names[:200]}..."
