"""`results.json` and `ranks.parquet`: what an evaluation leaves behind.

Enters: ranks per (task, recommender, protocol, user) and the notes of a run. Leaves: rows of metrics with 95%
intervals, paired differences of each model to each baseline, one checked JSON object. What must hold: every number of
a report comes from these two files; a file of an unknown version or with a missing part is refused.
"""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from pretrain.metrics import per_user
from zeroshot.stats import bootstrap_interval, paired_difference

VERSION = 1
COMPARED = ("HR@10", "NDCG@10")
METRICS = ("HR@5", "NDCG@5", "HR@10", "NDCG@10")
USERS = ("all", "new_target")
KINDS = ("model", "control", "baseline")
"""A control is the model with something taken away (its training); it is compared like a model and claims nothing."""
RANKS_SCHEMA = {
    "task": pl.String,
    "recommender": pl.String,
    "protocol": pl.String,
    "user": pl.String,
    "rank": pl.Float64,
    "target_is_new": pl.Boolean,
}
"""Columns of ranks.parquet; a further int column `history_length` is allowed and feeds one plot of the report."""
PROVENANCE = (
    "created",
    "git",
    "dirty",
    "versions",
    "hardware",
    "wall_seconds",
    "checkpoint",
    "manifest_sha256",
    "seed",
)
REQUIRED: dict[str, type] = {
    "version": int, "provenance": dict, "tasks": dict, "rows": list,
    "comparisons": list, "ids": dict, "users": dict, "training": dict,
}  # fmt: skip
ROW_KEYS = ("task", "recommender", "kind", "protocol", "users", "num_users", "metrics", "intervals")
COMPARISON_KEYS = ("task", "protocol", "users", "recommender", "baseline", "metric", "difference", "low", "high")
ID_KEYS = ("num_items", "second_attempt_share", "longer_share", "suffixed_share", "examples")


def ranks_table(
    task: str,
    recommender: str,
    protocol: str,
    users: list[str],
    ranks_N: np.ndarray,
    target_is_new_N: np.ndarray,
    history_lengths_N: np.ndarray | None = None,
) -> pl.DataFrame:
    """Rows of ranks.parquet for one judged recommender: one per user, rank inf where the target is absent."""
    columns: dict[str, Any] = {
        "task": [task] * len(users),
        "recommender": [recommender] * len(users),
        "protocol": [protocol] * len(users),
        "user": users,
        "rank": np.asarray(ranks_N, dtype=np.float64),
        "target_is_new": np.asarray(target_is_new_N, dtype=bool),
    }
    if history_lengths_N is None:
        return pl.DataFrame(columns, schema=RANKS_SCHEMA)
    columns["history_length"] = np.asarray(history_lengths_N, dtype=np.int32)
    return pl.DataFrame(columns, schema=RANKS_SCHEMA | {"history_length": pl.Int32})


def save_ranks(ranks: pl.DataFrame, path: str | Path) -> None:
    """Writes ranks.parquet.

    Raises:
        ValueError: a column is missing or of another type, or a user is there twice for one recommender.
    """
    for column, dtype in RANKS_SCHEMA.items():
        if ranks.schema.get(column) != dtype:
            raise ValueError(f"ranks have column {column} as {ranks.schema.get(column)}, expected {dtype}")
    if ranks.select("task", "recommender", "protocol", "user").is_duplicated().any():
        raise ValueError("a user has two ranks for one recommender, task and protocol")
    ranks.write_parquet(path)


def groups(ranks: pl.DataFrame) -> Iterator[tuple[tuple[str, str, str], pl.DataFrame]]:
    """((task, protocol, users), ranks of those users), in the order of appearance; empty groups are left out."""
    for (task, protocol), part in ranks.group_by(["task", "protocol"], maintain_order=True):
        for users in USERS:
            chosen = part if users == "all" else part.filter(pl.col("target_is_new"))
            if chosen.height:
                yield (str(task), str(protocol), users), chosen


def rows_from_ranks(ranks: pl.DataFrame, kinds: dict[str, str], seed: int = 0) -> list[dict[str, Any]]:
    """Metrics with 95% intervals of each (task, recommender, protocol, users), users in {all, new_target}.

    Args:
        ranks: the columns of RANKS_SCHEMA.
        kinds: "model", "control" or "baseline" of every recommender.
        seed: of the bootstrap.
    """
    rows: list[dict[str, Any]] = []
    for (task, protocol, users), part in groups(ranks):
        for (recommender,), own in part.group_by(["recommender"], maintain_order=True):
            values = per_user(own["rank"].to_numpy())
            rows.append(
                {
                    "task": task,
                    "recommender": str(recommender),
                    "kind": kind_of(kinds, str(recommender)),
                    "protocol": protocol,
                    "users": users,
                    "num_users": own.height,
                    "metrics": {metric: float(values_N.mean()) for metric, values_N in values.items()},
                    "intervals": {
                        metric: list(bootstrap_interval(values_N, seed)) for metric, values_N in values.items()
                    },
                }
            )
    return rows


def comparisons_from_ranks(ranks: pl.DataFrame, kinds: dict[str, str], seed: int = 0) -> list[dict[str, Any]]:
    """Paired HR@10 and NDCG@10 differences over the same users, with 95% intervals.

    A model is compared with every control and baseline, a control with every baseline. Where one judged a sample of the
    other's users, these are the common ones.

    Raises:
        ValueError: two were judged on different users, neither's a part of the other's.
    """
    found: list[dict[str, Any]] = []
    for (task, protocol, users), part in groups(ranks):
        by_name = {str(name): own.sort("user") for (name,), own in part.group_by(["recommender"], maintain_order=True)}
        standing = {name: KINDS.index(kind_of(kinds, name)) for name in by_name}
        for model in by_name:
            for baseline in (name for name in by_name if standing[name] > standing[model]):
                common = by_name[model].join(by_name[baseline], on="user", how="inner", suffix="_other").sort("user")
                if common.height != min(by_name[name].height for name in (model, baseline)):
                    raise ValueError(f"{task}: {model} and {baseline} were judged on different users")
                own, other = (per_user(common[column].to_numpy()) for column in ("rank", "rank_other"))
                for metric in COMPARED:
                    difference, low, high = paired_difference(own[metric], other[metric], seed)
                    values = (task, protocol, users, model, baseline, metric, difference, low, high)
                    found.append(dict(zip(COMPARISON_KEYS, values, strict=True)))
    return found


def kind_of(kinds: dict[str, str], recommender: str) -> str:
    """The kind of a recommender; ValueError when it is not given."""
    if kinds.get(recommender) not in KINDS:
        raise ValueError(f"recommender {recommender} needs a kind, one of {', '.join(KINDS)}")
    return kinds[recommender]


def build(
    provenance: dict[str, Any],
    tasks: dict[str, dict[str, int]],
    rows: list[dict[str, Any]],
    comparisons: list[dict[str, Any]],
    ids: dict[str, dict[str, Any]] | None = None,
    users: dict[str, list[dict[str, Any]]] | None = None,
    training: dict[str, list[dict[str, Any]]] | None = None,
    audit: list[dict[str, Any]] | None = None,
) -> dict[str, Any]:
    """The checked results object, version 1. A user's infinite rank becomes null, because JSON has no infinity."""
    shown = {
        task: [{**user, "rank": None if math.isinf(user["rank"] or 0) else user["rank"]} for user in entries]
        for task, entries in (users or {}).items()
    }
    results = {
        "version": VERSION,
        "provenance": provenance,
        "tasks": tasks,
        "rows": rows,
        "comparisons": comparisons,
        "ids": ids or {},
        "users": shown,
        "training": training or {"losses": [], "validation": []},
        "audit": audit or [],
    }
    validate(results)
    return results


def validate(results: Any) -> None:
    """ValueError with one line that says what is wrong with a results object."""
    if not isinstance(results, dict) or results.get("version") != VERSION:
        version = results.get("version") if isinstance(results, dict) else None
        raise ValueError(f"results of version {version!r}: this program reads version {VERSION}")
    for key, kind in REQUIRED.items():
        if not isinstance(results.get(key), kind):
            raise ValueError(f"results: `{key}` is missing or no {kind.__name__}")
    need(results["provenance"], PROVENANCE, "provenance")
    for name, task in results["tasks"].items():
        need(task, ("num_users", "num_items", "users_judged"), f"task {name}")
    for row in results["rows"]:
        need(row, ROW_KEYS, "a row")
        need(row["metrics"], METRICS, f"metrics of {row['recommender']}")
        if row["kind"] not in KINDS or row["users"] not in USERS or row["task"] not in results["tasks"]:
            raise ValueError(f"results: row of {row['recommender']} names an unknown kind, group of users or task")
        if not all(0 <= value <= 1 for value in row["metrics"].values()):
            raise ValueError(f"results: a metric of {row['recommender']} on {row['task']} is not between 0 and 1")
    for comparison in results["comparisons"]:
        need(comparison, COMPARISON_KEYS, "a comparison")
    for name, book in results["ids"].items():
        need(book, ID_KEYS, f"ids of {name}")
    for entries in results["users"].values():
        for user in entries:
            need(user, ("user", "history", "target", "list", "rank"), "a user")
    need(results["training"], ("losses", "validation"), "training")


def need(entry: Any, keys: tuple[str, ...], what: str) -> None:
    """ValueError unless `entry` is an object with all the keys."""
    missing = [key for key in keys if not isinstance(entry, dict) or key not in entry]
    if missing:
        raise ValueError(f"results: {what} lacks {', '.join(missing)}")


def save(results: dict[str, Any], path: str | Path) -> None:
    """Writes a checked results.json; ValueError for what JSON cannot hold, such as an infinite number."""
    validate(results)
    Path(path).write_text(json.dumps(results, indent=1, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")


def load(path: str | Path) -> dict[str, Any]:
    """Reads and checks results.json; ValueError when it is missing, no JSON, or of an unknown version."""
    if not Path(path).is_file():
        raise ValueError(f"no results in {path}")
    try:
        results = json.loads(Path(path).read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is no JSON: {error}") from None
    validate(results)
    return results
