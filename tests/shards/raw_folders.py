"""Small raw folders and configurations for the tests of shards/."""

import gzip
from pathlib import Path
from typing import Any

from shards.config import BuildConfig
from shards.readers.marketplace import MarketplaceSizes

SIZES = MarketplaceSizes(users_per_category=40, items_per_category=60, test_users=20, test_items=60)


def plain(folder: Path) -> tuple[dict[str, list[str]], dict[str, str]]:
    """(items by user, text by item) of a generated plain folder, read without the readers."""
    lines = [
        gzip.decompress((folder / f"{file}.txt.gz").read_bytes()).decode().splitlines()
        for file in ("user_sequence", "item_plain_text")
    ]
    sequences = {user: items for user, *items in map(str.split, lines[0])}
    return sequences, dict(line.split(" ", 1) for line in lines[1])


def write_raw(folder: Path, sequences: str, texts: str) -> Path:
    folder.mkdir(parents=True)
    (folder / "user_sequence.txt").write_text(sequences)
    (folder / "item_plain_text.txt").write_text(texts)
    return folder


def build_config(raw: Path, out: Path, **changes) -> BuildConfig:
    settings: dict[str, Any] = {
        "vocab_size": 300,
        "lanes": 3,
        "records_per_tar": 5,
        "shuffle_tars": 2,
        "max_users": 30,
    } | changes
    return BuildConfig(
        train=(str(raw / "Garden"), str(raw / "Kitchen")),
        test=(str(raw / "Gifts"), str(raw / "Places")),
        out=str(out),
        **settings,
    )
