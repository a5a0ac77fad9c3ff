"""The MLflow side of tracking. The only file that imports mlflow.

Enters: points and events of one run. Leaves: one MLflow run that has them. Must hold: every call may be repeated, after
an answer that got lost too, and leaves nothing twice: a run is found again by its key, a point by its value, step and
time, a model by its name. What MLflow will never take is told from an MLflow that is away.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pretrain.config.tracking_uri import sqlite_file
from pretrain.runtime.redaction import redacted
from shards.files.atomic import locked

KEY = "idgenrec.key"
"""Tag of the run that our folder is tracked in, unique to the folder."""
# A request is repeated by the delivery, not inside MLflow, whose eight attempts of two minutes would look like a hang,
# and which would repeat the making of a run whose answer was lost without looking for that run. Nor does it print URIs.
SETTINGS = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
PARAMETERS = 100
"""Parameters of one request, as many as MLflow takes."""
REFUSALS = ("INVALID_PARAMETER_VALUE", "INVALID_STATE", "RESOURCE_DOES_NOT_EXIST", "ENDPOINT_NOT_FOUND")
"""Codes of answers that asking again does not change."""

FINAL = ("INVALID_PARAMETER_VALUE", "ENDPOINT_NOT_FOUND", "UNAUTHENTICATED", "PERMISSION_DENIED")
"""Codes of answers to the first question that say the address is a wrong one."""


class Refused(Exception):
    """MLflow is well and will never take this."""


class Lost(Exception):
    """MLflow does not know the run: its store is another one."""


class Unusable(ConnectionError):
    """MLflow will never take this address, however long one waits."""


class Deleted(ConnectionError):
    """Somebody has deleted the run in MLflow; until it is restored the run counts as away."""


def unreachable() -> tuple[type[BaseException], ...]:
    """What a store that is away, ill or full raises."""
    from alembic.util import CommandError
    from mlflow.exceptions import MlflowException
    from requests import RequestException
    from sqlalchemy.exc import SQLAlchemyError

    return (MlflowException, RequestException, SQLAlchemyError, CommandError, OSError)


@contextmanager
def _alone(uri: str) -> Iterator[None]:
    """Nobody else opens this SQLite file meanwhile: MLflow makes its tables without a lock, and two jobs of an array
    that begin together would be in each other's way."""
    store = sqlite_file(uri)
    if store is None:
        yield
        return
    with locked(store.with_name(f"{store.name}.lock")):
        undecoded = Path(uri.removeprefix("sqlite:///")).parent
        strays = [folder for folder in (undecoded, *undecoded.parents) if not folder.exists()]
        yield
        for folder in strays:  # MLflow makes the folders of a URI as it is spelt, too, and keeps nothing in them
            if folder.is_dir():
                folder.rmdir()


class Store:
    """One run of one experiment at a tracking URI. Every method may raise one of `unreachable()`."""

    def __init__(
        self, uri: str, experiment: str, name: str, key: str, run_id: str | None, artifacts: str | None,
        started_ms: int,
    ) -> None:  # fmt: skip
        import logging

        for logger in ("alembic", "mlflow", "urllib3"):
            logging.getLogger(logger).setLevel(logging.ERROR)
        for variable, value in SETTINGS.items():
            os.environ.setdefault(variable, value)
        import mlflow
        from mlflow.tracking import MlflowClient

        mlflow.set_tracking_uri(uri)  # artefacts of a client of its own would go to the global one's
        try:
            with _alone(uri):
                self._client: Any = MlflowClient(tracking_uri=uri)
                known = self._client.get_experiment_by_name(experiment)
                self._experiment: str = (
                    self._client.create_experiment(experiment, artifact_location=artifacts)
                    if known is None
                    else known.experiment_id
                )
        except (*unreachable(), ImportError) as error:
            if _is_final(error):
                raise Unusable(
                    f"MLflow cannot use this address, give another --tracking-uri: {words_of(error)}"
                ) from error
            raise
        self.run_id: str = run_id or self._find(key) or self._create(name, key, started_ms)

    def _find(self, key: str) -> str | None:
        """The oldest run of that key. A request that was given up may have made one later than its successor did."""
        runs = self._client.search_runs(
            [self._experiment], f"tags.`{KEY}` = '{key}'", max_results=1, order_by=["attributes.start_time ASC"]
        )
        return runs[0].info.run_id if runs else None

    def _create(self, name: str, key: str, started_ms: int) -> str:
        run = self._client.create_run(self._experiment, start_time=started_ms, tags={KEY: key}, run_name=name)
        return run.info.run_id

    def points(self, points: Sequence[tuple[str, float, int, int]]) -> None:
        """Points of metrics: key, value, time in ms, step."""
        from mlflow.entities import Metric

        self._ask(lambda: self._client.log_batch(self.run_id, metrics=[Metric(*point) for point in points]))

    def event(self, event: Mapping[str, Any]) -> None:
        """Anything else that a tracker says (`tracking.Tracker`)."""
        self._ask(lambda: getattr(self, f"_{event['event']}")(event))

    def _ask(self, request: Callable[[], None]) -> None:
        """Make a request. Raises Lost, Deleted or Refused for an answer that another attempt does not change."""
        from mlflow.exceptions import MlflowException

        # A run may be restored between an answer and our look at it; a second answer is about a run that stood.
        for last in (False, True):
            try:
                request()
                return
            except MlflowException as error:
                if error.error_code not in REFUSALS:
                    raise
                self._must_stand(error)
                if last:
                    raise Refused(words_of(error)) from error

    def _must_stand(self, refusal: BaseException) -> None:
        """Raises Lost or Deleted where the run is why MLflow has refused."""
        from mlflow.exceptions import MlflowException

        try:
            run = self._client.get_run(self.run_id)
        except MlflowException as none:
            if none.error_code == "RESOURCE_DOES_NOT_EXIST":
                raise Lost(self.run_id) from refusal
            raise
        if run.info.lifecycle_stage == "deleted":
            raise Deleted(f"run {self.run_id} is deleted in MLflow; restore it there") from refusal

    def _opened(self, event: Mapping[str, Any]) -> None:
        self._client.update_run(self.run_id, status="RUNNING")
        for key, value in event["tags"].items():
            self._client.set_tag(self.run_id, key, value)

    def _parameters(self, event: Mapping[str, Any]) -> None:
        from mlflow.entities import Param

        params = [Param(key, str(value)) for key, value in event["values"].items()]
        for start in range(0, len(params), PARAMETERS):
            self._client.log_batch(self.run_id, params=params[start : start + PARAMETERS])

    def _artifact(self, event: Mapping[str, Any]) -> None:
        if not Path(event["path"]).is_file():
            raise Refused(f"{event['path']} is not there any more")
        try:
            self._client.log_artifact(self.run_id, event["path"])
        except unreachable():
            raise
        except Exception as error:  # of the library of some cloud's storage, or that it is not installed
            raise Refused(words_of(error)) from error

    def _dataset(self, event: Mapping[str, Any]) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag

        dataset = Dataset(
            event["data"], event["digest"], "local", event["source"], profile=json.dumps(event["profile"])
        )
        tags = [InputTag("mlflow.data.context", event["context"])]
        self._client.log_inputs(self.run_id, [DatasetInput(dataset, tags)])

    def _model(self, event: Mapping[str, Any]) -> None:
        """A logged model: where its folder is and the hash of its weights; the weights stay where they are."""
        from mlflow.entities import LoggedModelOutput

        wanted = f"name = '{event['model']}' AND source_run_id = '{self.run_id}'"
        models = self._client.search_logged_models([self._experiment], wanted)
        tags = {key: str(event[key]) for key in ("folder", "sha256")}
        if models:
            model = models[0]
            self._client.set_logged_model_tags(model.model_id, tags)
        else:
            params = {key: str(value) for key, value in event["params"].items()}
            model = self._client.create_logged_model(self._experiment, event["model"], self.run_id, tags, params)
        self._client.finalize_logged_model(model.model_id, "READY")
        outputs = self._client.get_run(self.run_id).outputs  # MLflow would write the same output down again
        if outputs is None or model.model_id not in [output.model_id for output in outputs.model_outputs]:
            self._client.log_outputs(self.run_id, [LoggedModelOutput(model.model_id, 0)])

    def _closed(self, event: Mapping[str, Any]) -> None:
        self._client.set_terminated(self.run_id, status=event["status"], end_time=event["time_ms"])
        self._remove_twins()

    def _remove_twins(self) -> None:
        """Delete empty runs of our key: a slow server has made them after the request for them was given up."""
        key = self._client.get_run(self.run_id).data.tags.get(KEY)
        if key is None:
            return
        for run in self._client.search_runs([self._experiment], f"tags.`{KEY}` = '{key}'"):
            if run.info.run_id != self.run_id and not run.data.metrics and not run.data.params:
                self._client.delete_run(run.info.run_id)


def _is_final(error: BaseException) -> bool:
    """Whether opening the same address again fails again: it is malformed, the driver of its database is not installed,
    nobody serves MLflow there, or not to us."""
    from mlflow.exceptions import InvalidUrlException, MlflowException
    from sqlalchemy.exc import ArgumentError

    if isinstance(error, MlflowException):
        return isinstance(error, InvalidUrlException) or error.error_code in FINAL
    return isinstance(error, ImportError | ArgumentError)


def words_of(error: BaseException) -> str:
    """An error in one short line without passwords."""
    if isinstance(error, Unusable):
        return str(error)
    words = str(error).strip().splitlines() or [""]
    return redacted(f"{type(error).__name__}: {words[0][:400]}")
