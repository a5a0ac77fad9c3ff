"""The tables of what was chosen on a held-out category: kept runs beside each other on the same users.

Enters: kept reports (`kept.py`). Leaves: lines of tables. Must hold: every figure is computed from kept ranks.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from benchmarks.results.kept import KEPT, hits_of, kept_ranks, runs_of, step_of
from benchmarks.tables import table
from pretrain.ranking.metrics import per_user
from zeroshot.judge.rows import COMPARED
from zeroshot.judge.significance import holm, paired_difference, permutation_test
from zeroshot.protocol.config import POPULARITY_BLEND, TEXT_BLEND
from zeroshot.report.formatting import p_text, signed_text

PROTOCOLS = {"all": "every item is ranked, as in the paper", "new": "without the items of the history"}


def metrics(ranks: pl.DataFrame, task: str, protocol: str) -> str | None:
    """HR@10 / NDCG@10, None where nobody was judged."""
    part = ranks.filter(task=task, protocol=protocol)
    if not part.height:
        return None
    values = per_user(part["rank"].to_numpy())
    return " / ".join(f"{values[metric].mean():.4f}" for metric in COMPARED)


def choices(folder: Path) -> list[str]:
    """A line for each kept run and scoring of the model on the held-out category, and what came of it under both
    protocols; then those without training, on the same users."""
    rows: list[list[str]] = []
    found = runs_of(folder)
    for model, runs in found.items():
        for run in runs:
            scoring = run.results["provenance"]["scoring"]
            blends = {TEXT_BLEND: scoring.get("blend_weight"), POPULARITY_BLEND: scoring.get("popularity_weight")}
            share = run.results["provenance"]["checkpoint"].partition("interpolated-")[2] or "1"
            for task in run.protocols:
                users = run.ranks.filter(task=task)["user"].n_unique()
                own = [metrics(run.ranks, task, protocol) for protocol in PROTOCOLS]
                values = (scoring["beam"], scoring["prior_weight"], scoring["length_penalty"], blends.get(model, 0))
                cells = [share, *(f"{value:g}" for value in values), scoring.get("precision", "fp32"), f"{users:,}"]
                rows.append([run.name.split("/")[0], model, task, *cells, *map(str, own)])
    peers = found[TEXT_BLEND][0].peers
    for name in ("tfidf-last", "tfidf-decayed", "text+popularity"):
        for task in peers["task"].unique(maintain_order=True):
            part = peers.filter(task=task, recommender=name)
            own = [str(metrics(part, task, protocol)) for protocol in PROTOCOLS]
            rows.append(["", name, task, *[""] * 6, f"{part['user'].n_unique():,}", *own])
    scoring = ["trained share", "beam", "prior weight", "length penalty", "blend weight", "precision"]
    columns = ["run", "recommender", "held out", *scoring, "users", *PROTOCOLS]
    return table(columns, list(map(list, dict.fromkeys(map(tuple, rows)))))


def ablations(folders: dict[str, Path], reference: str, metric: str = "HR@10") -> list[str]:
    """A line for each kept run and control: the step of the checkpoint that was judged, HR@10 / NDCG@10, and the paired
    difference of the metric from `reference` with its interval and the p value after Holm's correction within a
    protocol."""
    runs = {name: kept_ranks(folder) for name, folder in folders.items()}
    compared = reference, "idgenrec"
    [task] = set.union(*(set(ranks["task"]) for ranks in runs.values()))
    shown = [
        (run, name) for run, ranks in runs.items() for name in ranks["recommender"].unique(maintain_order=True)
        if name in ("idgenrec", "untrained", "untrained-ids") or run == reference
    ]  # fmt: skip
    columns: list[list[str]] = []
    for protocol in PROTOCOLS:
        hits_SN = hits_of([(runs[run], name) for run, name in shown], task, protocol, metric)
        values = dict(zip(shown, hits_SN, strict=True))
        others = [one for one in shown if one != compared]
        p_M = holm(np.array([permutation_test(values[one], values[compared], 0) for one in others]))
        differences: dict[tuple[str, str], str] = {compared: "reference"}
        for one, p in zip(others, p_M, strict=True):
            mean, low, high = paired_difference(values[one], values[compared], 0)
            differences[one] = f"{signed_text(mean)} ({signed_text(low)} to {signed_text(high)}), p {p_text(float(p))}"
        columns.append([str(metrics(runs[run].filter(recommender=name), task, protocol)) for run, name in shown])
        columns.append([differences[one] for one in shown])
    users = runs[reference].filter(task=task)["user"].n_unique()
    head = [
        f"{users:,} users of {task}",
        "",
        "step",
        *(f"{protocol}{what}" for protocol in PROTOCOLS for what in ("", ", difference")),
    ]
    steps = [step_of(folders[run]) if name in ("idgenrec", "untrained-ids") else "" for run, name in shown]
    return table(head, [[*one, steps[row], *(column[row] for column in columns)] for row, one in enumerate(shown)])


def checkpoints() -> list[str]:
    """Half of the steps of a run beside all of them, for three runs."""
    kept = KEPT / "checkpoints"
    lines: list[str] = []
    for whole, half in (
        (KEPT / "phones" / "ids", kept / "phones-step-40"),
        (kept / "users-150-step-80", kept / "users-150-step-40"),
        (kept / "users-3000-step-450", kept / "users-3000-step-225"),
    ):
        lines += ablations({"all steps": whole, "half of them": half}, reference="all steps", metric="NDCG@10")
    return lines


def mixture() -> list[str]:
    """What the Fusion is mixed of, with either category held out."""
    kept = KEPT / "mixture"
    phones = {"uniform": KEPT / "phones" / "ids", "proportional": kept / "phones-proportional"}
    office = {"uniform": KEPT / "checkpoints" / "users-150-step-80", "Games alone": kept / "office-games"}
    return [*ablations(phones, reference="uniform"), *ablations(office, reference="uniform")]
