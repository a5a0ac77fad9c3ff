"""`idgenrec recommend`: ranked items for anyone's own catalogue.

Enters: a run, a checkpoint or an export, two files of JSON lines. Leaves: one JSON line per user, on standard output or
in a file. Must hold: files are checked before a model is loaded; what is written is there whole or not at all.
"""

from __future__ import annotations

import contextlib
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from shards.bounds import Count, NonNegative, Number, check


@dataclass(frozen=True)
class Recommend:
    """Rank the items of your own catalogue for your own users; items get readable IDs from the checkpoint's generator.

    In: a run, a checkpoint or an export, and two files of JSON lines, as below.

    Out: one JSON line per user, on standard output or in a file; with --save-book the catalogue's ID book.

    Example: idgenrec recommend runs/first --items items.jsonl --histories histories.jsonl --out lists.jsonl

    items.jsonl, an object a line, with a text or with fields of any name:
    {"item": "b1", "title": "Red desk lamp", "brand": "Lumo", "categories": ["lamps", "office"]}

    histories.jsonl, oldest item first:
    {"user": "anna", "history": ["b1", "b7"]}

    Each line of the answer has a user and the items, the best first:
    {"user": "anna", "items": [{"item": "b4", "id": "lumo floor lamp", "score": -3.21, "text": "title: ..."}, ...]}
    """

    checkpoint: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="CHECKPOINT")]
    """A run folder (its best checkpoint by validation), a checkpoint, or a folder made by `idgenrec export`."""
    items: str
    """JSON lines, one item each: "item", and "text" or other fields (may end in .gz)."""
    histories: str
    """JSON lines, one user each: "user" and "history" (may end in .gz)."""
    out: str | None = None
    """File for the lists, one JSON line per user; none = standard output."""
    top: Count = 10
    """Items of a list."""
    new: bool = False
    """List only items that are not in the user's history; otherwise they compete with the others."""
    prior_weight: Number | None = None
    """Share of an ID's log-probability without a history that is taken off its score; none = as the run searched. Once
    a call, each item's is computed."""
    popularity_weight: NonNegative = 0.0
    """Weight of what the histories show of popularity and repeats, which is added to the score; see `idgenrec
    zeroshot --help`."""
    book: str | None = None
    """ID book of an earlier call: its items keep their IDs, the others get one."""
    save_book: str | None = None
    """File for the catalogue's ID book, for the next call's --book. A killed call given again goes on where it was."""
    threads: Count = 1
    """CPU threads."""

    def __post_init__(self) -> None:
        check(self, lambda name: f"--{name.replace('_', '-')}")

    def run(self) -> None:
        from shards.files.atomic import write_whole
        from zeroshot.own_catalogue import item_table, read_histories, read_items

        names, texts = read_items(Path(self.items))
        histories = read_histories(Path(self.histories), names)
        self._check(len(names))

        import torch
        from transformers.utils.logging import disable_progress_bar

        from launchers.line.console import Console
        from pretrain.ids.journal import discard
        from zeroshot.recommend import book_of, load_models, recommend

        disable_progress_bar()
        torch.set_num_threads(self.threads)
        # The lists have standard output for themselves.
        with contextlib.redirect_stdout(sys.stderr) if self.out is None else contextlib.nullcontext():
            console = Console()
            models = load_models(Path(self.checkpoint), torch.device("cuda" if torch.cuda.is_available() else "cpu"))
            models = models.searching(self.prior_weight)
            heard: list[str] = []
            items = item_table(names, texts, models.tokenizer, heard.append)
            saved = Path(self.save_book) if self.save_book else None
            journal = None if saved is None else saved.with_name(f".{saved.name}.progress")
            book = book_of(models, items, Path(self.book) if self.book else None, journal, console)
            for line in (*heard, book.describe()):
                console.line(line)
            if saved is not None and journal is not None:
                book.save(saved)
                discard(journal)
                console.line(f"ID book: {saved}")
            lists = list(recommend(models, items, book, histories, self.top, self.new, console, self.popularity_weight))
        lines = "".join(json.dumps(entry, ensure_ascii=False) + "\n" for entry in lists)
        if self.out is None:
            sys.stdout.write(lines)
            return
        write_whole(Path(self.out), lines.encode())
        Console().result(f"{len(lists):,} lists: {self.out}", file=self.out)

    def _check(self, num_items: int) -> None:
        if self.top > num_items:
            raise ValueError(f"--top is {self.top}; the catalogue has {num_items:,} items, so give 1 to {num_items:,}")
        for option, name in (("--out", self.out), ("--save-book", self.save_book)):
            if name is not None and not Path(name).resolve().parent.is_dir():
                raise ValueError(f"no folder {Path(name).resolve().parent} for {option} {name}; make it first")
            if name is not None and Path(name).is_dir():
                raise ValueError(f"{option} {name} is a folder; name a file")
