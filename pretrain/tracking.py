"""Tracking: JSON lines first, MLflow second, rank 0 only. The only file that imports mlflow.

Enters: metrics by step, parameters, artefacts. Leaves: `metrics.jsonl` in the run folder and one MLflow run. Must
hold: a
line is on disk before anything goes to MLflow; MLflow is imported only when a run is opened (it takes seconds).
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from pretrain.interrupt import Interrupted

BATCH = 500


def default_uri(folder: Path) -> str:
    """SQLite beside the runs: `<folder>/mlflow.db`."""
    return f"sqlite:///{folder.resolve() / 'mlflow.db'}"


class Tracker:
    """Writes metrics of one run; a run id takes up an existing MLflow run. Used as a context manager."""

    def __init__(self, folder: Path, uri: str, experiment: str, name: str, run_id: str | None = None) -> None:
        import logging

        logging.getLogger("alembic").setLevel(logging.WARNING)
        logging.getLogger("mlflow").setLevel(logging.WARNING)
        import mlflow
        from mlflow.tracking import MlflowClient

        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / "metrics.jsonl"
        self._client: Any = MlflowClient(tracking_uri=uri)
        if run_id is None:
            mlflow.set_tracking_uri(uri)
            found = self._client.get_experiment_by_name(experiment)
            if found is None:
                artifacts = (folder.parent / "mlartifacts").resolve().as_uri() if uri.startswith("sqlite") else None
                experiment_id = self._client.create_experiment(experiment, artifact_location=artifacts)
            else:
                experiment_id = found.experiment_id
            run_id = self._client.create_run(experiment_id, run_name=name).info.run_id
        else:
            self._client.update_run(run_id, status="RUNNING")
        self.run_id: str = run_id  # type: ignore[assignment]
        self._pending: list[Any] = []

    def parameters(self, values: Mapping[str, Any]) -> None:
        """Log parameters once, nested dicts with dotted names."""
        from mlflow.entities import Param

        params = [Param(key, str(value)) for key, value in _flatten(values).items()]
        self._client.log_batch(self.run_id, params=params)

    def metrics(self, values: Mapping[str, float], step: int, **labels: Any) -> None:
        """Log metrics at a step; `labels` go to the JSON line only."""
        from mlflow.entities import Metric

        now = time.time()
        with self.path.open("a") as lines:
            lines.write(json.dumps({"time": round(now, 3), "step": step, **labels, **values}) + "\n")
        self._pending += [Metric(key, float(value), int(now * 1000), step) for key, value in values.items()]
        if len(self._pending) >= BATCH:
            self.flush()

    def artifact(self, path: Path) -> None:
        """Attach a file to the run."""
        self._client.log_artifact(self.run_id, str(path))

    def flush(self) -> None:
        """Send what is pending to MLflow."""
        for start in range(0, len(self._pending), BATCH):
            self._client.log_batch(self.run_id, metrics=self._pending[start : start + BATCH])
        self._pending = []

    def __enter__(self) -> Tracker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.flush()
        status = "FINISHED" if kind is None else "KILLED" if kind in (KeyboardInterrupt, Interrupted) else "FAILED"
        self._client.set_terminated(self.run_id, status=status)


def _flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def read_lines(path: Path) -> list[dict[str, Any]]:
    """All JSON lines of a run, oldest first."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []
