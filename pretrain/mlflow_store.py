"""The MLflow side of tracking. The only file that imports mlflow.

Enters: points and events of one run. Leaves: one MLflow run that has them. Must hold: every call may be repeated, after
an answer that got lost too, and leaves nothing twice: a run is found again by its key, a point by its value, step and
time, a model by its name.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

KEY = "idgenrec.key"
"""Tag of the run that our folder is tracked in, unique to the folder."""
# A request is repeated by the delivery, not inside MLflow, whose eight attempts of two minutes would look like a hang.
REQUESTS = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "20", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1"}


def unreachable() -> tuple[type[BaseException], ...]:
    """What a store that is away, ill or full raises."""
    from mlflow.exceptions import MlflowException
    from requests import RequestException
    from sqlalchemy.exc import SQLAlchemyError

    return (MlflowException, RequestException, SQLAlchemyError, OSError)


class Store:
    """One run of one experiment at a tracking URI. Every method may raise one of `unreachable()`."""

    def __init__(
        self, uri: str, experiment: str, name: str, key: str, run_id: str | None, artifacts: str | None
    ) -> None:
        import logging

        for logger in ("alembic", "mlflow", "urllib3"):
            logging.getLogger(logger).setLevel(logging.ERROR)
        for variable, value in REQUESTS.items():
            os.environ.setdefault(variable, value)
        import mlflow
        from mlflow.tracking import MlflowClient

        mlflow.set_tracking_uri(uri)  # artefacts of a client of its own would go to the global one's
        self._client: Any = MlflowClient(tracking_uri=uri)
        found = self._client.get_experiment_by_name(experiment)
        self._experiment: str = (
            self._client.create_experiment(experiment, artifact_location=artifacts)
            if found is None
            else found.experiment_id
        )
        self.run_id: str = run_id or self._find(key) or self._create(name, key)

    def _find(self, key: str) -> str | None:
        runs = self._client.search_runs([self._experiment], f"tags.`{KEY}` = '{key}'", max_results=1)
        return runs[0].info.run_id if runs else None

    def _create(self, name: str, key: str) -> str:
        return self._client.create_run(self._experiment, run_name=name, tags={KEY: key}).info.run_id

    def points(self, points: Sequence[tuple[str, float, int, int]]) -> None:
        """Points of metrics: key, value, time in ms, step."""
        from mlflow.entities import Metric

        self._client.log_batch(self.run_id, metrics=[Metric(*point) for point in points])

    def event(self, event: Mapping[str, Any]) -> None:
        """Anything else that a tracker says (`tracking.Tracker`)."""
        getattr(self, f"_{event['event']}")(event)

    def _opened(self, event: Mapping[str, Any]) -> None:
        self._client.update_run(self.run_id, status="RUNNING")
        for key, value in event["tags"].items():
            self._client.set_tag(self.run_id, key, value)

    def _parameters(self, event: Mapping[str, Any]) -> None:
        from mlflow.entities import Param

        self._client.log_batch(self.run_id, params=[Param(key, str(value)) for key, value in event["values"].items()])

    def _artifact(self, event: Mapping[str, Any]) -> None:
        self._client.log_artifact(self.run_id, event["path"])

    def _dataset(self, event: Mapping[str, Any]) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag

        dataset = Dataset(
            event["data"], event["digest"], "local", event["source"], profile=json.dumps(event["profile"])
        )
        tags = [InputTag("mlflow.data.context", event["context"])]
        self._client.log_inputs(self.run_id, [DatasetInput(dataset, tags)])

    def _model(self, event: Mapping[str, Any]) -> None:
        """A logged model: where its folder is and the hash of its weights; the weights stay where they are."""
        wanted = f"name = '{event['model']}' AND source_run_id = '{self.run_id}'"
        found = self._client.search_logged_models([self._experiment], wanted)
        tags = {key: str(event[key]) for key in ("folder", "sha256")}
        if found:
            self._client.set_logged_model_tags(found[0].model_id, tags)
            return
        params = {key: str(value) for key, value in event["params"].items()}
        model = self._client.create_logged_model(self._experiment, event["model"], self.run_id, tags, params)
        self._client.finalize_logged_model(model.model_id, "READY")

    def _closed(self, event: Mapping[str, Any]) -> None:
        self._client.set_terminated(self.run_id, status=event["status"], end_time=event["time_ms"])
