"""From lists and ranks to the rows and comparisons of results.json.

Enters: lists of ten, the table of `ranks.parquet`, the kind of each recommender. Leaves: coverage and novelty of the
lists; metrics with 95% intervals; paired comparisons with p values. What must hold: all but the coverage can be made
again from the stored ranks; users are paired by name; coverage and novelty look at no target and count an item's
popularity in the training histories (sequence[:-2]) alone; a supervised baseline is compared with but never counted as
free of training.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import polars as pl

from pretrain.ranking.metrics import per_user
from zeroshot.judge.significance import bootstrap_interval, effect_size, holm, paired_difference, paired_test

COMPARED = ("HR@10", "NDCG@10")
USERS = ("all", "new_target")
KINDS = ("model", "blend", "control", "baseline", "supervised")
"""A blend is the model together with what is known of the unseen set. A control is the model with something taken away
(its training); it is compared like a model and claims nothing. A supervised baseline was trained on the unseen set
itself."""
OPPONENTS = {
    "model": ("control", "baseline", "supervised"),
    "blend": ("model", "control", "baseline", "supervised"),
    "control": ("baseline", "supervised"),
}
"""Kinds that a kind is compared with."""
ROW_KEYS = (
    "task", "recommender", "kind", "protocol", "users", "num_users", "metrics", "intervals", "coverage@10",
    "novelty@10",
)  # fmt: skip
COMPARISON_KEYS = (
    "task", "protocol", "users", "recommender", "baseline", "metric", "num_users", "difference", "low", "high",
    "effect", "p", "p_holm",
)  # fmt: skip
SWEEP_KEYS = ("task", "protocol", "setting", "value", "num_users", "metrics", "intervals")
Coverages = dict[tuple[str, str, str, str], float]
"""(task, recommender, protocol, users) -> coverage@10; lists are not stored, so it cannot be made again from ranks."""


def groups(ranks: pl.DataFrame) -> Iterator[tuple[tuple[str, str, str], pl.DataFrame]]:
    """((task, protocol, users), ranks of those users), in the order of appearance; empty groups are left out."""
    for (task, protocol), part in ranks.group_by(["task", "protocol"], maintain_order=True):
        for users in USERS:
            chosen = part if users == "all" else part.filter(pl.col("target_is_new"))
            if chosen.height:
                yield (str(task), str(protocol), users), chosen


def measured(ranks_N: np.ndarray, seed: int, metrics: Iterable[str] | None = None) -> dict[str, Any]:
    """Number of users, means of the metrics (None: of all) and their 95% intervals."""
    values = per_user(ranks_N)
    chosen = list(values if metrics is None else metrics)
    return {
        "num_users": len(ranks_N),
        "metrics": {metric: float(values[metric].mean()) for metric in chosen},
        "intervals": {metric: list(bootstrap_interval(values[metric], seed)) for metric in chosen},
    }


def rows_from_ranks(
    ranks: pl.DataFrame, kinds: dict[str, str], coverages: Coverages | None = None, seed: int = 0
) -> list[dict[str, Any]]:
    """Metrics with 95% intervals of each (task, recommender, protocol, users), users in {all, new_target}.

    Args:
        ranks: the table of ranks.parquet; users in any order.
        kinds: one of KINDS for every recommender.
        coverages: of the lists; None = not measured.
        seed: of the bootstrap.
    """
    rows: list[dict[str, Any]] = []
    for (task, protocol, users), part in groups(ranks):
        for (name,), own in part.group_by(["recommender"], maintain_order=True):
            recommender = str(name)
            kind = kind_of(kinds, recommender)
            # By user: the mean of floats depends on their order, and a stored table may have another one.
            own = own.sort("user")
            novelty = own["novelty"].cast(pl.Float64).mean()
            rows.append(
                {"task": task, "recommender": recommender, "kind": kind, "protocol": protocol, "users": users}
                | measured(own["rank"].to_numpy(), seed)
                | {"coverage@10": (coverages or {}).get((task, recommender, protocol, users)), "novelty@10": novelty}
            )
    return rows


def comparisons_from_ranks(ranks: pl.DataFrame, kinds: dict[str, str], seed: int = 0) -> list[dict[str, Any]]:
    """Paired differences in HR@10 and NDCG@10 on the users of the model, with interval, effect size and p value.

    A model is compared with every control and baseline, a control with every baseline. A baseline may have been judged
    on more users than the model: the pairs are the model's users.

    Raises:
        ValueError: a baseline was not judged on a user of the model.
    """
    found: list[dict[str, Any]] = []
    for (task, protocol, users), part in groups(ranks):
        by_name = {str(name): own.sort("user") for (name,), own in part.group_by(["recommender"], maintain_order=True)}
        for model, own in by_name.items():
            for baseline in by_name:
                if kind_of(kinds, baseline) not in OPPONENTS.get(kind_of(kinds, model), ()):
                    continue
                other = by_name[baseline].filter(pl.col("user").is_in(own["user"].implode()))
                if not own["user"].equals(other["user"]):
                    raise ValueError(f"{task}: {baseline} was not judged on every user of {model}")
                where = {"task": task, "protocol": protocol, "users": users, "recommender": model, "baseline": baseline}
                found += [where | entry for entry in paired_entries(own, other, seed)]
    return corrected(found, ("recommender", "metric", "users", "protocol"))


def paired_entries(own: pl.DataFrame, other: pl.DataFrame, seed: int) -> list[dict[str, Any]]:
    """One entry per compared metric of two tables over the same users in the same order."""
    mine, theirs = (per_user(table["rank"].to_numpy()) for table in (own, other))
    entries: list[dict[str, Any]] = []
    for metric in COMPARED:
        difference, low, high = paired_difference(mine[metric], theirs[metric], seed)
        entries.append(
            {"metric": metric, "num_users": own.height, "difference": difference, "low": low, "high": high}
            | {"effect": effect_size(mine[metric], theirs[metric])}
            | {"p": paired_test(mine[metric], theirs[metric], seed)}
        )
    return entries


def corrected(entries: list[dict[str, Any]], family: tuple[str, ...]) -> list[dict[str, Any]]:
    """The entries with `p_holm`: Holm's correction over all entries that agree in the keys of `family`."""
    members: dict[tuple[Any, ...], list[int]] = {}
    for place, entry in enumerate(entries):
        members.setdefault(tuple(entry[key] for key in family), []).append(place)
    p_holm = np.empty(len(entries))
    for places in members.values():
        p_holm[places] = holm(np.array([entries[place]["p"] for place in places]))
    return [entry | {"p_holm": float(value)} for entry, value in zip(entries, p_holm, strict=True)]


def kind_of(kinds: dict[str, str], recommender: str) -> str:
    """The kind of a recommender; ValueError when it is not given."""
    if kinds.get(recommender) not in KINDS:
        raise ValueError(f"recommender {recommender} needs a kind, one of {', '.join(KINDS)}")
    return kinds[recommender]


def coverage(top_NK: np.ndarray, num_candidates: int) -> float:
    """Distinct listed items as a share of those that could be listed; ValueError without candidates."""
    if num_candidates < 1:
        raise ValueError("coverage needs at least one candidate")
    return len(np.unique(top_NK[top_NK >= 0])) / num_candidates


def coverage_of_groups(top_NK: np.ndarray, target_is_new_N: np.ndarray, num_candidates: int) -> dict[str, float]:
    """Coverage by the lists of all users, and by those of the users with a new target."""
    return {
        "all": coverage(top_NK, num_candidates),
        "new_target": coverage(top_NK[np.asarray(target_is_new_N, dtype=bool)], num_candidates),
    }


def novelty(top_NK: np.ndarray, counts_I: np.ndarray) -> np.ndarray:
    """Mean surprise of each user's listed items in bits, -log2((count + 1) / (total + items)); NaN for an empty list.

    Args:
        top_NK: item rows, -1 where a list is short.
        counts_I: how often each item of the catalogue occurs in the training histories.
    """
    surprise_I = -np.log2((counts_I + 1) / (counts_I.sum() + len(counts_I)))
    present_NK = top_NK >= 0
    sums_N = np.where(present_NK, surprise_I[np.maximum(top_NK, 0)], 0.0).sum(axis=1)
    lengths_N = present_NK.sum(axis=1)
    return np.where(lengths_N > 0, sums_N / np.maximum(lengths_N, 1), np.nan)
