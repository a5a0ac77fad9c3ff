"""The report's section about IDs: how a book came out, and what the generator is like before and after training.

Enters: a book and the drafts (`pretrain.ids.drafts`) of some items by the trained and the untrained generator. Leaves:
the `ids` part of results.json.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from typing import Any

import numpy as np

from pretrain.ids.book import Book
from pretrain.ids.drafts import write_drafts
from pretrain.ids.quality import measure
from pretrain.runtime.world import World
from shards.tables import ItemTable
from zeroshot.judge.task_evaluator import Checkpoint

SAMPLED = 256
SHOWN = 30


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
    texts = {name: [judged.tokenizer.decode(ids.tolist()) for ids in found] for name, found in drafts.items()}
    quality = {name: dataclasses.asdict(measure(texts[name], drafts[name], sample.texts)) for name in drafts}
    quality["book"] = dataclasses.asdict(measure(book.texts, book.token_ids, items.texts))
    for found in quality.values():
        del found["lengths"]
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
