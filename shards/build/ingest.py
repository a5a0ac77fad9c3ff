"""Ingestion: one raw folder of any known format into two Parquet files.

Enters a folder; leaves `events.parquet` (EVENT_SCHEMA, order of the file) and `texts.parquet` (TEXT_SCHEMA, order of
the file), rejects.jsonl where lines were malformed, and the facts. It must hold that memory stays bounded by a batch,
and that every line was read or counted as rejected.
"""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow.parquet as pq

from shards.build.clean import EVENTS, TEXTS
from shards.manifest import file_sha256
from shards.readers.folder import EVENT_SCHEMA, TEXT_SCHEMA, detect, read_events, read_items
from shards.readers.rejects import Rejects

REJECTS = "rejects.jsonl"


def ingest(folder: str, out: Path, max_reject_share: float) -> dict[str, Any]:
    """Reads `folder` into `out`; returns format, cleaned, hashes of the inputs and (lines, malformed) of each file."""
    raw = detect(folder)
    with ThreadPoolExecutor() as pool, Rejects(out / REJECTS, max_reject_share) as rejects:
        hashes = {path.name: pool.submit(file_sha256, path) for path in (raw.events, raw.items)}
        events = _write(out / EVENTS, read_events(raw, rejects), EVENT_SCHEMA)
        if not events:
            raise ValueError(f"{raw.events} holds no interaction; look at the file, or name another folder")
        texts = _write(out / TEXTS, read_items(raw, rejects), TEXT_SCHEMA)
    return {
        "format": raw.format,
        "cleaned": raw.cleaned,
        "events": events,
        "texts": texts,
        "inputs": {name: digest.result() for name, digest in hashes.items()},
        "lines": {file: list(counts) for file, counts in sorted(rejects.counts.items())},
    }


def _write(path: Path, batches: Iterable[pl.DataFrame], schema: dict[str, Any]) -> int:
    """Writes one batch while the next is read."""
    rows, writing = 0, None
    # Read three times and removed: neither compression nor dictionaries earn the time they take.
    settings = {"compression": "lz4", "use_dictionary": False, "write_statistics": False}
    empty = _arrow(pl.DataFrame(schema=schema))
    # The pool is left before the writer, so that whatever fails the file is not closed under a write.
    with pq.ParquetWriter(path, empty.schema, **settings) as writer, ThreadPoolExecutor(1) as pool:
        for batch in batches:
            table = _arrow(batch.select(*schema))
            if writing is not None:
                writing.result()
            writing = pool.submit(writer.write_table, table)
            rows += batch.height
        if writing is not None:
            writing.result()
    return rows


def _arrow(frame: pl.DataFrame) -> Any:
    return frame.to_arrow(compat_level=pl.CompatLevel.oldest())
