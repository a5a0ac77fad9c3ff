"""The demo as a person runs it: two seeds with what can transfer, one without it, one repeated from the wheel.

The claims of the README are tested here, on `results.json`, `ranks.parquet`, the ID books and the MLflow store that the
command leaves behind.
"""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest
from wheels import Installed, built

from pretrain import checkpoint
from pretrain.ids.book import Book
from shards.tokenizer import UNK_ID, load_tokenizer

# The first test waits for three demos; the limit of one test must leave room for them on a busy machine.
pytestmark = pytest.mark.timeout(3600)
ROOT = Path(__file__).parents[2]
SEEDS = (0, 1)
UNSEEN = ("Gifts", "Places")


def idgenrec(*words: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "launchers.cli", *words], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


@pytest.fixture(scope="module")
def demos(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[int, bool], Path]:
    """Folders of the demo by (seed, transfer). IDGENREC_DEMOS names a folder to keep them in; what is there is not run
    again."""
    kept = os.environ.get("IDGENREC_DEMOS")
    parent = Path(kept) if kept else tmp_path_factory.mktemp("demos")
    folders = {}
    for seed, transfer in (*((seed, True) for seed in SEEDS), (SEEDS[0], False)):
        out = parent / f"{'on' if transfer else 'off'}-{seed}"
        if not (out / "report" / "report.html").is_file():
            idgenrec("demo", "--seed", str(seed), "--transfer" if transfer else "--no-transfer", "--out", str(out))
        folders[seed, transfer] = out
    return folders


def load(folder: Path) -> dict:
    return json.loads((folder / "report" / "results.json").read_text())


def lower_bound(results: dict, task: str, recommender: str, baseline: str) -> float:
    """Lower end of the 95% interval of the per-user HR@10 difference, every item ranked, all users."""
    (found,) = (
        entry["low"]
        for entry in results["comparisons"]
        if (entry["task"], entry["recommender"], entry["baseline"]) == (task, recommender, baseline)
        and (entry["protocol"], entry["users"], entry["metric"]) == ("all", "all", "HR@10")
    )
    return found


def hit_ratio(results: dict, task: str, recommender: str) -> float:
    (found,) = (
        row["metrics"]["HR@10"]
        for row in results["rows"]
        if (row["task"], row["recommender"], row["protocol"], row["users"]) == (task, recommender, "all", "all")
    )
    return found


@pytest.mark.parametrize("task", UNSEEN)
@pytest.mark.parametrize("seed", SEEDS)
def test_trained_beats_popularity_and_random(demos: dict, seed: int, task: str) -> None:
    results = load(demos[seed, True])
    assert lower_bound(results, task, "idgenrec", "popularity") > 0
    assert lower_bound(results, task, "idgenrec", "random") > 0


@pytest.mark.parametrize("task", UNSEEN)
@pytest.mark.parametrize("seed", SEEDS)
def test_the_model_before_training_shows_no_such_thing(demos: dict, seed: int, task: str) -> None:
    assert lower_bound(load(demos[seed, True]), task, "untrained", "popularity") <= 0


@pytest.mark.parametrize("task", UNSEEN)
def test_nor_one_trained_where_nothing_can_transfer(demos: dict, task: str) -> None:
    assert lower_bound(load(demos[SEEDS[0], False]), task, "idgenrec", "popularity") <= 0


@pytest.mark.parametrize("task", UNSEEN)
@pytest.mark.parametrize("seed", SEEDS)
def test_popularity_is_a_real_baseline(demos: dict, seed: int, task: str) -> None:
    results = load(demos[seed, True])
    assert hit_ratio(results, task, "popularity") >= 2 * hit_ratio(results, task, "random")
    assert hit_ratio(results, task, "tfidf-last") > 0


@pytest.mark.parametrize("task", UNSEEN)
def test_every_user_is_judged_once(demos: dict, task: str) -> None:
    results, ranks = load(demos[0, True]), pl.read_parquet(demos[0, True] / "report" / "ranks.parquet")
    num_users = results["tasks"][task]["num_users"]
    counts = (
        ranks.filter(pl.col("task") == task)
        .group_by("recommender", "protocol")
        .agg(pl.len(), pl.col("user").n_unique().alias("users"))
    )
    assert counts.height == 2 * 10
    assert set(counts["len"]) == set(counts["users"]) == {num_users}


def test_ids_are_unique_and_readable(demos: dict) -> None:
    for seed in SEEDS:
        folder = demos[seed, True]
        tokenizer = load_tokenizer(folder / "shards" / "tokenizer")
        last = checkpoint.best(folder / "run")
        assert last is not None
        books = [folder / "report" / f"book-{task}.arrow" for task in UNSEEN] + [last / "book.arrow"]
        for path in books:
            book = Book.load(path, tokenizer)
            keys = {tuple(ids.tolist()) for ids in book.token_ids}
            assert len(keys) == len(book)
            assert all(keys)
            assert all(UNK_ID not in key for key in keys)
            again = tokenizer(book.texts, add_special_tokens=False)["input_ids"]
            assert all(list(a) == b.tolist() for a, b in zip(again, book.token_ids, strict=True))
        for task in UNSEEN:
            assert {"second_attempt_share", "longer_share"} <= set(load(folder)["ids"][task])


def test_same_seed_same_numbers_from_the_wheel_too(demos: dict, tmp_path: Path) -> None:
    installed = Installed(built(tmp_path)[0], tmp_path)
    said = installed.ran(installed.command, "demo", "--seed", "0", "--out", "again")
    assert "done in" in said and (tmp_path / "again" / "report" / "report.html").is_file()
    first, second = load(demos[0, True]), load(tmp_path / "again")
    for part in ("tasks", "rows", "comparisons", "ids", "users"):
        assert first[part] == second[part], part
    assert first["training"]["losses"] == second["training"]["losses"]


def test_one_rank_judges_like_two(demos: dict, tmp_path: Path) -> None:
    folder, out = demos[0, True], tmp_path / "one"
    run = tmp_path / "run"  # a copy, so that the demo's own MLflow run stays as it was
    shutil.copytree(folder / "run", run)
    words = ("--checkpoint", str(run), "--shards", str(folder / "shards"), "--out", str(out), "--processes", "1")
    idgenrec("zeroshot", *words, "--tracking-uri", f"sqlite:///{copy_store(folder, tmp_path)}")
    two = pl.read_parquet(folder / "report" / "ranks.parquet")
    one = pl.read_parquet(out / "ranks.parquet")
    assert one.equals(two)
    assert load_rows(out / "results.json") == load_rows(folder / "report" / "results.json")


def load_rows(path: Path) -> list[dict]:
    return json.loads(path.read_text())["rows"]


def copy_store(folder: Path, target: Path) -> Path:
    shutil.copy(folder / "mlflow.db", target / "mlflow.db")
    return target / "mlflow.db"


@contextlib.contextmanager
def mlflow_ui(store: Path) -> Iterator[str]:
    """The address of `mlflow ui` over a demo's store."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = ["ui", "--backend-store-uri", f"sqlite:///{store}", "--port", str(port), "--workers", "1"]
    server = subprocess.Popen(
        [sys.executable, "-m", "mlflow", *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(120):
            with contextlib.suppress(OSError), urllib.request.urlopen(f"{address}/health", timeout=2):
                break
            time.sleep(0.5)
        yield address
    finally:
        os.killpg(server.pid, 15)
        server.wait(20)


def post(address: str, path: str, body: dict) -> dict:
    request = urllib.request.Request(
        f"{address}/api/2.0/mlflow/{path}", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def get(address: str, path: str) -> dict:
    with urllib.request.urlopen(f"{address}/api/2.0/mlflow/{path}", timeout=30) as answer:
        return json.load(answer)


def test_mlflow_ui_shows_the_run(demos: dict) -> None:
    """One run with parameters, a loss curve of every phase, metrics per data set, and the report."""
    with mlflow_ui(demos[0, True] / "mlflow.db") as address:
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
