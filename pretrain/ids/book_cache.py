"""A folder of finished ID books, so that none is made twice.

Enters: who makes a book, and of which items (`BookProvenance.identity`). Leaves: the book, where it is there
whole. Must hold: a book of another generator, of other options or texts is never taken for ours, nor one whose file is
damaged; of writers that finish the same book together one is left.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from transformers.models.t5.modeling_t5 import T5ForConditionalGeneration
from transformers.models.t5.tokenization_t5 import T5Tokenizer

from pretrain.config.ids import IdConfig
from pretrain.ids.book import Book
from pretrain.ids.book_provenance import BookProvenance
from pretrain.ids.job import JobReport, make_book
from pretrain.runtime.progress import Reporter
from pretrain.runtime.watchdog import beat
from pretrain.runtime.world import World
from shards.manifest import file_sha256
from shards.tables import ItemTable

DIGITS = 32


class BookCache:
    """Books by identity; a file is named after the identity and its own content."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def find(self, identity: str) -> Path | None:
        """The file of a book that is there whole."""
        for file in sorted(self.folder.glob(f"{identity[:DIGITS]}-*.arrow")):
            beat(f"hashing {file}")
            if file.stem.endswith(file_sha256(file)[:DIGITS]):
                return file
        return None

    def put(self, identity: str, book: Book) -> Path:
        """Keep a book; it is there whole or not at all."""
        self.folder.mkdir(parents=True, exist_ok=True)
        draft = self.folder / f".{identity[:DIGITS]}.{os.getpid()}.writing"
        try:
            book.save(draft)
            file = self.folder / f"{identity[:DIGITS]}-{file_sha256(draft)[:DIGITS]}.arrow"
            os.replace(draft, file)
        finally:
            draft.unlink(missing_ok=True)
        return file


def cached_book(
    folder: Path | None, generator: T5ForConditionalGeneration, tokenizer: T5Tokenizer, items: ItemTable,
    config: IdConfig, world: World, reporter: Reporter, **more: Any,
) -> tuple[Book, JobReport | None]:  # fmt: skip
    """The book from the cache `folder`, else from `make_book` (which gets `more`), and put there. Collective.

    The report is None where nothing had to be made."""
    if folder is None:
        return make_book(generator, tokenizer, items, config, world, reporter, **more)
    cache, identity = BookCache(folder), BookProvenance.of(generator, tokenizer, config).identity(items)
    file = world.main_says(lambda: cache.find(identity))
    if file is not None:
        return Book.load(file, tokenizer), None
    book, report = make_book(generator, tokenizer, items, config, world, reporter, **more)
    if world.is_main:
        cache.put(identity, book)
    return book, report
