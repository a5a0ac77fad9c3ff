"""A small made-up evaluation: ranks, results and texts that try to break out of the page."""

from typing import Any

import numpy as np
import polars as pl
import pytest

from zeroshot import results
from zeroshot.tasks import Task

HOSTILE = '<img onerror="alert(1)" src=x> </script><script>alert("2")</script> \'"=1+1 $x^2$ {{ 7*7 }} | & `y`'
KINDS = {"idgenrec": "model", "random": "baseline", "popularity": "baseline", "repeat": "baseline"}
KINDS |= {"tfidf-last": "baseline", "tfidf-decayed": "baseline"}
STRENGTH = {
    "idgenrec": 0.5,
    "random": 0.02,
    "popularity": 0.15,
    "repeat": 0.1,
    "tfidf-last": 0.55,
    "tfidf-decayed": 0.6,
}


def made_up_ranks(tasks: tuple[str, ...] = ("Beauty", "Yelp"), num_users: int = 400) -> pl.DataFrame:
    draw = np.random.default_rng(5)
    parts = []
    for task in tasks:
        users = [f"{task}-{number}" for number in range(num_users)]
        is_new = draw.random(num_users) < (0.9 if task == "Yelp" else 1.1)
        lengths = draw.integers(3, 40, num_users)
        for protocol in ("all", "new"):
            for recommender, strength in STRENGTH.items():
                hits = draw.random(num_users) < strength * 0.3
                ranks_N = np.where(hits, draw.integers(1, 15, num_users), np.inf)
                table = results.ranks_table(task, recommender, protocol, users, ranks_N, is_new, lengths)
                parts.append(table)
    return pl.concat(parts)


def quality(distinct: float, numbers: float | None, kept: dict[str, float], leaked: dict[str, int]) -> dict[str, Any]:
    return {
        "items": 100, "distinct": distinct, "leaked": leaked, "prefix_pairs": 0, "words_kept": kept,
        "numbers_kept": numbers,
    }  # fmt: skip


def made_up_results(table: pl.DataFrame) -> dict[str, Any]:
    tasks = list(dict.fromkeys(table["task"].to_list()))
    rows = results.rows_from_ranks(table, KINDS)
    comparisons = results.comparisons_from_ranks(table, KINDS)
    history = ["argan oil shampoo", "matte lip colour pencil", HOSTILE, "ceramic hair dryer"] * 3
    listed = [[f"{word} hair mask", -1.5 - place / 3] for place, word in enumerate("abcdefghi")] + [
        ["ceramic brush", -6.0]
    ]
    examples = [
        {"item": "B001", "text": HOSTILE, "id": "ceramic hair dryer", "untrained": "", "trained": HOSTILE},
        {
            "item": "B002",
            "text": "title: argan oil shampoo; brand: na; categories: beauty, hair care",
            "id": "argan oil shampoo",
            "untrained": "title argan oil",
            "trained": "argan oil shampoo",
        },
    ]
    return results.build(
        provenance={
            "created": "2025-01-01T00:00:00Z",
            "git": "0123abc",
            "dirty": True,
            "versions": {"python": "3.12", "torch": "2.9"},
            "hardware": {"gpu": "none", "cpu": "2 cores"},
            "wall_seconds": 12.5,
            "checkpoint": "runs/demo/step-000400",
            "manifest_sha256": "ab" * 32,
            "seed": 0,
        },
        tasks={task: {"num_users": 22363, "num_items": 12101, "users_judged": 400} for task in tasks},
        rows=rows,
        comparisons=comparisons,
        ids={
            task: {
                "num_items": 12101,
                "second_attempt_share": 0.1543,
                "longer_share": 0.0411,
                "suffixed_share": 0.0004,
                "examples": examples,
                "quality": {
                    "untrained": quality(0.25, None, {"title": 0.5}, {"title": 30, "na": 0}),
                    "trained": quality(0.8765, 0.125, {"title": 0.875, "brand": 0.25}, {"title": 0, "na": 0}),
                },
                "sampled": 100,
                "length_histogram": {"3": 400, "4": 2100, "5": 4300, "6": 2900, "7": 1100, "12": 30},
            }
            for task in tasks
        },
        users={
            task: [
                {"user": HOSTILE, "history": history, "target": "ceramic brush", "list": listed, "rank": 10.0},
                {"user": "u2", "history": history[:4], "target": "c hair mask", "list": listed, "rank": 3.0},
                {"user": "u3", "history": history[:4], "target": "soap", "list": listed, "rank": float("inf")},
            ]
            for task in tasks
        },
        training={
            "losses": [
                {"phase": phase, "step": step, "loss": 6 / (1 + step / 40) + 0.8}
                for phase in ("round 0 recommender", "round 1 generator", "round 1 recommender")
                for step in range(0, 400, 5)
            ],
            "validation": [
                {"phase": "recommender", "step": step, "NDCG@10": 0.01 * step**0.5} for step in range(0, 400, 100)
            ],
        },
    )


@pytest.fixture(scope="session")
def kinds() -> dict[str, str]:
    return KINDS


@pytest.fixture(scope="session")
def ranks() -> pl.DataFrame:
    return made_up_ranks()


@pytest.fixture(scope="session")
def found(ranks: pl.DataFrame) -> dict[str, Any]:
    return made_up_results(ranks)


def walkers(num_users: int = 150, seed: int = 1) -> Task:
    """Everyone walks round a ring of items, one or two steps at a time, from a start of their own; a few items are
    starts more often than others, so that popularity says something."""
    ring = 40
    draw = np.random.default_rng(seed)
    starts = np.minimum(draw.integers(0, ring, num_users), draw.integers(0, ring, num_users))
    walks = [(start + np.cumsum(draw.choice([1, 1, 1, 2], size=7))) % ring for start in starts]
    return Task(
        name="Ring",
        users=[f"u{number}" for number in range(num_users)],
        texts=[f"title: bead {row // 8} of row {row % 8}" for row in range(ring)],
        items=[f"i{row:02d}" for row in range(ring)],
        histories=[walk[:-1] for walk in walks],
        targets=np.array([walk[-1] for walk in walks]),
        training_histories=[walk[:-2] for walk in walks],
        validation=np.array([walk[-2] for walk in walks]),
    )


@pytest.fixture(scope="session")
def ring_task():
    """`ring_task(num_users, seed)`: users who walk round a ring of forty items."""
    return walkers
