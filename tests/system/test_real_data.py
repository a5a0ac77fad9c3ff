"""The real data through the real command line: shard, pretrain, zeroshot, report, on samples of minutes.

Two runs: tiny models from scratch over three categories and two unseen sets, and a real pretrained T5 of 77 million
parameters for both models over one category and one unseen set. `--max-test-users` keeps the catalogue of an unseen
set whole; making IDs for whole catalogues takes hours on two cores, so the runs use small sets cut from the real ones.
"""

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from pretrain.ids.book import Book
from shards.manifest import Manifest
from shards.tokenizer import load_tokenizer
from zeroshot.report import results

REPOSITORY = Path(__file__).resolve().parents[2]
TRAIN = ("Games", "Phones", "Office")
UNSEEN = {"Beauty": 12_101, "Yelp": 20_033}
"""Items by data set, as the README of the data has them."""
FEW_STEPS = (
    *("--schedule.warmup-epochs", "0.05", "--schedule.generator-epochs", "0.05"),
    *("--schedule.recommender-epochs", "0.05", "--schedule.validation-users", "8"),
)


def idgenrec(folder: Path, *words: str | Path, status: int = 0) -> str:
    """Run the command line in `folder`; returns what it printed and fails when it ends otherwise than with `status`."""
    environment = os.environ | {
        "PYTHONPATH": str(REPOSITORY),
        "OMP_NUM_THREADS": "1",
        "POLARS_MAX_THREADS": "2",
        "HF_HUB_OFFLINE": "1",
        "CUDA_VISIBLE_DEVICES": "",
    }
    ended = subprocess.run(
        [sys.executable, "-m", "launchers.cli", *map(str, words)],
        cwd=folder, env=environment, capture_output=True, text=True,
    )  # fmt: skip
    printed = ended.stdout + ended.stderr
    assert ended.returncode == status, printed[-4000:]
    return printed


def lines(path: Path) -> list[str]:
    with gzip.open(path, "rt", encoding="utf-8") as source:
        return source.read().splitlines()


def write_plain(folder: Path, sequences: list[str], texts: list[str]) -> Path:
    folder.mkdir(parents=True)
    (folder / "user_sequence.txt").write_text("\n".join(sequences) + "\n")
    (folder / "item_plain_text.txt").write_text("\n".join(texts) + "\n")
    return folder


def cut(source: Path, out: Path, num_users: int) -> Path:
    """A data set of the first users of at most 12 items, and the items that they touched."""
    sequences = [line for line in lines(source / "user_sequence.txt.gz") if line.count(" ") <= 12][:num_users]
    touched = {item for line in sequences for item in line.split()[1:]}
    texts = [line for line in lines(source / "item_plain_text.txt.gz") if line.split(" ", 1)[0] in touched]
    return write_plain(out / source.name, sequences, texts)


def check_report(out: Path, shards: Path, tasks: dict[str, int]) -> dict:
    """What must hold for every evaluation; `tasks` gives the users of each. Returns the results."""
    found = results.load(out / "results.json")
    tokenizer, manifest = load_tokenizer(shards / "tokenizer"), Manifest.load(shards)
    assert set(found["tasks"]) == set(tasks)
    ranks = pl.read_parquet(out / "ranks.parquet")
    recommenders = set(ranks["recommender"])
    assert {"idgenrec", "untrained", "random", "popularity", "tfidf-last"} <= recommenders
    for (task, name, protocol), group in ranks.group_by("task", "recommender", "protocol"):
        assert group["user"].n_unique() == group.height == tasks[str(task)], (task, name, protocol)
    for task, num_users in tasks.items():
        assert found["tasks"][task]["users_judged"] == num_users
        judged = {(row["recommender"], row["protocol"]) for row in found["rows"] if row["task"] == task}
        assert judged == {(name, protocol) for name in recommenders for protocol in ("all", "new")}
        book = Book.load(out / f"book-{task}.arrow", tokenizer)
        assert len(book) == len({tuple(ids) for ids in book.token_ids}) == manifest.member(task).num_items
        assert all(book.texts)
        for user in found["users"][task]:
            listed = [item for item, _ in user["list"]]
            assert len(listed) == len(set(listed)) >= 10
            assert set(listed) <= set(book.texts)
    return found


def test_sequences_in_the_order_of_the_released_files_are_refused(shared: Path, tmp_path: Path) -> None:
    sequences = [line.split() for line in lines(shared / "data" / "Toys" / "user_sequence.txt.gz")]
    texts = lines(shared / "data" / "Toys" / "item_plain_text.txt.gz")
    folder = write_plain(tmp_path / "Toys", [" ".join([user, *sorted(items)]) for user, *items in sequences], texts)
    printed = idgenrec(
        tmp_path, "shard", "build", "--test", folder, "--tokenizer", shared / "t5", "--out", "shards", status=2
    )  # fmt: skip
    assert "error: Toys" in printed
    assert not (tmp_path / "shards").exists()


@pytest.mark.slow
def test_tiny_models_from_scratch(shared: Path, tmp_path: Path) -> None:
    data = shared / "data"
    unseen = [cut(data / name, tmp_path / "unseen", 8) for name in UNSEEN]
    idgenrec(
        tmp_path, "shard", "build", "--train", *(data / name for name in TRAIN), "--test", *unseen,
        "--tokenizer", shared / "t5", "--max-users", "12", "--out", "shards",
    )  # fmt: skip
    tiny = [
        word
        for model in ("recommender", "generator")
        for name, value in (("d-model", "32"), ("d-ff", "64"), ("num-layers", "1"))
        for word in (f"--{model}.{name}", value)
    ]
    idgenrec(
        tmp_path, "pretrain", "--shards", "shards", "--out", "run", *tiny, *FEW_STEPS,
        "--schedule.teaching-epochs", "4", "--ids.penalty-step", "0.9", "--ids.max-tiers", "1",
        "--ids.block-size", "16", "--batch-size", "16", "--micro-batch-size", "4", "--processes", "2",
    )  # fmt: skip
    idgenrec(
        tmp_path, "zeroshot", "--checkpoint", "run", "--shards", "shards", "--out", "report", "--max-users", "6",
        "--processes", "2",
    )  # fmt: skip
    found = check_report(tmp_path / "report", tmp_path / "shards", dict.fromkeys(UNSEEN, 6))
    assert {point["phase"] for point in found["training"]["losses"]} == {"teaching", "recommender", "generator"}


@pytest.mark.slow
def test_both_models_from_a_pretrained_folder(shared: Path, pretrained: Path, tmp_path: Path) -> None:
    data = shared / "data"
    unseen = cut(data / "Yelp", tmp_path / "unseen", 2)
    idgenrec(
        tmp_path, "shard", "build", "--train", data / "Office", "--test", unseen, "--tokenizer", pretrained,
        "--max-users", "8", "--out", "shards",
    )  # fmt: skip
    idgenrec(
        tmp_path, "pretrain", "--shards", "shards", "--out", "run", *FEW_STEPS, "--batch-size", "4",
        "--micro-batch-size", "2", "--recommender.start-from", pretrained, "--generator.start-from", pretrained,
        "--recommender-lr", "1e-4", "--ids.block-size", "8", "--processes", "2",
    )  # fmt: skip
    idgenrec(
        tmp_path, "zeroshot", "--checkpoint", "run", "--shards", "shards", "--out", "report", "--processes", "2",
    )  # fmt: skip
    found = check_report(tmp_path / "report", tmp_path / "shards", {"Yelp": 2})
    assert {point["phase"] for point in found["training"]["losses"]} == {"recommender", "generator"}
    logged = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    moved = [
        line["recommender/share_of_weights_moved"] for line in logged if "recommender/share_of_weights_moved" in line
    ]
    assert moved
    assert min(moved) > 0
    # It writes titles, not noise: hardly an ID needs a number to be unique.
    assert found["ids"]["Yelp"]["suffixed_share"] < 0.2
