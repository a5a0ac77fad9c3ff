"""The headline table: one row per unseen set and model, with everything that must stand beside the number.

Enters: a results object. Leaves: rows with the model's HR@10 and NDCG@10, the best training-free baseline of each,
the paired difference, the paper's Table 7 and the ceiling. What must hold: all of a row is under one protocol and
about one group of users; the paper stands beside `all` alone, the protocol it ranks under; the ceiling is never the
best baseline.
"""

from typing import Any

from zeroshot.report import published_tables
from zeroshot.report.claims import Against, differences, full_lists_mark

METRICS = ("HR@10", "NDCG@10")
PAPER_MODELS = ("UniSRec", "IDGenRec")


def headline_rows(found: dict[str, Any], protocol: str, users: str = "all") -> list[dict[str, Any]]:
    """One row per (task, model) judged under the protocol, in the order of the results."""
    return [
        {
            "task": row["task"],
            "model": row["recommender"],
            "num_users": row["num_users"],
            "mark": full_lists_mark(found, row["task"], protocol),
            "values": {metric: (row["metrics"][metric], *row["intervals"][metric]) for metric in METRICS},
            "best": {metric: best(found, row, metric) for metric in METRICS},
            "ceiling": {metric: ceiling(found, row, metric) for metric in METRICS},
            "paper": {model: paper_cells(row["task"], model) for model in PAPER_MODELS} if protocol == "all" else {},
        }
        for row in found["rows"]
        if (row["kind"], row["protocol"], row["users"]) == ("model", protocol, users)
    ]


def best(found: dict[str, Any], row: dict[str, Any], metric: str) -> tuple[float, Against] | None:
    """The strongest training-free baseline on the row's users: (its value there, the difference to it), if any."""
    against = differences(found, row, metric).values()
    if not against:
        return None
    strongest = min(against, key=lambda one: one.difference)
    return row["metrics"][metric] - strongest.difference, strongest


def ceiling(found: dict[str, Any], row: dict[str, Any], metric: str) -> tuple[str, float] | None:
    """The best recommender trained on the set itself: (name, value), if one was judged."""
    where = {key: row[key] for key in ("task", "protocol", "users")} | {"kind": "supervised"}
    values = {peer["recommender"]: peer["metrics"][metric] for peer in found["rows"] if where.items() <= peer.items()}
    return max(values.items(), key=lambda pair: pair[1]) if values else None


def paper_cells(dataset: str, model: str) -> dict[str, published_tables.Cell]:
    """Metric -> the printed cell of Table 7; empty where the paper does not have the data set."""
    return {
        cell.metric: cell
        for cell in published_tables.cells([7])
        if (cell.dataset, cell.model) == (dataset, model) and cell.metric in METRICS
    }
