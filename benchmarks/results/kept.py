"""Reports of judged runs on real data, kept without anybody's data.

Enters: a report folder of `idgenrec zeroshot`. Leaves: `docs/results/NAME` with results.json and ranks.parquet. Must
hold: no item text, ID or user's name is kept.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from pretrain.ranking.metrics import per_user
from zeroshot.compare.comparison import Judged, load_run
from zeroshot.judge.ranks import load_ranks, save_ranks
from zeroshot.report import results

KEPT = Path(__file__).parents[2] / "docs" / "results"


def without_data(found: dict[str, Any]) -> dict[str, Any]:
    """A results object without examples: no text, no ID, no name."""
    emptied = {part: {task: type(held)() for task, held in found[part].items()} for part in ("users", "titles")}
    return found | emptied | {"ids": {name: book | {"examples": []} for name, book in found["ids"].items()}}


def numbered(ranks: pl.DataFrame) -> pl.DataFrame:
    """The ranks of the users that the models judged. A user is its place among the judged names of the set: the same
    in every report of one sample."""
    judged = ranks.filter(recommender="idgenrec").select("task", "user").unique()
    kept = ranks.join(judged, on=["task", "user"], how="semi", maintain_order="left")
    return kept.with_columns(pl.col("user").rank("dense").over("task").cast(pl.Int64).cast(pl.String))


def keep(name: str, report: Path) -> Path:
    """Both files of a report into `docs/results/NAME`."""
    folder = KEPT / name
    folder.mkdir(parents=True, exist_ok=True)
    results.save(without_data(results.load(report / "results.json")), folder / "results.json")
    save_ranks(numbered(load_ranks(report / "ranks.parquet")), folder / "ranks.parquet")
    return folder


def runs_of(folder: Path) -> dict[str, list[Judged]]:
    """The kept runs below a folder, in the order of their names, by model ("idgenrec" and its blend)."""
    found: dict[str, list[Judged]] = {}
    for path in sorted(file.parent for file in folder.glob("*/results.json")):
        for run in load_run(path, path.name):
            found.setdefault(run.model, []).append(run)
    return found


def step_of(folder: Path) -> str:
    """The training step of the checkpoint that a kept run judged; "" where it has none."""
    found = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    step = found["provenance"]["checkpoint"].removeprefix("step-")
    return f"{int(step):,}" if step.isdigit() else ""


def hits_of(judged: Sequence[tuple[pl.DataFrame, str]], task: str, protocol: str, metric: str = "HR@10") -> np.ndarray:
    """The metric of each user, float [len(judged), N], for recommenders of kept ranks: (ranks, name). A column is one
    user. Raises ValueError where they have not judged the same users."""
    parts = [ranks.filter(task=task, protocol=protocol, recommender=name).sort("user") for ranks, name in judged]
    whom = [part.select("user", "target_is_new", "history_length", "text_words") for part in parts]
    if not all(users.equals(whom[0]) for users in whom):
        raise ValueError(f"not the same users of {task}; keep one sample of it")
    return np.stack([per_user(part["rank"].to_numpy())[metric] for part in parts])
