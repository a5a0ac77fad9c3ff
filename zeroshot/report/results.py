"""`results.json`, version 3: what an evaluation found, as one checked JSON object.

Enters: provenance, tasks, rows, comparisons, segments, sweeps, audit, IDs, users, curves. Leaves: the object and the
file. What must hold: with `ranks.parquet` beside it, it is all that a report shows of a run; a file of another version
or with a missing part is refused with one line.
"""

import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

import polars as pl

from shards.files.atomic import write_whole
from zeroshot.judge.ranks import load_ranks
from zeroshot.judge.rows import COMPARISON_KEYS, KINDS, ROW_KEYS, SWEEP_KEYS, USERS, comparisons_from_ranks
from zeroshot.judge.segments import SEGMENT_KEYS

VERSION = 3
METRICS = ("HR@5", "NDCG@5", "HR@10", "NDCG@10", "MRR@10")
PROVENANCE = (
    "created",
    "git",
    "dirty",
    "versions",
    "hardware",
    "wall_seconds",
    "checkpoint",
    "manifest_sha256",
    "config_sha256",
    "recipe_sha256",
    "training_seed",
    "scoring",
    "seed",
)
REQUIRED: dict[str, type] = {
    "version": int, "provenance": dict, "tasks": dict, "rows": list, "comparisons": list, "segments": list,
    "sweeps": list, "audit": list, "ids": dict, "users": dict, "titles": dict, "training": dict,
}  # fmt: skip
TASK_KEYS = ("num_users", "num_items", "users_judged", "version", "order", "sample", "data_sha256", "counts_match")
ID_KEYS = ("num_items", "second_attempt_share", "longer_share", "suffixed_share", "examples")
USER_KEYS = ("user", "history", "target", "list", "rank")
AUDIT_KEYS = ("task", "check", "verdict", "words")
VERDICTS = ("failed", "unknown", "note", "passed")
SAME = ("checkpoint", "manifest_sha256", "config_sha256", "scoring", "seed")
"""Of the provenance: what reports of one evaluation agree in."""


def build(
    provenance: dict[str, Any],
    tasks: dict[str, dict[str, Any]],
    rows: list[dict[str, Any]],
    comparisons: list[dict[str, Any]],
    *,
    segments: list[dict[str, Any]] | None = None,
    sweeps: list[dict[str, Any]] | None = None,
    audit: list[dict[str, Any]] | None = None,
    ids: dict[str, dict[str, Any]] | None = None,
    users: dict[str, list[dict[str, Any]]] | None = None,
    titles: dict[str, dict[str, str]] | None = None,
    training: dict[str, list[dict[str, Any]]] | None = None,
) -> dict[str, Any]:
    """The checked results object. A user's infinite rank becomes null, because JSON has no infinity.

    Args:
        provenance, tasks, rows, comparisons, segments, sweeps, audit: as docs/contracts.md says.
        ids: the ID book of each task.
        users: browsable users of each task, items as IDs.
        titles: task -> ID -> the item in words, for the IDs that the users show.
        training: loss and validation curves of the run.
    """
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
        "segments": segments or [],
        "sweeps": sweeps or [],
        "audit": audit or [],
        "ids": ids or {},
        "users": shown,
        "titles": titles or {},
        "training": training or {"losses": [], "validation": []},
    }
    validate(results)
    return results


def validate(results: Any) -> None:
    """ValueError with one line that says what is wrong with a results object."""
    if not isinstance(results, dict) or results.get("version") != VERSION:
        version = results.get("version") if isinstance(results, dict) else None
        raise ValueError(
            f"results of version {version!r}: this program reads version {VERSION}; make them again with "
            "`idgenrec zeroshot`"
        )
    for key, kind in REQUIRED.items():
        if not isinstance(results.get(key), kind):
            raise ValueError(f"results: `{key}` is missing or no {kind.__name__}")
    need(results["provenance"], PROVENANCE, "provenance")
    for name, task in results["tasks"].items():
        need(task, TASK_KEYS, f"task {name}")
    for row in results["rows"]:
        need(row, ROW_KEYS, "a row")
        need(row["metrics"], METRICS, f"metrics of {row['recommender']}")
        if row["users"] not in USERS:
            raise ValueError(f"results: row of {row['recommender']} names an unknown group of users")
        check_row(row, results["tasks"])
        if row["coverage@10"] is not None and not 0 <= row["coverage@10"] <= 1:
            raise ValueError(f"results: coverage@10 of {row['recommender']} on {row['task']} is not between 0 and 1")
    for comparison in results["comparisons"]:
        need(comparison, COMPARISON_KEYS, "a comparison")
    for row in results["segments"]:
        need(row, SEGMENT_KEYS, "a segment")
        check_row(row, results["tasks"])
    for row in results["sweeps"]:
        need(row, SWEEP_KEYS, "a sweep")
    for check in results["audit"]:
        need(check, AUDIT_KEYS, "a check of the audit")
        if check["verdict"] not in VERDICTS:
            raise ValueError(f"results: verdict {check['verdict']!r} is none of {', '.join(VERDICTS)}")
    for name, book in results["ids"].items():
        need(book, ID_KEYS, f"ids of {name}")
    for entries in results["users"].values():
        for user in entries:
            need(user, USER_KEYS, "a user")
    need(results["training"], ("losses", "validation"), "training")


def check_row(row: dict[str, Any], tasks: dict[str, Any]) -> None:
    """ValueError for an unknown kind or task, or a metric that is no share."""
    if row["kind"] not in KINDS or row["task"] not in tasks:
        raise ValueError(f"results: row of {row['recommender']} names an unknown kind or task")
    if not all(0 <= value <= 1 for value in row["metrics"].values()):
        raise ValueError(f"results: a metric of {row['recommender']} on {row['task']} is not between 0 and 1")


def need(entry: Any, keys: tuple[str, ...], what: str) -> None:
    """ValueError unless `entry` is an object with all the keys."""
    missing = [key for key in keys if not isinstance(entry, dict) or key not in entry]
    if missing:
        raise ValueError(f"results: {what} lacks {', '.join(missing)}")


def save(results: dict[str, Any], path: str | Path) -> None:
    """Writes a checked results.json; ValueError for what JSON cannot hold, such as an infinite number."""
    validate(results)
    write_whole(Path(path), json.dumps(results, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


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


def join(folders: list[Path]) -> tuple[dict[str, Any], pl.DataFrame]:
    """The results object and the ranks of reports on different data sets, in the order of the folders: the report that
    one job would have written, with comparisons corrected over all data sets again.

    Raises ValueError for a data set that two reports have, and for reports of different evaluations.
    """
    parts = [load(folder / "results.json") for folder in folders]
    for folder, other in zip(folders[1:], parts[1:], strict=True):
        for key in SAME:
            if other["provenance"][key] != parts[0]["provenance"][key]:
                raise ValueError(
                    f"{folders[0]} and {folder} differ in {key}: they are no parts of one evaluation; "
                    "`idgenrec compare` puts runs side by side"
                )
    times = Counter(task for part in parts for task in part["tasks"])
    twice = [task for task, count in times.items() if count > 1]
    if twice:
        raise ValueError(f"{', '.join(twice)}: judged in more than one of these folders; leave all but one out")
    ranks = pl.concat([load_ranks(folder / "ranks.parquet") for folder in folders])
    rows = [row for part in parts for row in part["rows"]]
    provenance = parts[0]["provenance"] | {
        "dirty": any(part["provenance"]["dirty"] for part in parts),
        "wall_seconds": round(sum(part["provenance"]["wall_seconds"] for part in parts), 1),
    }
    whole: Any = {key: [entry for part in parts for entry in part[key]] for key in ("segments", "sweeps", "audit")}
    whole |= {key: {n: v for part in parts for n, v in part[key].items()} for key in ("ids", "users", "titles")}
    return build(
        provenance,
        {name: facts for part in parts for name, facts in part["tasks"].items()},
        rows,
        comparisons_from_ranks(ranks, {row["recommender"]: row["kind"] for row in rows}, provenance["seed"]),
        training=parts[0]["training"],
        **whole,
    ), ranks
