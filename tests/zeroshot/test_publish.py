"""Results go to the MLflow run that trained the checkpoint, wherever that is and wherever the run lies by now."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from pretrain.runtime.progress import SILENT
from pretrain.tracking.uploader import Address
from zeroshot import publish as module
from zeroshot.protocol.config import EvaluateConfig
from zeroshot.publish import publish, store_of

SERVER = "http://server:5000"


def tracked(run: Path, uri: str) -> Path:
    """A run folder that was trained with a store at `uri`."""
    run.mkdir(parents=True)
    Address(uri, "experiment", run.name, "key", "run-of-training").save(run)
    return run


def test_results_go_to_the_store_of_the_training(tmp_path, monkeypatch):
    """Metrics and report reach that run, and no store beside the run folder is made."""
    sent = []

    class Store:
        def __init__(self, uri, experiment, name, key, run_id, artifacts, started_ms):
            sent.append((uri, experiment, run_id))
            self.run_id = run_id

        def points(self, points):
            sent.extend(point[0] for point in points)

        def event(self, event):
            sent.append(event["event"])

    monkeypatch.setattr("pretrain.tracking.uploader.Store", Store)
    run, out = tracked(tmp_path / "runs" / "first", SERVER), tmp_path / "report"
    out.mkdir()
    row = {"kind": "model", "users": "all", "task": "Beauty", "recommender": "idgenrec", "protocol": "all"}
    row |= {"metrics": {"HR@10": 0.1}} | dict.fromkeys(module.LIST_NUMBERS)
    config = EvaluateConfig(str(run), "shards", str(out))
    publish({"rows": [row]}, [out / "report.html"], config, run, {"run_id": None}, SILENT)
    assert sent[0] == (SERVER, "experiment", "run-of-training")
    assert sorted(sent[1:]) == ["artifact", "zeroshot/Beauty/idgenrec/all/HR_at_10"]
    assert json.loads((out / "tracking.json").read_text())["uri"] == SERVER
    assert not list(tmp_path.rglob("mlflow.db"))


def test_a_store_that_is_given_has_the_last_word(tmp_path):
    run = tracked(tmp_path / "runs" / "first", SERVER)
    assert store_of(run, "http://other:1") == "http://other:1"


def test_a_run_without_a_store_gets_the_one_beside_it(tmp_path):
    assert store_of(tmp_path / "runs" / "first", None) == f"sqlite:///{tmp_path}/runs/mlflow.db"


def test_a_local_store_moves_along(tmp_path):
    run = tracked(tmp_path / "old" / "first", f"sqlite:///{tmp_path}/old/mlflow.db")
    assert store_of(run, None) == f"sqlite:///{tmp_path}/old/mlflow.db", "not there yet: MLflow was away"
    with closing(sqlite3.connect(tmp_path / "old" / "mlflow.db")) as store:
        store.execute("CREATE TABLE runs (run_uuid TEXT)")
        store.execute("INSERT INTO runs VALUES ('run-of-training')")
        store.commit()
    (tmp_path / "old").rename(tmp_path / "new")
    assert store_of(tmp_path / "new" / "first", None) == f"sqlite:///{tmp_path}/new/mlflow.db"
    (tmp_path / "new" / "mlflow.db").unlink()
    with pytest.raises(ValueError, match="mlflow.db does not have the run; give --tracking-uri"):
        store_of(tmp_path / "new" / "first", None)


def test_a_local_store_elsewhere_stays(tmp_path):
    (tmp_path / "store.db").touch()
    run = tracked(tmp_path / "runs" / "first", f"sqlite:///{tmp_path}/store.db")
    (tmp_path / "runs" / "store.db").touch()
    assert store_of(run, None) == f"sqlite:///{tmp_path}/store.db"


def test_a_password_that_is_not_written_down_is_asked_for(tmp_path, monkeypatch):
    whole = "http://user:pass@server:5000"
    run = tracked(tmp_path / "runs" / "first", whole)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(ValueError, match=r"is tracked at http://\*\*\*@server:5000; give the whole URI"):
        store_of(run, None)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", whole)
    assert store_of(run, None) == whole
