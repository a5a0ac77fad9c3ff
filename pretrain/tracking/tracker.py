"""Tracking: JSON lines first, MLflow second, rank 0 only.

Enters: metrics by step, parameters, data sets, models, artefacts. Leaves: `metrics.jsonl` and `events.jsonl` in a
folder, and one MLflow run (`uploader.py`). Must hold: a line is on disk before it goes to MLflow; what happens there
delays nobody; a point that a resumed job computes again is a line more here, not a second point there.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from pretrain.runtime.interrupt import Interrupted
from pretrain.runtime.progress import Reporter
from pretrain.runtime.redaction import redacted
from pretrain.tracking.uploader import (
    EVENTS,
    METRICS,
    REFUSED,
    STATE,
    Address,
    BackgroundUploader,
    Uploader,
    mend,
    parsed,
)

PATIENCE, HURRY = 120.0, 10.0
"""Seconds that a job waits at its end for MLflow, and one that is being taken away."""
JOB_VARIABLES = {"SLURM_JOB_ID": "slurm.job_id", "SLURM_ARRAY_JOB_ID": "slurm.array_job_id"}


def tracked_at(folder: Path) -> Address | None:
    """Where a folder is tracked, if it is."""
    return Address.load(folder) if (folder / STATE).is_file() else None


def artifacts_at(folder: Path, uri: str) -> str | None:
    """Where a new experiment keeps its artefacts: beside the run of a local store; None = where a server says."""
    return (folder.parent / "mlartifacts").resolve().as_uri() if uri.startswith("sqlite") else None


class Tracker:
    """Writes what happens in one folder. Used as a context manager, which closes the run at its end.

    `owns_run`: the folder is the run's own, so its status and restarts are ours to say; else it only adds to a run.
    """

    def __init__(
        self, folder: Path, uri: str, experiment: str, name: str, run_id: str | None, reporter: Reporter,
        *, key: str | None = None, owns_run: bool = True,
    ) -> None:  # fmt: skip
        folder.mkdir(parents=True, exist_ok=True)
        for file in (METRICS, EVENTS):
            mend(folder / file)
        self.folder, self.reporter, self.owns_run = folder, reporter, owns_run
        lines = read_lines(folder / METRICS) if owns_run else []
        self._known = {(key, line["step"]) for line in lines for key in line if "/" in key}
        self._refusals_said = 0
        address = Address.of(folder, uri, experiment, name, run_id, key)
        address.save(folder)
        self._uploads = BackgroundUploader(Uploader(folder, address, artifacts_at(folder, uri)))

    @property
    def run_id(self) -> str | None:
        """MLflow's name of the run; None until MLflow has answered."""
        return self._uploads.uploader.address.run_id

    def open(self, tags: Mapping[str, Any]) -> None:
        """The job has begun, or goes on: tags of this part of it."""
        restarts = sum(event["event"] == "opened" for event in read_lines(self.folder / EVENTS))
        job = {tag: os.environ[name] for name, tag in JOB_VARIABLES.items() if name in os.environ}
        named = {f"idgenrec.{key}": str(value) for key, value in {**tags, "restarts": restarts}.items()}
        self._event("opened", tags=named | job)

    def parameters(self, values: Mapping[str, Any]) -> None:
        """Parameters, nested dicts with dotted names. MLflow takes them once: a job that goes on says nothing."""
        if any(event["event"] == "parameters" for event in read_lines(self.folder / EVENTS)):
            return
        self._event("parameters", values={key: redacted(str(value)) for key, value in _flatten(values).items()})

    def dataset(self, name: str, digest: str, source: str, context: str, profile: Mapping[str, Any]) -> None:
        """A data set the run reads: `digest` of its bytes, `context` training or test."""
        self._event(
            "dataset", data=name, digest=digest[:36], source=redacted(source), context=context, profile=dict(profile)
        )

    def model(self, name: str, folder: Path, sha256: str, params: Mapping[str, Any]) -> None:
        """A model the run has made, by the folder it lies in and the hash of its weights."""
        self._event("model", model=name, folder=str(folder), sha256=sha256, params=dict(params))

    def metrics(self, values: Mapping[str, float], step: int, **labels: Any) -> None:
        """Metrics at a step, named `group/name`; `labels`, `group` among them, go to the JSON line only."""
        assert all("/" in key for key in values), "a name without a slash is a label"
        # A kill between two lines of a step leaves the second one to be a new point.
        again = {key for key in values if (key, step) in self._known}
        for known in (True, False):
            named = {key: float(value) for key, value in values.items() if (key in again) == known}
            if named:
                head = {"time": round(time.time(), 3), "step": step} | ({"again": True} if known else {})
                self._write(METRICS, head | labels | named)
        self._say_refusals()

    def artifact(self, path: Path) -> None:
        """Attach a file to the run."""
        self._event("artifact", path=str(path.resolve()))

    def rewound(self) -> None:
        """Steps are done again with other samples: their points are new ones."""
        self._known.clear()

    def __enter__(self) -> Tracker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        taken_away = kind is not None and issubclass(kind, KeyboardInterrupt | Interrupted)
        if self.owns_run:
            status = "FINISHED" if kind is None else "KILLED" if taken_away else "FAILED"
            self._event("closed", status=status, time_ms=int(time.time() * 1000))
        problem = self._uploads.close(HURRY if taken_away else PATIENCE)
        self._say_refusals()
        if problem is not None:
            left = self._uploads.uploader.waiting
            self.reporter.line(
                f"{left:,} lines are not in MLflow yet ({problem}); they are kept: idgenrec track sync {self.folder}"
            )

    def _say_refusals(self) -> None:
        refused = self._uploads.uploader.refused
        for why in refused[self._refusals_said :][:3]:
            self.reporter.line(f"MLflow will not take {why}; the line is kept in {self.folder / REFUSED}")
        self._refusals_said = len(refused)

    def _event(self, name: str, **fields: Any) -> None:
        self._write(EVENTS, {"time": round(time.time(), 3), "event": name, **fields})

    def _write(self, file: str, line: dict[str, Any]) -> None:
        with (self.folder / file).open("a") as lines:
            lines.write(json.dumps(line) + "\n")
        self._uploads.wake()


def _flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def read_lines(path: Path) -> list[dict[str, Any]]:
    """All JSON lines of a file, oldest first; none where there is no file. Half a line at the end is left out."""
    if not path.is_file():
        return []
    lines = path.read_text(errors="replace").splitlines(keepends=True)
    return [parsed(path, line) for line in lines if line.endswith("\n")]
