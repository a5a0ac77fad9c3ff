"""The demo as a person runs it from the wheel.

The claims of the README are tested here, on `results.json`, `ranks.parquet`, the ID books and the MLflow store that the
command leaves behind; those of more than one run: tests/claims, by `make test-claims`.
"""

import json
import urllib.request
from pathlib import Path

import polars as pl
import pytest
from demos import UNSEEN, hit_ratio, load, lower_bound
from mlflow_server import Server
from patience import HANG
from wheels import Installed

from pretrain.ids.book import Book
from pretrain.training import checkpoint
from shards.tokenizer import UNK_ID, load_tokenizer
from zeroshot.protocol.config import TRAINING_FREE

pytestmark = pytest.mark.xdist_group("wheel")


@pytest.fixture(scope="module")
def demo(installed: Installed) -> Path:
    """The folder of a demo, run where the wheel is installed and the checkout is not."""
    assert "done in" in installed.ran(installed.command, "demo", "--seed", "0", "--out", "out")
    return installed.folder / "out"


@pytest.mark.parametrize("task", UNSEEN)
def test_trained_beats_popularity_and_random(demo: Path, task: str) -> None:
    results = load(demo)
    assert lower_bound(results, task, "idgenrec", "popularity") > 0
    assert lower_bound(results, task, "idgenrec", "random") > 0
    assert lower_bound(results, task, "untrained", "popularity") <= 0
    assert hit_ratio(results, task, "popularity") >= 2 * hit_ratio(results, task, "random")


@pytest.mark.parametrize("task", UNSEEN)
def test_every_user_is_judged_once(demo: Path, task: str) -> None:
    results, ranks = load(demo), pl.read_parquet(demo / "report" / "ranks.parquet")
    num_users = results["tasks"][task]["num_users"]
    counts = (
        ranks.filter(pl.col("task") == task)
        .group_by("recommender", "protocol")
        .agg(pl.len(), pl.col("user").n_unique().alias("users"))
    )
    judged = {"idgenrec", "untrained", *TRAINING_FREE, "ranker"}
    assert set(counts["recommender"]) == judged and counts.height == 2 * len(judged)
    assert set(counts["len"]) == set(counts["users"]) == {num_users}


def test_ids_are_unique_and_readable(demo: Path) -> None:
    tokenizer = load_tokenizer(demo / "shards" / "tokenizer")
    last = checkpoint.best(demo / "run")
    assert last is not None
    for path in [demo / "report" / f"book-{task}.arrow" for task in UNSEEN] + [last / "book.arrow"]:
        book = Book.load(path, tokenizer)
        keys = {tuple(ids.tolist()) for ids in book.token_ids}
        assert len(keys) == len(book)
        assert all(keys)
        assert all(UNK_ID not in key for key in keys)
        again = tokenizer(book.texts, add_special_tokens=False)["input_ids"]
        assert all(list(a) == b.tolist() for a, b in zip(again, book.token_ids, strict=True))
    for task in UNSEEN:
        assert {"second_attempt_share", "longer_share"} <= set(load(demo)["ids"][task])


def post(address: str, path: str, body: dict) -> dict:
    request = urllib.request.Request(
        f"{address}/api/2.0/mlflow/{path}", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=HANG) as answer:
        return json.load(answer)


def get(address: str, path: str) -> dict:
    with urllib.request.urlopen(f"{address}/api/2.0/mlflow/{path}", timeout=HANG) as answer:
        return json.load(answer)


def test_mlflow_ui_shows_the_run(demo: Path, tmp_path: Path) -> None:
    """One run with parameters, a loss curve of every phase, metrics per data set, and the report."""
    with Server(tmp_path, demo / "mlflow.db", "ui") as server:
        address = server.uri
        experiment = get(address, "experiments/get-by-name?experiment_name=idgenrec")["experiment"]
        (run,) = post(address, "runs/search", {"experiment_ids": [experiment["experiment_id"]]})["runs"]
        assert run["info"]["status"] == "FINISHED"
        parameters = {entry["key"]: entry["value"] for entry in run["data"]["params"]}
        assert parameters["seed"] == "0"
        assert parameters["schedule.rounds"] == "1"
        names = {entry["key"] for entry in run["data"]["metrics"]}
        for task in UNSEEN:
            assert f"zeroshot/{task}/idgenrec/all/HR_at_10" in names
        assert "validation/NDCG_at_10" in names
        for phase in ("teaching", "recommender", "generator"):
            path = f"metrics/get-history?run_id={run['info']['run_id']}&metric_key={phase}/loss"
            assert len(get(address, path)["metrics"]) > 3
        files = get(address, f"artifacts/list?run_id={run['info']['run_id']}")["files"]
        assert {"report.html", "report.md", "results.json"} <= {entry["path"] for entry in files}
