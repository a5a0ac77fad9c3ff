"""Judged runs on real data, kept small and without anybody's data.

Enters: a report folder of `idgenrec zeroshot`. Leaves: `docs/results/NAME` with ranks.parquet and facts.json. Must
hold: no item text, ID or user's name is kept; every table of the documentation can be made of these two files.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from pretrain.ranking.metrics import per_user
from zeroshot.compare.comparison import Judged
from zeroshot.judge.ranks import load_ranks
from zeroshot.report import results

KEPT = Path(__file__).parents[2] / "docs" / "results"
SCHEMA = {
    "task": pl.String,
    "recommender": pl.String,
    "protocol": pl.String,
    "user": pl.Int32,
    "twice_rank": pl.Int32,
    "target_is_new": pl.Boolean,
    "history_length": pl.Int16,
    "text_words": pl.Int16,
}
"""Of the kept ranks.parquet. A rank is a multiple of a half (ties take the middle), null where the target is absent."""


def numbered(ranks: pl.DataFrame) -> pl.DataFrame:
    """The ranks of the users that the models judged. A user is its place among the judged names of the set: the same
    in every report of one sample."""
    judged = ranks.filter(recommender="idgenrec").select("task", "user").unique()
    shown = ranks.join(judged, on=["task", "user"], how="semi", maintain_order="left")
    return shown.with_columns(pl.col("user").rank("dense").over("task").cast(pl.Int32))


def save_ranks(ranks: pl.DataFrame, path: Path) -> None:
    """Writes ranks whose users are numbers; recommenders stay in their order, users ascend."""
    groups = ranks.select("task", "recommender", "protocol").unique(maintain_order=True).with_row_index("group")
    twice = (pl.col("rank") * 2).replace([float("inf")], [None])
    table = ranks.with_columns(pl.col("user").cast(pl.Int32), twice_rank=twice)
    table = table.join(groups, on=["task", "recommender", "protocol"]).sort("group", "user")
    typed = table.select(pl.col(name).cast(dtype) for name, dtype in SCHEMA.items())
    typed.write_parquet(path, compression="zstd", compression_level=19)


def kept_ranks(folder: Path) -> pl.DataFrame:
    """The kept ranks of a run with `rank` (inf where the target is absent) and users as strings, as the judge has
    them."""
    table = pl.read_parquet(folder / "ranks.parquet").cast({"user": pl.String})
    return table.with_columns(rank=(pl.col("twice_rank") / 2).fill_null(float("inf"))).drop("twice_rank")


def facts_of(report: dict[str, Any]) -> dict[str, Any]:
    """What the tables say of a run beside its ranks: its models, the judged checkpoint and how scores were made."""
    models = dict.fromkeys(row["recommender"] for row in report["rows"] if row["kind"] in ("model", "blend"))
    return {"models": list(models), "provenance": {key: report["provenance"][key] for key in ("checkpoint", "scoring")}}


def load_facts(folder: Path) -> dict[str, Any]:
    """The kept facts of a run."""
    return json.loads((folder / "facts.json").read_text(encoding="utf-8"))


def keep(name: str, report: Path) -> Path:
    """What is kept of a report, into `docs/results/NAME`."""
    folder = KEPT / name
    folder.mkdir(parents=True, exist_ok=True)
    facts = facts_of(results.load(report / "results.json"))
    (folder / "facts.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    save_ranks(numbered(load_ranks(report / "ranks.parquet")), folder / "ranks.parquet")
    return folder


def runs_of(folder: Path) -> dict[str, list[Judged]]:
    """The kept runs below a folder, in the order of their names, by model ("idgenrec" and its blend)."""
    runs: dict[str, list[Judged]] = {}
    for path in sorted(file.parent for file in folder.glob("*/facts.json")):
        facts, ranks = load_facts(path), kept_ranks(path)
        models = facts["models"]
        peers = ranks.filter(~pl.col("recommender").is_in(models))
        for model in models:
            name = path.name if len(models) == 1 else f"{path.name}/{model}"
            runs.setdefault(model, []).append(Judged(name, model, facts, ranks.filter(recommender=model), peers))
    return runs


def step_of(folder: Path) -> str:
    """The training step of the checkpoint that a kept run judged; "" where it has none."""
    step = load_facts(folder)["provenance"]["checkpoint"].removeprefix("step-")
    return f"{int(step):,}" if step.isdigit() else ""


def hits_of(judged: Sequence[tuple[pl.DataFrame, str]], task: str, protocol: str, metric: str = "HR@10") -> np.ndarray:
    """The metric of each user, float [len(judged), N], for recommenders of kept ranks: (ranks, name). A column is one
    user. Raises ValueError where they have not judged the same users."""
    parts = [ranks.filter(task=task, protocol=protocol, recommender=name).sort("user") for ranks, name in judged]
    whom = [part.select("user", "target_is_new", "history_length", "text_words") for part in parts]
    if not all(users.equals(whom[0]) for users in whom):
        raise ValueError(f"not the same users of {task}; keep one sample of it")
    return np.stack([per_user(part["rank"].to_numpy())[metric] for part in parts])
