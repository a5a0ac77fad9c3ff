"""The report's section about IDs: how a book came out, and what the generator is like before and after training.

Enters: a book and the drafts (`pretrain.ids.drafts`) of some items by the trained and the untrained generator. Leaves:
the `ids` part of results.json, and from it the rows of tables and the plots. What must hold: the tables and plots
compute nothing that the results do not say.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from typing import Any

import numpy as np
from markupsafe import Markup

from pretrain.ids.book import Book
from pretrain.ids.drafts import write_drafts
from pretrain.ids.quality import measure
from pretrain.runtime.world import World
from shards.tables import ItemTable
from zeroshot.judge.checkpoint import Checkpoint
from zeroshot.report import figures

SAMPLED = 256
SHOWN = 30
DRAFTS = ("untrained", "trained")
DRAFT_TITLES = {"untrained": "untrained generator", "trained": "trained generator", "book": "the book"}
PAPER_SHARES = {"second_attempt_share": 0.1120, "longer_share": 0.0372}
"""Section 3.2 of the paper: Fusion, items that needed a second attempt, and items that needed a longer ID."""


def id_section(items: ItemTable, book: Book, judged: Checkpoint, world: World) -> dict[str, Any]:
    """Summary, lengths, quality and examples, of rows spread evenly over the catalogue. Collective."""
    rows = np.unique(np.linspace(0, len(items) - 1, min(SAMPLED, len(items))).astype(int))
    shown = np.unique(np.linspace(0, len(rows) - 1, min(SHOWN, len(rows))).astype(int))
    sample = items.take(rows)
    generators = {"untrained": judged.untrained_generator, "trained": judged.generator}
    drafts = {
        name: write_drafts(generator, judged.tokenizer, sample, judged.ids, world)
        for name, generator in generators.items()
        if generator is not None
    }
    texts = {name: [judged.tokenizer.decode(ids.tolist()) for ids in written] for name, written in drafts.items()}
    quality = {name: dataclasses.asdict(measure(texts[name], drafts[name], sample.texts)) for name in drafts}
    quality["book"] = dataclasses.asdict(measure(book.texts, book.token_ids, items.texts))
    for measured in quality.values():
        del measured["lengths"]
    return book.summary() | {
        "examples": [
            {"item": sample.items[index], "text": sample.texts[index], "id": book.texts[rows[index]]}
            | {name: texts[name][index] for name in texts}
            for index in shown
        ],
        "length_histogram": {
            str(length): count for length, count in sorted(Counter(len(ids) for ids in book.token_ids).items())
        },
        "quality": quality,
        "sampled": len(rows),
    }


def sections(ids: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """The ID book of each catalogue; `length_histogram` (tokens -> items) and `quality` are optional."""
    return [
        book
        | {
            "name": name,
            "columns": [DRAFT_TITLES.get(column, column) for column in book.get("quality", {})],
            "measures": measures(book["quality"]) if "quality" in book else [],
            "drafts": [(key, DRAFT_TITLES[key]) for key in DRAFTS if key in (book["examples"] or [{}])[0]],
            "histogram": Markup(figures.length_histogram(figures.figure_name("ids", name), book["length_histogram"]))
            if book.get("length_histogram")
            else None,
        }
        for name, book in ids.items()
    ]


def measures(quality: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """What is said about IDs, a row per measure, a share per column of the table (None: no item to count)."""
    columns = list(quality.values())
    fields = dict.fromkeys(field for column in columns for field in column["words_kept"])
    names = dict.fromkeys(name for column in columns for name, count in column["leaked"].items() if count)
    rows: dict[str, list[float | None]] = {
        "items with an ID no earlier item has": [column["distinct"] for column in columns]
    }
    for field in fields:
        rows[f"words that stand in the item’s {field}"] = [column["words_kept"].get(field, 0.0) for column in columns]
    rows["items with a number in their first field whose ID has it"] = [column["numbers_kept"] for column in columns]
    for name in names:
        rows[f"IDs with the field name “{name}”"] = [
            column["leaked"].get(name, 0) / max(1, column["items"]) for column in columns
        ]
    return [{"name": name, "shares": shares} for name, shares in rows.items()]
