"""Uploader: what a tracker has written, sent to MLflow from a thread, each point once, for as long as it takes.

Enters: `metrics.jsonl` and `events.jsonl` of a folder. Leaves: the same in MLflow, in `tracking.json` how far it got,
in `refused.jsonl` what MLflow will never take. Must hold: the job never waits for MLflow and never stops because of it;
after any kill of either side nothing is missing and nothing twice, because a line is counted as sent after MLflow has
it, and sending it again changes nothing; one uploader of a folder sends at a time, be it a job's or a command's; where
MLflow has lost its store, everything is sent again to a new run.
"""

from __future__ import annotations

import json
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from pretrain.runtime.redaction import redacted
from pretrain.runtime.watchdog import beat
from pretrain.tracking.mlflow_store import Lost, Refused, Store, Unusable, unreachable, words_of
from shards.files.atomic import locked, write_whole

METRICS, EVENTS, STATE, REFUSED = "metrics.jsonl", "events.jsonl", "tracking.json", "refused.jsonl"
BATCH = 500
"""Points of one request; MLflow takes 1,000."""
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0
"""Seconds between attempts: doubled after each failure."""
BEAT_PAUSE = 1.0
"""Seconds between signs of life at the end."""
Point = tuple[str, float, int, int]
"""Metric, value, time in ms, step."""


@dataclass(frozen=True)
class Address:
    """Where a folder is tracked. `key` finds its run again when an answer was lost; `run_id` is what MLflow gave."""

    uri: str
    experiment: str
    name: str
    key: str
    run_id: str | None = None
    metrics_bytes: int = 0
    events_bytes: int = 0

    @staticmethod
    def of(folder: Path, uri: str, experiment: str, name: str, run_id: str | None, key: str | None = None) -> Address:
        """The address that the folder has already, at the URI given now, or a new one."""
        if (folder / STATE).is_file():
            return Address.load(folder).at(uri)
        return Address(uri, experiment, name, key or uuid.uuid4().hex, run_id)

    @staticmethod
    def load(folder: Path) -> Address:
        """That of a folder that is tracked."""
        return Address(**json.loads((folder / STATE).read_text()))

    def at(self, uri: str) -> Address:
        """The same run at a URI with its password."""
        return replace(self, uri=uri)

    def save(self, folder: Path) -> None:
        """Durably; a password in the URI is left out."""
        write_whole(folder / STATE, json.dumps(asdict(replace(self, uri=redacted(self.uri)))).encode())


class Uploader:
    """Sends what is new in a folder; not safe for several threads. `refused`: why lines were put aside."""

    def __init__(self, folder: Path, address: Address, artifacts: str | None) -> None:
        self.folder, self.address, self.artifacts = folder, address, artifacts
        self.refused: list[str] = []
        self._store: Store | None = None

    def send(self) -> None:
        """Everything that is there now. Raises what the store raises; what was sent until then is counted."""
        with self._alone():
            try:
                self._send(self._store or self._found())
            except Lost:  # another store stands at the URI; the lines are all here
                self._store = None
                self._count(run_id=None, metrics_bytes=0, events_bytes=0)
                self._send(self._found())

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """No other uploader sends meanwhile: `track sync` beside a job, or behind one that has given up amid a
        request. What another one has sent is not ours to send."""
        with locked(self.folder / EVENTS):
            self.address = Address.load(self.folder).at(self.address.uri)
            yield

    def _found(self) -> Store:
        to = self.address
        first = next(_lines(self.folder / EVENTS, 0), None)
        began = first[1]["time"] if first else time.time()  # not when MLflow hears of it
        self._store = Store(to.uri, to.experiment, to.name, to.key, to.run_id, self.artifacts, int(began * 1000))
        self._count(run_id=self._store.run_id)
        return self._store

    def _send(self, store: Store) -> None:
        # Events up to a point in time come before the metrics behind it; a run's end comes last.
        for at, event in _lines(self.folder / EVENTS, self.address.events_bytes):
            if event["event"] == "closed":
                self._send_metrics(store)
            self._offer(lambda event=event: store.event(event), event)
            self._count(events_bytes=at)
        self._send_metrics(store)

    def _send_metrics(self, store: Store) -> None:
        points: list[Point] = []
        last = self.address.metrics_bytes
        for at, line in _lines(self.folder / METRICS, last):
            last = at
            if not line.get("again"):
                when = int(line["time"] * 1000)
                points += [(key, value, when, line["step"]) for key, value in line.items() if "/" in key]
            if len(points) >= BATCH:
                self._send_points(store, points, at)
                points = []
        if last != self.address.metrics_bytes:
            self._send_points(store, points, last)

    def _send_points(self, store: Store, points: Sequence[Point], at: int) -> None:
        for start in range(0, len(points), BATCH):
            self._halved(store, points[start : start + BATCH])
        self._count(metrics_bytes=at)

    def _halved(self, store: Store, points: Sequence[Point]) -> None:
        """Send points; of a batch that is refused all but those that are at fault."""
        if len(points) == 1:
            self._offer(lambda: store.points(points), list(points[0]))
            return
        try:
            store.points(points)
        except Refused:
            middle = len(points) // 2
            self._halved(store, points[:middle])
            self._halved(store, points[middle:])

    def _offer(self, send: Callable[[], None], line: Any) -> None:
        """Send a line, or put it aside with the reason: it must not hold up what comes behind it."""
        try:
            send()
        except Refused as error:
            self.refused.append(f"{line['event'] if isinstance(line, dict) else line[0]}: {error}")
            with (self.folder / REFUSED).open("a") as file:
                file.write(json.dumps({"why": str(error), "line": line}) + "\n")

    def _count(self, **changed: Any) -> None:
        self.address = replace(self.address, **changed)
        self.address.save(self.folder)

    @property
    def waiting(self) -> int:
        """Lines not yet sent."""
        sent = {METRICS: self.address.metrics_bytes, EVENTS: self.address.events_bytes}
        return sum(sum(1 for _ in _lines(self.folder / name, at)) for name, at in sent.items())


class BackgroundUploader:
    """An uploader in a thread."""

    def __init__(self, uploader: Uploader) -> None:
        self.uploader = uploader
        self.problem: str | None = None
        self._wake, self._closing, self._given_up = threading.Event(), threading.Event(), False
        self._fault: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name="tracking", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """There is something new."""
        self._wake.set()

    def close(self, patience: float) -> str | None:
        """Wait until all is sent, at most so many seconds; why it is not, or None. Raises what is a fault of ours."""
        self._closing.set()
        self._wake.set()
        ends = time.monotonic() + patience
        while self._thread.is_alive() and (left := ends - time.monotonic()) > 0:
            self._thread.join(min(left, BEAT_PAUSE))
            beat("waiting for MLflow")
        self._given_up = True
        if self._fault is not None:
            raise self._fault
        if self._thread.is_alive():
            return self.problem or f"MLflow has not answered for {patience:.0f} s"
        return self.problem

    def _work(self) -> None:
        pause = FIRST_PAUSE
        try:
            while not self._given_up:
                self._wake.clear()
                closing = self._closing.is_set()
                try:
                    self.uploader.send()
                except unreachable() as error:  # a tracker that is down stops no training: the lines are kept
                    self.problem = words_of(error)
                    if closing and isinstance(error, Unusable):
                        return
                    if closing:
                        time.sleep(FIRST_PAUSE)
                    else:  # an end that comes meanwhile is no time to wait
                        self._closing.wait(pause)
                        pause = min(2 * pause, LONGEST_PAUSE)
                    continue
                self.problem, pause = None, FIRST_PAUSE
                if closing:
                    return
                self._wake.wait()
        except BaseException as error:
            self._fault = error


def mend(path: Path) -> None:
    """Take half a line off the end, which a kill has left: what is appended next must be a line of its own."""
    if path.is_file():
        with path.open("rb+") as file:
            file.truncate(file.read().rfind(b"\n") + 1)


def _lines(path: Path, start: int) -> Iterator[tuple[int, dict[str, Any]]]:
    """Whole lines behind byte `start` that are there now, each with the byte behind it."""
    if not path.is_file():
        return
    with path.open("rb") as file:
        end = os.fstat(file.fileno()).st_size
        file.seek(start)
        for line in file:
            if start >= end or not line.endswith(b"\n"):  # a kill, or a writer at work; it is whole the next time
                return
            start += len(line)
            yield start, parsed(path, line)


def parsed(path: Path, line: str | bytes) -> dict[str, Any]:
    """What a line of a file says. Raises ValueError, naming both, for one that a bad disk has spoilt."""
    try:
        return json.loads(line)
    except ValueError as error:
        raise ValueError(
            f"{path} has a damaged line, {line[:60]!r}: write it anew in as many bytes, and give the command again"
        ) from error
