"""`idgenrec track sync`: delivers to MLflow what a run has written and MLflow has not got.

Enters: folders of runs or reports. Leaves: their lines in MLflow. Must hold: it may be repeated;
nothing is sent twice.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from typing import Annotated, Literal

import tyro


@dataclass(frozen=True)
class Track:
    """Send to MLflow what it did not take while a job ran.

    In: folders of runs or reports, with the lines that wait in them.

    Out: these lines in MLflow; it may be repeated, and nothing is sent twice.

    A job never waits for MLflow: it writes metrics.jsonl and events.jsonl and sends them when it can. What could not be
    sent before it ended is sent by this command.

    Example: idgenrec track sync runs/first runs/first-report
    """

    action: Annotated[tyro.conf.Positional[Literal["sync"]], tyro.conf.arg(metavar="sync")]
    """Send the lines that wait in the folders of runs and reports to their MLflow runs."""
    folders: Annotated[tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="FOLDER...")]
    """Run folders and report folders."""
    tracking_uri: str | None = None
    """MLflow store; none = that of the folder, or MLFLOW_TRACKING_URI where it was written without its password."""

    def run(self) -> None:
        from pathlib import Path

        from launchers.line.console import Console
        from pretrain.config.tracking_uri import check_uri, present_uri
        from pretrain.runtime.redaction import HIDDEN, redacted
        from pretrain.tracking.mlflow_store import Unusable, unreachable, words_of
        from pretrain.tracking.tracker import artifacts_at, tracked_at
        from pretrain.tracking.uploader import REFUSED, Uploader

        if not self.folders:
            raise ValueError("name the folders of runs or reports, as: idgenrec track sync runs/first")
        for folder in map(Path, self.folders):
            tracked = tracked_at(folder)
            if tracked is None:
                raise ValueError(f"{folder} has no tracking.json; give the folder of a run or of a report")
            uri = self.tracking_uri or (
                os.environ.get("MLFLOW_TRACKING_URI")
                if HIDDEN in tracked.uri
                else present_uri(folder, tracked.uri, tracked.run_id)
            )
            if not uri:
                raise ValueError(f"{folder} is tracked at {tracked.uri}; give the whole URI with --tracking-uri")
            check_uri(uri)
            uploader = Uploader(folder, tracked.at(uri), artifacts_at(folder, uri))
            waiting = uploader.waiting
            try:
                uploader.send()
            except unreachable() as error:
                again = "" if isinstance(error, Unusable) else "; try again"
                raise ValueError(
                    f"{redacted(uri)} does not take the lines of {folder} ({words_of(error)}){again}"
                ) from error
            sent = f"{folder}: {waiting:,} lines sent to run {uploader.address.run_id} at {redacted(uri)}"
            Console().result(sent, folder=str(folder), lines=waiting, run=uploader.address.run_id)
            for why in uploader.refused:
                print(f"MLflow will not take {why}; the line is kept in {folder / REFUSED}", file=sys.stderr)
