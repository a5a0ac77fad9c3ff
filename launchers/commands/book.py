"""`idgenrec ids` and `idgenrec book`: make the ID book of a catalogue; look into one, and compare it with another.

Enters: words. Leaves: one Arrow file, which must not exist before; or lines on standard output.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from launchers.jobs.request import IdsConfig
from launchers.line.config_file import FromFile
from shards.bounds import Count, Natural, check

if TYPE_CHECKING:
    from pretrain.ids import book as books


@dataclass(frozen=True)
class Ids(FromFile):
    """Give every item of a catalogue a unique textual ID (Algorithm 1 over all ranks).

    In: a generator and a shard folder.

    Out: one Arrow file, the ID book. A killed job is taken up again by the same command, on any number of ranks.

    Example: idgenrec ids --generator RUN/checkpoints/step-0001000/generator --shards shards --catalogue Beauty --out
    beauty.arrow
    """

    config: Annotated[IdsConfig, tyro.conf.arg(name="")]
    processes: Count = 1
    """Local processes (ranks)."""

    def __post_init__(self) -> None:
        check(self)

    def run(self) -> None:
        from launchers.jobs.local import launch

        launch("ids", dataclasses.asdict(self.config), self.processes)


@dataclass(frozen=True)
class Book:
    """What the IDs of a book are like; who has an ID; which ID an item has; what changed since another book.

    In: a book and the shard folder of its items.

    Out: lines on standard output: lengths, words, shares beside the paper's; or one item; or the changes.

    Example: idgenrec book --book b.arrow --shards shards --against older.arrow
    """

    book: str
    """The book, made by `idgenrec ids`, a training run or an evaluation."""
    shards: str
    """Shard folder with the items."""
    item: str | None = None
    """Show this item's ID alone."""
    id: str | None = None
    """Show the item that has this ID alone."""
    against: str | None = None
    """An older book: show the share of IDs that changed since, with examples."""
    examples: Natural = 10
    """How many changed IDs are shown."""

    def __post_init__(self) -> None:
        check(self)

    def run(self) -> None:
        from launchers.line.console import Console
        from pretrain.ids import book as books
        from shards.files.store import local_copy
        from shards.manifest import TOKENIZER_FOLDER, Manifest
        from shards.tables import load_items
        from shards.tokenizer import load_tokenizer

        tokenizer = load_tokenizer(local_copy(self.shards, TOKENIZER_FOLDER))
        book = books.Book.load(Path(self.book), tokenizer)
        console = Console()
        if self.item is not None or self.id is not None:
            console.result(line_of(book, self.item, self.id))
            return
        if self.against is not None:
            console.results(book.difference(books.Book.load(Path(self.against), tokenizer)).lines(self.examples))
            return
        from pretrain.ids.quality import measure

        manifest = Manifest.load(self.shards)
        text_of: dict[str, str] = {}
        for member in manifest.members:
            items = load_items(self.shards, manifest, member.name)
            text_of |= zip(items.items, items.texts, strict=True)
        unknown = next((item for item in book.items if item not in text_of), None)
        if unknown is not None:
            raise ValueError(
                f"{self.shards} has no item {unknown}; give the shard folder that {self.book} was made for"
            )
        quality = measure(book.texts, book.token_ids, [text_of[item] for item in book.items])
        console.results([book.describe(), *quality.lines()])


def line_of(book: books.Book, item: str | None, text: str | None) -> str:
    """The row of an item or of an ID. Raises ValueError for one that is not in the book."""
    from pretrain.ids.book import normalise

    if item is not None:
        if item not in book.items:
            raise ValueError(f"the book has no item '{item}'; items are named like '{book.items[0]}'")
        row = book.items.index(item)
    else:
        assert text is not None
        row = book.row_of.get(normalise(text), -1)
        if row < 0:
            raise ValueError(f"no item of the book has the ID '{normalise(text)}'")
    how = "a number was added" if book.suffixed[row] else f"attempt {book.attempt[row] + 1}"
    return f"{book.items[row]}: {book.texts[row]} ({len(book.token_ids[row])} tokens, {how})"
