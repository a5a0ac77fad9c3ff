"""What the sections of the training benchmarks share: shards, items, plain IDs, and memory in use.

Enters: options with `--shards`. Leaves: a `Setting`, the same for the same shards.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pretrain.ids.book import Book, canonical
from shards.manifest import TOKENIZER_FOLDER, Manifest
from shards.tables import ItemTable, load_items
from shards.tokenizer import load_tokenizer


@dataclass(frozen=True)
class Setting:
    """What the sections share: shards, tokenizer, items and IDs."""

    manifest: Manifest
    tokenizer: Any
    items: ItemTable
    book: Book

    @staticmethod
    def of(options: argparse.Namespace) -> "Setting":
        manifest, tokenizer = Manifest.load(options.shards), load_tokenizer(Path(options.shards) / TOKENIZER_FOLDER)
        items = load_items(options.shards, manifest)
        return Setting(manifest, tokenizer, items, plain_book(tokenizer, items))

    @property
    def members(self) -> str:
        """The training categories by name."""
        return ", ".join(member.name for member in self.manifest.train_members)


def plain_book(tokenizer: Any, items: ItemTable) -> Book:
    """IDs of about the real lengths without a generator: an item's first words and its row."""
    texts = [f"{' '.join(text.split()[1:4])} {row}" for row, text in enumerate(items.texts)]
    normal, encoded = canonical(tokenizer, texts)
    zeros = np.zeros(len(texts), dtype=np.int32)
    return Book(list(items.items), normal, [np.array(ids, dtype=np.int32) for ids in encoded], zeros, zeros,
                zeros.astype(bool), "none", "none")  # fmt: skip


def memory(name: str) -> float:
    """Megabytes of this process, as Linux counts them."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(float(line.split()[1]) / 1e3 for line in lines if line.startswith(name))
