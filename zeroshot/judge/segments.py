"""Metrics by what kind of user or target it is: where a recommender is good and where it is not.

Enters: the table of `ranks.parquet`. Leaves: rows of `segments` in results.json. What must hold: the bins are fixed
before any result is seen and the same for every recommender; a user falls into at most one bin of a segment.
"""

from typing import Any

import polars as pl

from zeroshot.judge.rows import COMPARED, kind_of, measured

BINS: dict[str, tuple[tuple[int, int | None], ...]] = {
    "history_length": ((0, 4), (5, 7), (8, 12), (13, 20), (21, None)),
    "target_count": ((0, 2), (3, 5), (6, 10), (11, 20), (21, 50), (51, None)),
    "text_words": ((0, 9), (10, 19), (20, 39), (40, 79), (80, None)),
    "id_tokens": ((1, 3), (4, 6), (7, 9), (10, 14), (15, None)),
}
"""Column of ranks.parquet -> its bins, both ends included."""
REPEAT = "repeat_target"
NAMES = {
    "history_length": "items in the history",
    "target_count": "training interactions of the target",
    "text_words": "words in the target’s text",
    "id_tokens": "tokens of the target’s ID",
    REPEAT: "target bought before",
}
SEGMENT_KEYS = ("task", "recommender", "kind", "protocol", "segment", "bin", "num_users", "metrics", "intervals")
MIN_USERS = 20
"""Bins with fewer users are left out: their rates mean nothing."""


def segments_from_ranks(ranks: pl.DataFrame, kinds: dict[str, str], seed: int = 0) -> list[dict[str, Any]]:
    """HR@10 and NDCG@10 of each (task, recommender, protocol, segment, bin) with enough users."""
    rows: list[dict[str, Any]] = []
    keys = ["task", "recommender", "protocol"]
    for (task, name, protocol), own in ranks.group_by(keys, maintain_order=True):
        kind = kind_of(kinds, str(name))
        own = own.sort("user")
        for segment, label, condition in conditions():
            part = own.filter(condition)
            if part.height >= MIN_USERS:
                where = {"task": str(task), "recommender": str(name), "kind": kind, "protocol": str(protocol)}
                row = where | {"segment": segment, "bin": label} | measured(part["rank"].to_numpy(), seed, COMPARED)
                rows.append(row)
    return rows


def conditions() -> list[tuple[str, str, pl.Expr]]:
    """(segment, bin, condition on the ranks) of every bin, in the order in which they are shown."""
    bins = [
        (segment, bin_label(low, high), pl.col(segment).is_between(low, 2**31 - 1 if high is None else high))
        for segment, ranges in BINS.items()
        for low, high in ranges
    ]
    return [*bins, (REPEAT, "no", pl.col("target_is_new")), (REPEAT, "yes", ~pl.col("target_is_new"))]


def bin_label(low: int, high: int | None) -> str:
    """`5-7`, or `21+` for an open end."""
    return f"{low}+" if high is None else f"{low}-{high}"
