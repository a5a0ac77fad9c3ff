"""A real MLflow store in a SQLite file, opened by several at once."""


def test_those_who_open_a_new_store_together_find_one_experiment(run_ranks, tmp_path):
    def body(world, uri):
        from pretrain.mlflow_store import Store

        world.barrier()
        store = Store(uri, "idgenrec", f"run-{world.rank}", f"key-{world.rank}", None, None, 1)
        store.points([("a/b", 1.0, 1, 1)])
        return store._experiment, store.run_id

    answers = run_ranks(body, 3, f"sqlite:///{tmp_path}/mlflow.db")
    assert len({experiment for experiment, _ in answers}) == 1
    assert len({run for _, run in answers}) == 3
