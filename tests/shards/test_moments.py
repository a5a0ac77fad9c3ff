"""Reviews of one moment: the same one twice, and ties in the order of the source."""

from typing import Any

import pytest
from raw_files import write

from shards.build import build
from shards.config import BuildConfig
from shards.tables import load_holdout

DAY = 86_400_000


def review(user: str, item: str, day: int) -> dict[str, Any]:
    return {"user_id": user, "parent_asin": item, "rating": 5.0, "timestamp": day * DAY, "asin": item}


def built(folder, reviews, progress=lambda line: None, **changes):
    """(shard folder, manifest) of one category of 2023, its metadata made for it."""
    items = sorted({line["parent_asin"] for line in reviews})
    write(folder / "Grocery", "Grocery.jsonl", reviews)
    write(folder / "Grocery", "meta_Grocery.jsonl", [{"parent_asin": item, "title": f"tin {item}"} for item in items])
    settings: dict[str, Any] = {"out": str(folder / "out"), "train": (str(folder / "Grocery"),), "vocab_size": 300}
    return folder / "out", build(BuildConfig(**(settings | changes)), progress)


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
