"""The catalogue of one data set: which users and items go in, and the row of each item.

Enters a cleaned data set and the number of users it may give; leaves `catalogue.parquet` (item, text: one line a row),
`rows.npy` (item code -> row, -1 outside), `chosen.npy` (user code -> goes in), `lengths.npy` (history length of each
record) and the facts. It must hold that rows follow the item file in data taken as cleaned, and first appearance in
all others; and that drawing users takes no item out of a test set's catalogue: who cannot be recommended is decided by
the data, not by who is asked.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from shards.build import sequences
from shards.build.clean import EVENTS, ITEMS, TEXTS
from shards.build.sequences import Sequences, read_sequences
from shards.counters import generator
from shards.files.database import read_parquet, scan_parquet
from shards.token_coverage import refuse_few_texts, values

CATALOGUE, ROWS, CHOSEN, LENGTHS = "catalogue.parquet", "rows.npy", "chosen.npy", "lengths.npy"
NO_TEXT = "na"


@dataclass(frozen=True)
class Selection:
    """What goes in. users: at most so many, drawn by `seed`. file_order: rows as in the item file, else by appearance.

    every_user: the items of users who were not drawn stay in (a test set). every_line: so do those of the item file
    that nobody touched (one taken as cleaned). split_share: None is leave-one-out, else the share of interactions
    behind the moment of a split in time. ties_drawn: the source had ties in the order of the ids, and is judged by it.
    """

    name: str
    seed: int
    users: int | None
    file_order: bool
    every_user: bool
    every_line: bool
    split_share: float | None
    ties_drawn: bool = False


def draw_users(selection: Selection, num_users: int) -> np.ndarray:
    """bool (num_users,): all of them, or a seeded sample of `selection.users`."""
    if selection.users is None or selection.users >= num_users:
        return np.ones(num_users, dtype=bool)
    chosen = np.zeros(num_users, dtype=bool)
    chosen[generator(selection.seed, "users", selection.name).choice(num_users, selection.users, replace=False)] = True
    return chosen


def make_catalogue(raw: Path, cleaned: Path, out: Path, selection: Selection, num_users: int) -> dict[str, Any]:
    """Writes the four files into `out`. ValueError when a catalogue of under two items is left."""
    items = read_parquet(cleaned / ITEMS)
    chosen = draw_users(selection, num_users)
    moment = _moment(cleaned, selection)
    ranks = _number_ranks(items["item"])
    first = np.full(items.height, -1, dtype=np.int64)
    if selection.every_user and not chosen.all():
        _note_first(first, read_sequences(cleaned / EVENTS, np.ones(num_users, dtype=bool)))
    lengths, seen, telling, by_text, by_number = [], 0, 0, 0, 0
    for batch in read_sequences(cleaned / EVENTS, chosen):
        _note_first(first, [batch], seen)
        seen += len(batch.items)
        parts = parts_of(batch, moment)
        ends = np.concatenate([[0], np.cumsum(parts == sequences.HISTORY)])[batch.offsets]
        lengths.append(np.diff(ends).astype(np.int32))
        in_order, says = _ascending(batch, batch.items, selection.ties_drawn)
        by_text, telling = by_text + int(in_order.sum()), telling + int(says.sum())
        if ranks is not None:
            by_number += int(_ascending(batch, ranks[batch.items], selection.ties_drawn)[0].sum())
    catalogue, rows = _rows(items, first, read_parquet(raw / TEXTS) if selection.every_line else None, selection)
    if catalogue.height < 2:
        raise ValueError(f"{selection.name}: all users have the same one item; a catalogue needs two")
    texts = catalogue["text"].fill_null(NO_TEXT)
    _refuse_ids_that_do_not_meet(selection.name, catalogue, raw)
    catalogue.with_columns(text=texts).write_parquet(out / CATALOGUE)
    np.save(out / ROWS, rows)
    np.save(out / CHOSEN, chosen)
    np.save(out / LENGTHS, np.concatenate(lengths))
    return {
        "num_users": int(chosen.sum()),
        "num_items": catalogue.height,
        "num_interactions": seen,
        "share_sorted_by_id": round(max(by_text, by_number) / telling, 6) if telling else 0.0,
        "split_moment": moment,
    }


def _note_first(first: np.ndarray, batches: Iterable[Sequences], seen: int = 0) -> None:
    """Into `first`, by item code, the place of an item's first interaction; those that have one keep it."""
    for batch in batches:
        # Assigned backwards, so that of an item's places in this batch the first one stays.
        places = np.flatnonzero(first[batch.items] < 0)[::-1]
        first[batch.items[places]] = places + seen
        seen += len(batch.items)


def _refuse_ids_that_do_not_meet(name: str, catalogue: pl.DataFrame, raw: Path) -> None:
    """ValueError where few items have a text in the item file; says how ids look on both sides."""
    absent = catalogue.filter(pl.col("text").is_null())
    bare = absent.height + sum(not values(text) for text in catalogue["text"].drop_nulls())
    item = scan_parquet(raw / TEXTS).select("item").head(1).collect()["item"]
    why = f"{bare:,} say nothing there; look at the file of item texts"
    if absent.height > bare / 2:
        shown = f"{absent['item'][0]!r} is not in the file of item texts"
        why = f"{shown}, which has {item[0]!r}" if len(item) else f"{shown}, which is empty"
        why += "; do the two files name the same items in the same way?"
    refuse_few_texts(name, bare, catalogue.height, why)


def parts_of(batch: Sequences, moment: int | None) -> np.ndarray:
    """The part of each interaction: leave-one-out, or the split at `moment` (milliseconds since 1970)."""
    return (
        sequences.leave_one_out(batch.offsets)
        if moment is None
        else sequences.split_at(batch.offsets, batch.times, moment)
    )


def _ascending(batch: Sequences, ranks: np.ndarray, ties_drawn: bool) -> tuple[np.ndarray, np.ndarray]:
    """`ascending` of the order that the source had."""
    return sequences.ascending(
        batch.offsets, sequences.ties_by_rank(batch.offsets, batch.times, ranks) if ties_drawn else ranks
    )


def _moment(cleaned: Path, selection: Selection) -> int | None:
    if selection.split_share is None:
        return None
    times = scan_parquet(cleaned / EVENTS).select(pl.col("time").quantile(1 - selection.split_share, "lower"))
    return int(times.collect(engine="streaming").item())


def _number_ranks(items: pl.Series) -> np.ndarray | None:
    """The order of the ids as numbers, by code; None where the ids are not all numbers."""
    if not items.str.contains(r"^[0-9]{1,18}$").all():
        return None
    return np.argsort(np.argsort(items.cast(pl.Int64).to_numpy(), kind="stable")).astype(np.int64)


def _rows(
    items: pl.DataFrame, first: np.ndarray, texts: pl.DataFrame | None, selection: Selection
) -> tuple[pl.DataFrame, np.ndarray]:
    """(catalogue: item, text in the order of the rows; code -> row)."""
    table = items.with_row_index("code").with_columns(pl.Series("first", first))
    touched = table.filter(pl.col("first") >= 0)
    if texts is not None:  # every line of the item file is a row
        table = texts.join(table.select("item", "code"), on="item", how="left", maintain_order="left")
    elif selection.file_order:
        table = touched.sort("line", maintain_order=True, nulls_last=True)
    else:
        table = touched.sort("first")
    table = table.with_row_index("row")
    rows = np.full(items.height, -1, dtype=np.int32)
    known = table.drop_nulls("code")
    rows[known["code"].to_numpy()] = known["row"].to_numpy()
    return table.select("item", "text"), rows


def allocate(
    available: Mapping[str, int], max_users: int | None, total_users: int | None, exponent: float
) -> dict[str, int]:
    """Users of each category, in the order of `available`.

    max_users: cap of a category (30,000 in the paper, section 3.1). total_users: cap of all together, shared in
    proportion to (capped size) ** exponent: 1 is proportional, 0 uniform. Rounded down, the rest goes to the largest
    fractions. ValueError when the total leaves a category without a user.
    """
    caps = {name: min(users, max_users or users) for name, users in available.items()}
    if total_users is None or total_users >= sum(caps.values()):
        return caps
    given: dict[str, int] = {}
    left = total_users
    open_names = list(caps)
    while True:  # categories that have less than their share give all, and the others share what is left
        weights = {name: caps[name] ** exponent for name in open_names}
        scale = left / sum(weights.values())
        full = [name for name in open_names if weights[name] * scale >= caps[name]]
        if not full:
            break
        for name in full:
            given[name] = caps[name]
            left -= caps[name]
        open_names = [name for name in open_names if name not in given]
    shares = {name: weights[name] * scale for name in open_names}
    given |= {name: int(share) for name, share in shares.items()}
    rest = total_users - sum(given.values())
    for name in sorted(open_names, key=lambda name: (-(shares[name] % 1), name))[:rest]:
        given[name] += 1
    empty = [name for name in caps if not given[name]]
    if empty:
        raise ValueError(f"total_users {total_users} leaves no user for {', '.join(empty)}; give more")
    return {name: given[name] for name in caps}
