"""Candidates: the few hundred items of a catalogue that the ranker scores for a user.

Enters: a block of users. Leaves: the union of the best items of several sources. Must hold: a source is a feature, so
none has seen a target; of equal values the lower row is taken, so that a list has one answer.
"""

from __future__ import annotations

import numpy as np

from pretrain.ranking.features import Block
from pretrain.ranking.text_match import best_rows

SOURCES = {
    "text recent": 80, "text last": 80, "together recent": 80, "together last": 80, "after recent": 80,
    "after last": 80, "weighted together long": 80, "together through the item's neighbours": 80,
    "together through the history's neighbours": 80, "two hops": 80,
}  # fmt: skip
"""Features whose best items are candidates, and how many of each."""
POPULAR = 80
"""The most popular items are candidates of everyone."""


def candidates(block: Block, sources: dict[str, int] | None = None, popular: int = POPULAR) -> np.ndarray:
    """Item rows [N, K], rising, -1 at the end of a list that is shorter than the longest; no item of the history."""
    context = block.catalogue.context
    everyone = np.argsort(-context.counts_I, kind="stable")[:popular]
    chosen = [
        best_rows(block.dense(name), min(depth, context.num_items)) for name, depth in (sources or SOURCES).items()
    ]
    lists = [
        np.setdiff1d(np.concatenate([everyone, *(rows_NK[user] for rows_NK in chosen)]), [-1, *history])
        for user, history in enumerate(block.histories)
    ]
    items_NK = np.full((len(lists), max(map(len, lists), default=0)), -1, dtype=np.int64)
    for user, rows in enumerate(lists):
        items_NK[user, : len(rows)] = rows
    return items_NK


def recall(items_NK: np.ndarray, targets_N: np.ndarray) -> float:
    """Share of users whose target is among the candidates."""
    return float((items_NK == targets_N[:, None]).any(axis=1).mean())
