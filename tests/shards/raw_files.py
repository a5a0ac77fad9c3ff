"""Hand-made raw files of any format: writing them, and reading them back with a count of every line."""

import gzip
import json
from pathlib import Path

import polars as pl

from shards.readers.folder import EVENT_SCHEMA, TEXT_SCHEMA, detect, read_events, read_items
from shards.readers.rejects import Rejects


def write(folder: Path, name: str, lines: list) -> Path:
    """One file of `lines`: text as it stands, anything else as JSON; gzip by the name."""
    folder.mkdir(parents=True, exist_ok=True)
    data = b"".join(
        (line if isinstance(line, bytes) else line.encode() if isinstance(line, str) else json.dumps(line).encode())
        + b"\n"
        for line in lines
    )
    (folder / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return folder


def read(folder: Path, max_share: float = 1.0) -> tuple[pl.DataFrame, pl.DataFrame, list[tuple[str, int, str]]]:
    """Events, item texts and rejects (file, line, reason) of a folder."""
    raw = detect(folder)
    path = folder / "rejects.jsonl"
    with Rejects(path, max_share) as rejects:
        events = pl.concat([pl.DataFrame(schema=EVENT_SCHEMA), *read_events(raw, rejects)])
        items = pl.concat([pl.DataFrame(schema=TEXT_SCHEMA), *read_items(raw, rejects)])
    seen = {file: seen for file, (seen, _) in rejects.counts.items()}
    assert seen.get(raw.items.name, 0) == items.height + rejects.counts.get(raw.items.name, (0, 0))[1]
    if raw.format != "plain":
        assert seen.get(raw.events.name, 0) == events.height + rejects.counts.get(raw.events.name, (0, 0))[1]
    samples = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    path.unlink(missing_ok=True)
    return events, items, [(one["file"], one["line"], one["reason"]) for one in samples]
