"""Addresses of MLflow stores: refused where MLflow will never take them, literal paths, stores that moved."""

import re
import sqlite3
from types import SimpleNamespace

import pytest

from launchers.commands.track import Track
from pretrain.config.run import PretrainConfig
from pretrain.config.tracking_uri import check_uri, default_uri, present_uri, sqlite_file
from pretrain.runtime.progress import SILENT
from pretrain.tracking.mlflow_store import Store, Unusable
from pretrain.tracking.tracker import Tracker, artifacts_at
from pretrain.tracking.uploader import Address, Uploader
from zeroshot.protocol.config import EvaluateConfig

NEVER = {
    "localhost:5000": "has no scheme; write http://localhost:5000",
    "127.0.0.1:5000/": "has no scheme; write http://127.0.0.1:5000/",
    "mlflow.example.org:80": "has no scheme",
    "./mlruns": "is a folder",
    "mlruns": "is a folder",
    "/data/mlruns": "is a folder",
    "file:///data/mlruns": "is a folder",
    "me:hunter2@host": "'host' has a scheme that MLflow does not know",
    "ftp://host": "has a scheme that MLflow does not know",
    "uc:http://host": "has a scheme that MLflow does not know",
    "databricks-uc": "is a folder",
    "http://": "names no host",
    "https:///path": "names no host",
    "http://host:50a0": "a port that is no number",
    "sqlite://mlflow.db": "names no file",
    "sqlite:mlflow.db": "names no file",
    "sqlite:///": "names no file",
    "sqlite:///:memory:": "names no file",
    "postgresql:host/db": "is no address of a database",
}
USABLE = (
    "http://localhost:5000", "https://me:hunter2@host/path", "sqlite:///mlflow.db", "sqlite:////data/mlflow.db?timeout=5",
    "postgresql://me@host/db", "mysql+pymysql://me@host/db", "databricks", "databricks://profile", "", None,
)  # fmt: skip
NAMES = ("e%203", "e?3", "50%", "[v2]*", 'it\'s "x" #1', "ü & co")


@pytest.mark.parametrize("uri", NEVER)
def test_an_address_that_never_works_is_refused_before_the_run(uri):
    for config in (lambda: PretrainConfig("shards", "run", tracking_uri=uri),
                   lambda: EvaluateConfig("run", "shards", "out", tracking_uri=uri)):  # fmt: skip
        with pytest.raises(ValueError, match=re.escape(NEVER[uri])) as refused:
            config()
        message = str(refused.value)
        assert "\n" not in message and "hunter2" not in message


@pytest.mark.parametrize("uri", USABLE)
def test_an_address_that_may_work_is_taken(uri):
    check_uri(uri)
    assert PretrainConfig("shards", "run", tracking_uri=uri).tracking_uri == uri


@pytest.mark.parametrize("name", NAMES)
def test_a_path_in_a_uri_stays_that_path(tmp_path, name):
    from sqlalchemy.engine import make_url

    uri = default_uri(tmp_path / name)
    assert sqlite_file(uri) == tmp_path / name / "mlflow.db"
    assert make_url(uri).database == str(tmp_path / name / "mlflow.db")
    check_uri(uri)


def tracked(folder):
    """A run of one point, tracked beside its folder as `pretrain` does by itself."""
    with Tracker(folder, default_uri(folder.parent), "experiment", "name", None, SILENT) as tracker:
        tracker.open({})
        tracker.metrics({"train/loss": 1.0}, 1, group="train")
        tracker.artifact(folder / "metrics.jsonl")
    return Address.load(folder)


def test_a_store_stands_beside_its_run_and_moves_with_it(tmp_path, capsys):
    """Whatever the folder is called; and nothing is left or made where another path was meant."""
    name = "e%203 [v2]?"
    address = tracked(tmp_path / name / "run")
    assert address.run_id and (tmp_path / name / "mlflow.db").is_file()
    assert [path.name for path in tmp_path.iterdir()] == [name], "nothing beside it, not even an empty folder"
    assert list((tmp_path / name / "mlartifacts").rglob("metrics.jsonl"))
    (tmp_path / name).rename(tmp_path / "B")
    sync = Track("sync", (str(tmp_path / "B" / "run"),))
    sync.run()
    assert f"sent to run {address.run_id} at sqlite:///{tmp_path}/B/mlflow.db" in capsys.readouterr().out
    (tmp_path / "B" / "mlflow.db").unlink()
    (tmp_path / "B").rename(tmp_path / "C")
    with pytest.raises(ValueError, match="give --tracking-uri"):
        Track("sync", (str(tmp_path / "C" / "run"),)).run()
    assert [path.name for path in tmp_path.iterdir()] == ["C"] and not (tmp_path / "C" / "mlflow.db").exists()
    with pytest.raises(ValueError, match="write http://localhost:5000"):
        Track("sync", (str(tmp_path / "C" / "run"),), tracking_uri="localhost:5000").run()


def test_where_a_folder_is_tracked_now(tmp_path):
    here, there = tmp_path / "B" / "run", tmp_path / "A" / "mlflow.db"
    here.mkdir(parents=True)
    beside = default_uri(here.parent)

    def store(file, run):
        file.parent.mkdir(exist_ok=True)
        with sqlite3.connect(file) as database:
            database.execute("CREATE TABLE runs (run_uuid TEXT)")
            database.execute("INSERT INTO runs VALUES (?)", (run,))
        return f"sqlite:///{file}"

    assert present_uri(here, "http://host", "r1") == "http://host"
    assert present_uri(here, beside, "r1") == beside, "a store that was lost where it stood is filled again"
    assert present_uri(here, f"sqlite:///{there}", None) == beside, "nothing was sent, and the old folder is gone"
    with pytest.raises(ValueError, match="is not there"):
        present_uri(here, f"sqlite:///{there}", "r1")
    old = store(there, "another run")
    assert present_uri(here, old, "r1") == old
    store(here.parent / "mlflow.db", "r1")
    assert present_uri(here, old, "r1") == beside, "somebody else has begun a store where the run was"
    assert present_uri(here, old, "another run") == old


def test_an_address_that_never_works_is_not_waited_for(tmp_path, monkeypatch):
    """An hour of patience is not used; the lines are kept."""
    lines = []

    class Listener:
        def line(self, text):
            lines.append(text)

        def progress(self, what, done, total, unit, note=""):
            raise AssertionError

    def slept(seconds):
        raise AssertionError(f"{seconds} s of waiting for an address that never works")

    monkeypatch.setattr("pretrain.tracking.tracker.PATIENCE", 3600.0)
    monkeypatch.setattr(
        "pretrain.tracking.uploader.time", SimpleNamespace(time=lambda: 0.0, monotonic=lambda: 0.0, sleep=slept)
    )
    for uri in ("mysql+nodriver://host/db", "nonsense://host", str(tmp_path / "mlruns")):
        folder = tmp_path / uri.split(":")[0].strip("/")
        with pytest.raises(Unusable, match="MLflow cannot use this address"):
            Store(uri, "experiment", "name", "key", None, None, 1)
        with Tracker(folder, uri, "experiment", "name", None, Listener()) as tracker:
            tracker.open({})
        assert "2 lines are not in MLflow yet (MLflow cannot use this address" in lines.pop()
        with pytest.raises(Unusable):
            Uploader(folder, Address.load(folder), artifacts_at(folder, uri)).send()
