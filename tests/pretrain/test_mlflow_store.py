"""A real MLflow store in a SQLite file: opened by several at once, and a run of it deleted and restored."""

import pytest

from pretrain.tracking.mlflow_store import Deleted, Refused, Store

MODEL = {"event": "model", "model": "generator", "folder": "runs/a", "sha256": "77", "params": {}}


def test_those_who_open_a_new_store_together_find_one_experiment(run_ranks, tmp_path):
    def body(world, uri):
        world.barrier()
        store = Store(uri, "idgenrec", f"run-{world.rank}", f"key-{world.rank}", None, None, 1)
        store.points([("a/b", 1.0, 1, 1)])
        return store._experiment, store.run_id

    answers = run_ranks(body, 3, f"sqlite:///{tmp_path}/mlflow.db")
    assert len({experiment for experiment, _ in answers}) == 1
    assert len({run for _, run in answers}) == 3


def test_a_run_restored_before_it_is_known_to_be_deleted_loses_nothing(tmp_path, monkeypatch):
    from mlflow.exceptions import MlflowException

    store = Store(f"sqlite:///{tmp_path}/mlflow.db", "idgenrec", "run", "key", None, None, 1)
    client = store._client
    log_outputs = client.log_outputs
    client.delete_run(store.run_id)
    with pytest.raises(Deleted, match="restore it there"):
        store.event(MODEL)

    def restored_behind_the_answer(*arguments):
        try:
            log_outputs(*arguments)
        except MlflowException:
            client.restore_run(store.run_id)
            raise

    monkeypatch.setattr(client, "log_outputs", restored_behind_the_answer)
    store.event(MODEL)
    monkeypatch.undo()
    (output,) = client.get_run(store.run_id).outputs.model_outputs
    (model,) = client.search_logged_models([store._experiment])
    assert output.model_id == model.model_id
    with pytest.raises(Refused, match="no#name"):
        store.points([("train/no#name", 1.0, 1, 1)])
