"""A made-up evaluation: ranks, results and texts that try to break out of the page. No number here was measured."""

from typing import Any

import numpy as np
import polars as pl

from zeroshot.judge.ranks import UserFacts, ranks_table
from zeroshot.judge.rows import comparisons_from_ranks, measured, rows_from_ranks
from zeroshot.judge.segments import segments_from_ranks
from zeroshot.report import results

HOSTILE = '<img onerror="alert(1)" src=x> </script><script>alert("2")</script> \'"=1+1 $x^2$ {{ 7*7 }} | & `y`'
FORMULA = "=HYPERLINK(1)+cmd|' /C calc'!A0"
STRENGTH = {
    "idgenrec": 0.5, "untrained": 0.03, "random": 0.02, "popularity": 0.15, "repeat": 0.1, "tfidf-last": 0.55,
    "tfidf-decayed": 0.6, "sasrec": 0.8,
}  # fmt: skip
KINDS = dict.fromkeys(STRENGTH, "baseline") | {"idgenrec": "model", "untrained": "control", "sasrec": "supervised"}
SWEPT = (("beam", 10), ("beam", 50), ("template", 1), ("template", 10))
PROTOCOLS = ("all", "new")


def made_up_ranks(
    tasks: tuple[str, ...] = ("Beauty", "Yelp"), num_users: int = 400, strength: dict[str, float] | None = None,
    seed: int = 5,
) -> pl.DataFrame:  # fmt: skip
    """Ranks of every recommender; a user of the model who has a hit is a little surer of it."""
    draw = np.random.default_rng(seed)
    parts = []
    for task in tasks:
        facts = UserFacts(
            users=[f"{task}-{number}" for number in range(num_users)],
            target_is_new_N=draw.random(num_users) < (0.9 if task == "Yelp" else 1.1),
            history_lengths_N=draw.integers(3, 40, num_users),
            target_counts_N=draw.geometric(0.08, num_users) - 1,
            text_words_N=draw.integers(4, 60, num_users),
            id_tokens_N=draw.integers(2, 12, num_users),
        )
        every = STRENGTH if strength is None else strength
        for protocol in PROTOCOLS:
            for recommender, strong in every.items():
                easier_N = np.clip(facts.target_counts_N / 20, 0.4, 1.6)
                hits_N = draw.random(num_users) < strong * 0.3 * easier_N
                ranks_N = np.where(hits_N, np.minimum(draw.geometric(0.15, num_users), 30), np.inf)
                scored = recommender == "idgenrec"
                parts.append(
                    ranks_table(
                        task, recommender, protocol, facts, ranks_N,
                        novelty_N=draw.normal(11 + 4 * strong, 1, num_users),
                        top_scores_N=draw.exponential(1.5, num_users) * -1 - 3 + 1.5 * hits_N if scored else None,
                    )
                )  # fmt: skip
    return pl.concat(parts)


def quality(distinct: float, numbers: float | None, kept: dict[str, float], leaked: dict[str, int]) -> dict[str, Any]:
    return {
        "items": 100, "distinct": distinct, "leaked": leaked, "prefix_pairs": 0, "words_kept": kept,
        "numbers_kept": numbers,
    }  # fmt: skip


def provenance(seed: int = 0, recipe: str = "cd") -> dict[str, Any]:
    return {
        "created": "2025-01-01T00:00:00Z",
        "git": "0123abc",
        "dirty": True,
        "versions": {"python": "3.12", "torch": "2.9"},
        "hardware": {"gpu": "none", "cpu": "2 cores"},
        "wall_seconds": 12.5,
        "checkpoint": "step-000400",
        "manifest_sha256": "ab" * 32,
        "config_sha256": f"{seed:064x}",
        "recipe_sha256": recipe * 32,
        "training_seed": seed,
        "scoring": {
            "beam": 20,
            "prior_weight": 0.0,
            "blend_weight": 0.0,
            "popularity_weight": 0.0,
            "repeats": "free",
            "precision": "fp32",
        },
        "seed": 0,
    }


def task_entry(num_users: int, **changes: Any) -> dict[str, Any]:
    return {
        "num_users": 22363, "num_items": 12101, "users_judged": num_users,
        "version": 1, "order": "chronological", "sample": None,
        "data_sha256": "ef" * 32, "counts_match": True,
    } | changes  # fmt: skip


def users_of(count: int) -> list[dict[str, Any]]:
    """Browsable users; the first are hostile or at the edge."""
    history = ["argan oil shampoo", "matte lip colour pencil", HOSTILE, FORMULA] * 3
    listed = [[f"{word} hair mask", -1.5 - place / 3] for place, word in enumerate("abcdefghi")]
    listed.append(["ceramic brush", -6.0])
    shown = [
        {"user": HOSTILE, "history": history, "target": "ceramic brush", "list": listed, "rank": 10.0},
        {"user": FORMULA, "history": history[:4], "target": "c hair mask", "list": listed, "rank": 3.0},
        {"user": "u3", "history": history[:4], "target": "soap", "list": listed, "rank": float("inf")},
    ]
    return shown + [{**shown[2], "user": f"u{number}", "rank": 25.5} for number in range(4, count + 1)]


def titles_of() -> dict[str, str]:
    words = {
        f"{letter} hair mask": f"{letter.upper()} Professional Repairing Hair Mask, 8.4 Ounce" for letter in "abcdefghi"
    }
    words |= {"argan oil shampoo": HOSTILE, "soap": FORMULA, "matte lip colour pencil": "NYX Matte Lip Pencil, Rose"}
    return words | {"ceramic brush": "Ceramic Round Brush for Blow Drying, 1.7 Inch"}


def ids_of(num_examples: int = 2) -> dict[str, Any]:
    examples = [
        {"item": "B001", "text": HOSTILE, "id": "ceramic hair dryer", "untrained": "", "trained": HOSTILE},
        {
            "item": "B002",
            "text": "title: argan oil shampoo; brand: na; categories: beauty, hair care",
            "id": "argan oil shampoo",
            "untrained": "title argan oil",
            "trained": "argan oil shampoo",
        },
    ] * ((num_examples + 1) // 2)
    return {
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


def audit_of(tasks: list[str], failed: bool = False) -> list[dict[str, Any]]:
    checks = []
    for task in tasks:
        checks += [
            {"task": task, "check": "targets permuted", "verdict": "passed", "words": "no list of 16 users changed"},
            {"task": task, "check": "items in Fusion", "verdict": "passed", "words": "0 of 12,101"},
            {"task": task, "check": "users in Fusion", "verdict": "unknown", "words": "ids of Phones are anonymised"},
            {"task": task, "check": "order", "verdict": "note", "words": "share of histories sorted by id: 0.8%"},
        ]
    if failed:
        words = f"lists of 3 users changed with the target {HOSTILE}"
        checks.append({"task": tasks[0], "check": "targets permuted", "verdict": "failed", "words": words})
    return checks


def sweep_row(table: pl.DataFrame, task: str, setting: str, value: int) -> dict[str, Any]:
    few = table.filter(task=task, protocol="all").group_by("recommender", maintain_order=True).head(60 + value)
    where = {"task": task, "protocol": "all", "setting": setting, "value": value}
    return where | measured(few.filter(recommender=few["recommender"][0])["rank"].to_numpy(), 0)


def made_up_results(
    table: pl.DataFrame, kinds: dict[str, str] | None = None, failed: bool = False, shown: int = 3,
    origin: dict[str, Any] | None = None, rows_alone: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """`rows_alone`: without comparisons, segments and sweeps, which take longest; `compare` reads none."""
    tasks = list(dict.fromkeys(table["task"].to_list()))
    kinds = KINDS if kinds is None else kinds
    num_users = table.filter(task=tasks[0])["user"].n_unique()
    coverages = {
        (task, name, protocol, users): 0.02 + 0.1 * place
        for task in tasks
        for place, name in enumerate(list(kinds)[:8])
        for protocol in PROTOCOLS
        for users in ("all", "new_target")
    }
    return results.build(
        provenance() if origin is None else origin,
        tasks={task: task_entry(num_users) for task in tasks},
        rows=rows_from_ranks(table, kinds, coverages),
        comparisons=[] if rows_alone else comparisons_from_ranks(table, kinds),
        segments=[] if rows_alone else segments_from_ranks(table, kinds),
        sweeps=[]
        if rows_alone
        else [sweep_row(table, task, setting, value) for task in tasks for setting, value in SWEPT],
        audit=audit_of(tasks, failed),
        ids={task: ids_of(30 if shown > 3 else 2) for task in tasks},
        users={task: users_of(shown) for task in tasks},
        titles={task: titles_of() for task in tasks},
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
