"""Reviews of one moment: the same one twice, and ties in the order of the source."""

import random
from pathlib import Path
from typing import Any

import pytest
from raw_files import write

from shards.build.build import build
from shards.config import BuildConfig
from shards.records import ITEM_SCHEMA
from shards.tables import items_file, load_holdout, read_table

DAY = 86_400_000


def review(user: str, item: str, day: int) -> dict[str, Any]:
    return {"user_id": user, "parent_asin": item, "rating": 5.0, "timestamp": day * DAY, "asin": item}


def built(folder, reviews, progress=lambda line: None, **changes):
    """(shard folder, manifest) of one category of 2023, its metadata made for it."""
    items = sorted({line["parent_asin"] for line in reviews})
    write(folder / "Grocery", "Grocery.jsonl", reviews)
    write(folder / "Grocery", "meta_Grocery.jsonl", [{"parent_asin": item, "title": f"tin {item}"} for item in items])
    settings: dict[str, Any] = {"out": str(folder / "out"), "train": (str(folder / "Grocery"),), "vocab_size": 300}
    config = BuildConfig(**(settings | changes))
    return Path(config.out), build(config, progress)


def test_a_review_that_comes_twice_is_one_interaction(tmp_path):
    once = [review(f"u{user}", f"B{(user + step) % 6}", step) for user in range(6) for step in range(5)]
    lines: list[str] = []
    out, manifest = built(tmp_path, [line for line in once for _ in range(2)], lines.append)
    [member] = manifest.members
    assert member.num_interactions == 30 and member.cleaning["duplicates_removed"] == 30
    holdout = load_holdout(out, "Grocery")
    assert (holdout.valid != holdout.test).all()
    assert any("30 interactions were the same review again" in line for line in lines)
    assert "30 the same review again (user, item and moment)" in (out / "README.md").read_text()


def test_reviews_that_come_twice_do_not_fill_the_core(tmp_path):
    once = [review(f"u{user}", f"B{(user + step) % 6}", step) for user in range(6) for step in range(4)]
    with pytest.raises(ValueError, match="no user is left after cleaning"):
        built(tmp_path, once * 2)


def sorted_source(users: int = 60, days: int = 4, a_day: int = 3):
    """Reviews of a few days, several a day, in a file sorted by item id: the ties stand in the order of the ids."""
    draw, items = random.Random(3), [f"B{number:03d}" for number in range(40)]
    reviews = [
        review(f"u{user}", item, day)
        for user in range(users)
        for day, bought in enumerate(batched(draw.sample(items, days * a_day), a_day))
        for item in bought
    ]
    return sorted(reviews, key=lambda line: line["parent_asin"])


def batched(values, size):
    return [values[start : start + size] for start in range(0, len(values), size)]


def whole(out):
    holdout = load_holdout(out, "Grocery")
    names = [item.split("/")[1] for item in read_table(out, items_file("Grocery"), ITEM_SCHEMA)["item"].to_pylist()]
    return {
        user: [names[row] for row in (*history, valid, test)]
        for user, history, valid, test in zip(
            holdout.users, holdout.histories, holdout.valid, holdout.test, strict=True
        )
    }


def test_ties_in_the_order_of_the_ids_are_drawn_by_the_seed_and_told(tmp_path):
    lines: list[str] = []
    reviews = sorted_source()
    out, manifest = built(tmp_path, reviews, lines.append, seed=5)
    cleaning = manifest.members[0].cleaning
    assert cleaning["ties_drawn"] and cleaning["ties"] == cleaning["ties_in_id_order"] == 60 * 4 * 2
    assert manifest.members[0].share_sorted_by_id < 0.5
    last = [items[-1] == max(items[-3:]) for items in whole(out).values()]
    assert sum(last) < 0.6 * len(last), "the largest id of the last day is not the target"
    day = {(line["user_id"], line["parent_asin"]): line["timestamp"] for line in reviews}
    for user, items in whole(out).items():
        times = [day[user, item] for item in items]
        assert times == sorted(times), "between moments the order is that of time"
    assert any("480 ties of time stood in the order of the item ids and are drawn" in line for line in lines)
    assert "Grocery (480)" in (out / "README.md").read_text()
    again, _ = built(tmp_path, reviews, out=str(tmp_path / "again"), seed=5)
    other, _ = built(tmp_path, reviews, out=str(tmp_path / "other"), seed=6)
    assert whole(again) == whole(out) != whole(other)


def test_ties_of_a_source_in_another_order_stay(tmp_path):
    reviews = sorted_source()
    random.Random(1).shuffle(reviews)
    out, manifest = built(tmp_path, reviews)
    assert not manifest.members[0].cleaning["ties_drawn"]
    place = {(line["user_id"], line["parent_asin"]): (line["timestamp"], n) for n, line in enumerate(reviews)}
    for user, items in whole(out).items():
        assert items == sorted(items, key=lambda item: place[user, item])


def test_a_source_that_is_all_ties_in_the_order_of_the_ids_is_refused(tmp_path):
    reviews = [line | {"timestamp": 7 * DAY} for line in sorted_source()]
    with pytest.raises(ValueError, match="100.0% of the users have their items in the order of the item ids"):
        built(tmp_path, reviews)
