"""What an evaluation and its training run tell each other: loss curves one way, results in MLflow the other.

Enters: results and the run folder. Leaves: the `training` part of results.json; metrics and report in MLflow. Must
hold: lines go to the evaluation's own folder first, so that a tracker that is away loses nothing.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from pretrain.config.tracking_uri import default_uri, present_uri
from pretrain.runtime.progress import Reporter
from pretrain.runtime.redaction import HIDDEN
from pretrain.tracking.tracker import Tracker, read_lines, tracked_at
from zeroshot.protocol.config import EvaluateConfig

LIST_NUMBERS = ("coverage@10", "novelty@10")


def training_section(run: Path) -> dict[str, list[dict[str, Any]]]:
    """Loss curves and validations of the run, from its JSON lines."""
    losses, validation = [], []
    for line in read_lines(run / "metrics.jsonl"):
        group = line["group"]
        if f"{group}/loss" in line:
            losses.append({"phase": group, "step": line["step"], "loss": line[f"{group}/loss"]})
        if group == "validation":
            values = {
                key.split("/")[1].replace("_at_", "@"): line[key] for key in line if key.startswith("validation/")
            }
            validation.append({"phase": group, "step": line["step"], **values})
    return {"losses": losses, "validation": validation}


def store_of(run: Path, given: str | None) -> str:
    """The MLflow store that results of a run go to: the one `given`, or that of the training.

    A local store moves along with the folder that holds it and the run. Raises ValueError where the training's URI was
    written without its password and nobody gives it, or its store is nowhere.
    """
    trained = tracked_at(run)
    if given or trained is None:
        return given or default_uri(run.parent)
    uri = trained.uri if HIDDEN not in trained.uri else os.environ.get("MLFLOW_TRACKING_URI")
    if not uri:
        raise ValueError(
            f"{run} is tracked at {trained.uri}; give the whole URI with --tracking-uri, or in MLFLOW_TRACKING_URI"
        )
    return present_uri(run, uri, trained.run_id)


def publish(
    built: dict[str, Any], files: list[Path], config: EvaluateConfig, run: Path, state: dict[str, Any],
    reporter: Reporter,
) -> None:  # fmt: skip
    """Metrics per data set and the report into the MLflow run that trained the checkpoint."""
    uri, trained = store_of(run, config.tracking_uri), tracked_at(run)
    experiment, key = (trained.experiment, trained.key) if trained else ("idgenrec", None)
    run_id = (trained.run_id if trained else None) or state["run_id"]
    out = Path(config.out)
    with Tracker(out, uri, experiment, run.name, run_id, reporter, key=key, owns_run=False) as tracker:
        for row in built["rows"]:
            if row["kind"] == "model" and row["users"] == "all":
                prefix = f"zeroshot/{row['task']}/{row['recommender']}/{row['protocol']}"
                values = row["metrics"] | {name: row[name] for name in LIST_NUMBERS if row[name] is not None}
                # MLflow's names have no "@".
                named = {f"{prefix}/{metric}".replace("@", "_at_"): value for metric, value in values.items()}
                tracker.metrics(named, 0, group="zeroshot")
        for path in files:
            tracker.artifact(path)
