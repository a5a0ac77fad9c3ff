"""Cleaning: pure functions on polars frames, values in, values out.

Enter interactions (columns user, item, position); leave sequences (columns user, items), oldest first, split by
leave-one-out. It must hold that a history is in the order of time and never in the order of the item ids: two published
data sets are sorted by ASIN, and leave-one-out on them asks for the largest ASIN (fault 2 of the reference).
"""

import polars as pl

MIN_LENGTH = 3
MAX_SHARE_SORTED = 0.95


def k_core(interactions: pl.DataFrame, k: int) -> pl.DataFrame:
    """The largest part in which each user and each item has at least `k` rows (repeats count), in the old order."""
    while True:
        kept = interactions.filter((pl.len().over("user") >= k) & (pl.len().over("item") >= k))
        if kept.height == interactions.height:
            return kept
        interactions = kept


def sequences(interactions: pl.DataFrame) -> pl.DataFrame:
    """One row per user in order of first appearance: user, items (by position; ties keep the order of the rows)."""
    users = interactions.select("user").unique(maintain_order=True)
    grouped = (
        interactions.sort("position", maintain_order=True)
        .group_by("user", maintain_order=True)
        .agg(pl.col("item").alias("items"))
    )
    return users.join(grouped, on="user", how="left", maintain_order="left")


def leave_one_out(frame: pl.DataFrame) -> pl.DataFrame:
    """Columns user, history (`sequence[:-2]`), valid (second last item), test (last item).

    frame: columns user, items. ValueError when a sequence has fewer than three items.
    """
    short = frame.filter(pl.col("items").list.len() < MIN_LENGTH)
    if short.height:
        raise ValueError(
            f"user {short['user'][0]!r} has {len(short['items'][0])} items; leave-one-out needs {MIN_LENGTH}: "
            "remove shorter users"
        )
    items = pl.col("items")
    return frame.select(
        "user",
        items.list.head(items.list.len() - 2).alias("history"),
        items.list.get(-2).alias("valid"),
        items.list.get(-1).alias("test"),
    )


def share_sorted_by_id(frame: pl.DataFrame) -> float:
    """Share of users whose sequence is in ascending order of the raw item id, as text or (all ids digits) as number.

    frame: columns user, items. Users with one item or the same item throughout say nothing and do not count.
    """
    telling = frame.filter(pl.col("items").list.n_unique() > 1).select("items")
    if not telling.height:
        return 0.0
    share = _share_ascending(telling)
    if telling.select(pl.col("items").explode().str.contains(r"^[0-9]{1,18}$").all()).item():
        share = max(share, _share_ascending(telling.select(pl.col("items").cast(pl.List(pl.Int64)))))
    return share


def check_not_sorted_by_id(name: str, share: float, allow: bool = False) -> None:
    """ValueError when nearly every sequence is sorted by item id, unless `allow`."""
    if share >= MAX_SHARE_SORTED and not allow:
        raise ValueError(
            f"{name}: {share:.1%} of the users have their items in the order of the item ids, so the order is not "
            "chronological; bring the sequences into the order of time, or set allow_sorted_by_id=True"
        )


def _share_ascending(frame: pl.DataFrame) -> float:
    return float(frame.select((pl.col("items").list.sort() == pl.col("items")).mean()).item())
