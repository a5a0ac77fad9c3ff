"""Tracking against a real MLflow server that is killed, slow, ill, forgetful or full: nobody waits, nothing is missing
and nothing twice.

That nobody waits is shown by order, not by a clock: a fault lasts until the job has logged all that it logs meanwhile.
"""

import base64
import dataclasses
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from browser import Browser, chromium
from mlflow_server import Proxy, Server
from patience import limit, until

from launchers.commands.track import Track
from pretrain.runtime.rendezvous import HeldPort, environment
from pretrain.tracking import tracker
from pretrain.tracking.tracker import Tracker, read_lines
from pretrain.tracking.uploader import EVENTS, STATE, Address

STEPS = 80
"""Of each third of a run."""
NAMES = ("train/loss", "train/lr", "train/grad_norm", "train/tokens_per_second")


class Listener:
    def __init__(self):
        self.lines = []

    def line(self, text):
        self.lines.append(text)

    def progress(self, what, done, total, unit, note=""):
        raise AssertionError


@pytest.fixture(scope="module")
def disk(tmp_path_factory):
    """A file system of 24 MB for the store."""
    folder = tmp_path_factory.mktemp("disk")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(folder)], check=True)
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture(scope="module")
def server(disk, tmp_path_factory):
    """The server of this module; each test leaves it running and well."""
    with Server(tmp_path_factory.mktemp("server"), disk / "mlflow.db") as server:
        yield server


@pytest.fixture
def proxy(server):
    proxy = Proxy(server.port)
    yield proxy
    proxy.close()


class Job:
    """A run that logs as a training run does, as fast as it can."""

    def __init__(self, folder: Path, uri: str) -> None:
        self.folder, self.uri, self.name = folder, uri, folder.name
        self.listener, self.done = Listener(), 0
        self.folder.mkdir()
        (folder / "notes.txt").write_text("what was noted")

    def __enter__(self):
        self.tracker = Tracker(self.folder, self.uri, self.name, self.name, None, self.listener)  # type: ignore[arg-type]
        self.tracker.open({"world_size": 2})
        self.tracker.parameters({"model": {f"p{number}": "x" * number for number in range(150)}})
        self.tracker.dataset("Garden", "0123abcd" * 8, "shards/Garden", "training", {"users": 14})
        return self

    def __exit__(self, *error):
        self.tracker.model(f"{self.name}-generator", self.folder, "77" * 32, {"d_model": 16})
        self.tracker.artifact(self.folder / "notes.txt")
        self.tracker.__exit__(*error)

    def log(self, steps: int = STEPS) -> None:
        for step in range(self.done, self.done + steps):
            values = {name: step + 0.25 * number for number, name in enumerate(NAMES)}
            self.tracker.metrics(values, step, group="train")
        self.done += steps

    def arrives(self) -> None:
        """Wait until something of it is in MLflow, so that the fault comes in the middle."""
        until(lambda: Address.load(self.folder).metrics_bytes)

    def meets(self, problem: str) -> None:
        """Wait until the delivery has met a fault, with these words."""
        until(lambda: problem in (self.tracker._uploads.problem or ""))

    def ends(self):
        """First and last event."""
        events = read_lines(self.folder / EVENTS)
        return events[0], events[-1]

    def check(self, server: Server, deleted_count: bool = True) -> None:
        """All is in one run, once."""
        client, run = only_run(server, self.name, deleted_count)
        for number, name in enumerate(NAMES):
            found = [(point.step, point.value) for point in client.get_metric_history(run.info.run_id, name)]
            assert sorted(found) == [(step, step + 0.25 * number) for step in range(self.done)], name
        assert run.info.status == "FINISHED"
        first, last = self.ends()
        assert run.info.start_time <= first["time"] * 1000 + 1, "not when MLflow has heard of it"
        assert run.info.end_time == last["time_ms"]
        assert run.data.params == {f"model.p{number}": "x" * number for number in range(150)}
        assert run.data.tags["idgenrec.world_size"] == "2" and run.data.tags["idgenrec.restarts"] == "0"
        assert run.inputs is not None
        (given,) = run.inputs.dataset_inputs
        assert (given.dataset.name, given.tags[0].value) == ("Garden", "training")
        (model,) = client.search_logged_models([run.info.experiment_id])
        assert (model.name, str(model.status), model.tags["sha256"]) == (f"{self.name}-generator", "READY", "77" * 32)
        assert run.outputs is not None and [out.model_id for out in run.outputs.model_outputs] == [model.model_id]
        assert [file.path for file in client.list_artifacts(run.info.run_id)] == ["notes.txt"]


def client_of(server: Server):
    from mlflow.tracking import MlflowClient

    return MlflowClient(tracking_uri=server.uri)


def only_run(server: Server, experiment: str, deleted_count: bool = True):
    """(client, run): the one run that an experiment has."""
    from mlflow.entities import ViewType

    client = client_of(server)
    found = client.get_experiment_by_name(experiment)
    assert found is not None
    kind = ViewType.ALL if deleted_count else ViewType.ACTIVE_ONLY
    runs = client.search_runs([found.experiment_id], run_view_type=kind)
    assert len(runs) == 1, [(run.info.run_id, run.info.lifecycle_stage) for run in runs]
    return client, runs[0]


def fill(folder: Path) -> Path:
    """A file that takes all the room that is left."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            return ballast


@pytest.mark.parametrize("mode", ["slow", "ill", "lossy"])
def test_behind_a_proxy_that_is(mode, server, proxy, tmp_path):
    with Job(tmp_path / f"mostly-{mode}", proxy.uri) as job:
        job.log()
        job.arrives()
        proxy.mode = mode
        job.log()
        until(lambda: proxy.met)
        proxy.mode = "well"
        job.log()
    assert not job.listener.lines
    job.check(server)


@pytest.mark.parametrize("mode", ["ill", "mute"])
def test_a_run_begun_at_a_server_that_is(mode, server, proxy, tmp_path, monkeypatch):
    monkeypatch.setattr(tracker, "PATIENCE", limit(1))
    proxy.mode = mode
    with Job(tmp_path / f"begun-{mode}", proxy.uri) as job:
        job.log()
    (said,) = job.listener.lines
    assert f"idgenrec track sync {job.folder}" in said
    proxy.mode = "well"
    Track("sync", (str(job.folder),)).run()
    job.check(server)


def test_a_disk_that_is_full(server, disk, tmp_path):
    with Job(tmp_path / "full", server.uri) as job:
        job.log()
        job.arrives()
        ballast = fill(disk)
        job.log()
        job.meets("error responses")
        ballast.unlink()
        job.log()
    assert "database or disk is full" in (server.folder / "server.log").read_text()
    job.check(server)


def test_killed_and_started_again(server, tmp_path):
    with Job(tmp_path / "killed", server.uri) as job:
        job.log()
        job.arrives()
        server.kill()
        job.log()
        server.begin()
        job.log()
        server.wait()
    assert not job.listener.lines
    job.check(server)


def test_down_from_the_start_and_synced_twice(server, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(tracker, "PATIENCE", limit(1))
    server.kill()
    try:
        with Job(tmp_path / "down", server.uri) as job:
            job.log()
        (said,) = job.listener.lines
        assert f"idgenrec track sync {job.folder}" in said
        with pytest.raises(ValueError, match="does not take the lines"):
            Track("sync", (str(job.folder),)).run()
    finally:
        server.begin()
        server.wait()
    Track("sync", (str(job.folder),)).run()
    Track("sync", (str(job.folder),)).run()
    assert f"{job.folder}: 0 lines sent" in capsys.readouterr().out
    job.check(server)


def test_what_mlflow_refuses_is_named_and_holds_up_nothing(server, tmp_path):
    with Job(tmp_path / "refused", server.uri) as job:
        job.log(40)
        job.tracker.metrics({"train/no#name": 1.0, "train/fine": 2.0}, 5, group="train")
        job.tracker.artifact(tmp_path / "was-never-there")
        job.log(40)
    assert len(job.listener.lines) == 2
    assert any("train/no#name" in said for said in job.listener.lines)
    assert any("was-never-there is not there any more" in said for said in job.listener.lines)
    assert len(read_lines(job.folder / "refused.jsonl")) == 2
    job.check(server)
    client, run = only_run(server, job.name)
    assert [point.value for point in client.get_metric_history(run.info.run_id, "train/fine")] == [2.0]


def test_a_deleted_run_is_named_and_goes_on_when_restored(server, tmp_path, monkeypatch):
    monkeypatch.setattr(tracker, "PATIENCE", limit(1))
    with Job(tmp_path / "deleted", server.uri) as job:
        job.log(40)
        job.arrives()
        run_id = job.tracker.run_id
        assert run_id is not None
        client_of(server).delete_run(run_id)
        job.log(40)
        job.meets("is deleted in MLflow")
    (said,) = job.listener.lines
    assert f"run {run_id} is deleted in MLflow; restore it there" in said
    client_of(server).restore_run(run_id)
    Track("sync", (str(job.folder),)).run()
    job.check(server)


def test_runs_that_were_made_after_the_request_was_given_up(server, proxy, tmp_path, monkeypatch):
    from mlflow.entities import ViewType

    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", str(round(limit(2))))
    proxy.mode = "late"
    with Job(tmp_path / "twins", proxy.uri) as job:
        job.log(40)
        job.arrives()
        until(lambda: not proxy.under_way)
    job.check(server, deleted_count=False)
    client, run = only_run(server, job.name, deleted_count=False)
    twins = client.search_runs([run.info.experiment_id], run_view_type=ViewType.DELETED_ONLY)
    assert twins and not any(twin.data.metrics or twin.data.params for twin in twins), "the fault was met"


def test_a_server_that_has_lost_its_store(server, tmp_path):
    with Job(tmp_path / "lost", server.uri) as job:
        job.log(40)
        job.arrives()
        first = job.tracker.run_id
        server.kill()
        for file in server.store.parent.glob("mlflow.db*"):
            file.unlink()
        server.begin()
        server.wait()
        job.log(40)
    job.check(server)
    assert job.tracker.run_id != first


def test_the_page_of_a_run_in_a_browser(server, tmp_path):
    with Job(tmp_path / "looked-at", server.uri) as job:
        job.log(40)
    client, run = only_run(server, job.name)
    assert run.info.run_id == job.tracker.run_id
    page = f"{server.uri}/#/experiments/{run.info.experiment_id}/runs/{run.info.run_id}"
    browser = Browser(chromium(), tmp_path / "profile")
    try:
        browser.call("Page.navigate", url=page)
        wanted = [*NAMES, "model.p7", "Garden", job.name, "Finished"]
        shown = lambda: browser.value("document.body?.innerText") or ""  # noqa: E731
        until(lambda: all(word in shown() for word in wanted), shown, 0.5)
    finally:
        if folder := os.environ.get("IDGENREC_SCREENSHOTS"):
            picture = browser.call("Page.captureScreenshot")["data"]
            (Path(folder) / "run-page.png").write_bytes(base64.b64decode(picture))
        browser.close()


def test_a_training_run_while_the_server_is_killed(server, train_config, tmp_path):
    config = train_config("tracked", tracking_uri=server.uri, experiment="tracked")
    folder, job = Path(config.out), tmp_path / "job.json"
    job.write_text(json.dumps({"task": "pretrain", "config": dataclasses.asdict(config)}))
    words = [sys.executable, "-m", "launchers.jobs.rank", str(job)]
    port = HeldPort()
    process = subprocess.Popen(words, env=environment(0, 1, port.number), stderr=subprocess.PIPE, text=True)

    def lines() -> int:
        return len(read_lines(folder / "metrics.jsonl"))

    def wait_for(seen):
        until(lambda: seen() or process.poll() is not None)
        assert seen(), process.communicate()[1]

    try:
        wait_for(lambda: (folder / STATE).is_file() and Address.load(folder).metrics_bytes)
        server.kill()
        seen = lines()
        wait_for(lambda: lines() >= seen + 3)
    finally:
        server.begin()
        server.wait()
    said = process.communicate()[1]
    assert process.returncode == 0, said
    Track("sync", (str(folder),)).run()
    client, run = only_run(server, "tracked")
    assert run.info.status == "FINISHED"
    wanted = Counter(
        (key, line["step"], value)
        for line in read_lines(folder / "metrics.jsonl")
        if not line.get("again")
        for key, value in line.items()
        if "/" in key
    )
    found = Counter(
        (key, point.step, point.value)
        for key in run.data.metrics
        for point in client.get_metric_history(run.info.run_id, key)
    )
    assert found == wanted and set(wanted.values()) == {1} and len(wanted) > 50
