"""Hand-made shard folders of one unseen set, for the tests of tasks and audit."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa

from shards.manifest import Manifest, Member, TokenizerInfo
from shards.records import HOLDOUT_SCHEMA, ITEM_SCHEMA

Cut = Callable[[list[int]], tuple[list[int], int, int]]
NUM_ITEMS, NUM_USERS = 60, 80
NOUNS = ["kettle", "bowl", "lantern", "bench", "trellis", "compass", "hammock", "flask"]


def honest_cut(rows: list[int]) -> tuple[list[int], int, int]:
    """History, validation item and target of a sequence."""
    return rows[:-2], rows[-2], rows[-1]


def item_ids() -> list[str]:
    """Ids as Amazon has them; their order says nothing about the rows."""
    return [f"B{(row * 7919) % 10**9:09d}" for row in range(NUM_ITEMS)]


def item_texts() -> list[str]:
    words = [f"{NOUNS[row % 8]} {NOUNS[row // 8 % 8]} model{row}" for row in range(NUM_ITEMS)]
    return [f"title: grand {text}; brand: na" for text in words]


def sequences(seed: int = 3, repeats: float = 0.07, num_users: int = NUM_USERS) -> dict[str, list[int]]:
    """Rows by user: popular items more often, some visits a repeat of an earlier one."""
    draw = np.random.default_rng(seed)
    share = 1 / np.arange(1, NUM_ITEMS + 1)
    found = {}
    for user in range(num_users):
        rows = draw.choice(NUM_ITEMS, size=draw.integers(5, 12), replace=False, p=share / share.sum()).tolist()
        for place in range(1, len(rows)):
            if draw.random() < repeats:
                rows[place] = rows[int(draw.integers(place))]
        found[f"AUSER{user:07d}XQ"] = rows
    return found


def write_member(folder: Path, name: str, told: dict[str, list[int]], cut: Cut = honest_cut) -> Path:
    """`<folder>/<name>/{items,holdout}.arrow`."""
    items = [
        {"item": f"{name}/{item}", "text": text, "token_ids": [row]}
        for row, (item, text) in enumerate(zip(item_ids(), item_texts(), strict=True))
    ]
    users = []
    for number, (user, rows) in enumerate(told.items()):
        history, valid, test = cut(rows)
        record = f"{name}/{number:09d}"
        users.append({"record": record, "user": user, "history": history, "valid": valid, "test": test})
    (folder / name).mkdir(parents=True, exist_ok=True)
    for file, schema, entries in (("items", ITEM_SCHEMA, items), ("holdout", HOLDOUT_SCHEMA, users)):
        with pa.ipc.new_file(str(folder / name / f"{file}.arrow"), schema) as sink:
            sink.write_table(pa.Table.from_pylist(entries, schema=schema))
    return folder


def manifest(*tests: str, train: tuple[str, ...] = (), order: str = "chronological", split: str = "leave-one-out"):
    """A manifest that names these data sets."""
    members = tuple(
        Member(name, role, "plain", NUM_USERS, NUM_ITEMS, 0, 0, 0.0, (), {}, {}, {})
        for role, names in (("train", train), ("test", tests))
        for name in names
    )
    return Manifest(TokenizerInfo("f", 128), 1, 1, 0, members, order=order, split=split)
