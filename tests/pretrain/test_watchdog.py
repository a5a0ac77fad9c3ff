"""A hang is named with rank and phase, and ends the job."""

import multiprocessing
import os
import socket
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from patience import HANG, until

from pretrain.runtime import watchdog as watchdog_module
from pretrain.runtime.watchdog import STATUS, Watchdog, beat, behind, heard_by

module: Any = watchdog_module
LIMIT = 0.2


class Quiet:
    def line(self, text):
        pass

    def progress(self, what, done, total, unit, note=""):
        pass


def rank_body(folder, rank, hangs_at):
    """A rank whose clock goes only when the test lets it, so that it is never late by chance."""
    sys.stderr = open(folder / f"err-{rank}", "w")  # noqa: SIM115 (it lives as long as the process)
    now, looked = [0.0], []

    def monotonic():
        if threading.current_thread().name == "watchdog":
            looked.append(now[0])
        return now[0]

    word = folder / "hangs" / "rank-0001.json"
    until_the_other = word.is_file if rank == 0 else lambda: (folder / "err-0").stat().st_size
    module.time = SimpleNamespace(monotonic=monotonic, sleep=lambda seconds: until(until_the_other))
    with Watchdog(folder, rank, 2, LIMIT, Quiet()) as watchdog:
        for step in range(1, 6):
            now[0] += 0.9 * LIMIT
            watchdog.progress("round 1 generator", step, 9, "steps")
            until(lambda: now[0] in looked)
            if rank == 1 and step == hangs_at:
                break
        if hangs_at:
            now[0] += 1.1 * LIMIT
            until(lambda: False)


def ranks_of(folder, hangs_at):
    context = multiprocessing.get_context("spawn")
    ranks = [context.Process(target=rank_body, args=(folder, rank, hangs_at)) for rank in range(2)]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join()
    return [process.exitcode for process in ranks]


@pytest.mark.processes
def test_the_rank_that_hangs_is_named(tmp_path):
    assert ranks_of(tmp_path, hangs_at=3) == [STATUS, STATUS]
    said = (tmp_path / "err-0").read_text()
    assert said.startswith("error: no progress for") and said.count("\n") == 1
    assert f"rank 1 on {socket.gethostname()} hangs at: round 1 generator, 3 of 9 steps done" in said
    assert "the others wait at: round 1 generator, 5 of 9 steps done" in said
    assert (tmp_path / "err-1").read_text() == ""
    assert "rank_body" in (tmp_path / "hangs" / "rank-0001.stack").read_text()


@pytest.mark.processes
def test_without_a_hang_nothing_is_written(tmp_path):
    """Each step takes nearly as long as the limit."""
    assert ranks_of(tmp_path, hangs_at=0) == [0, 0]
    assert not (tmp_path / "hangs").exists()


def test_who_is_behind():
    word = {"host": "a", "place": "warm-up recommender, 7 of 9 steps done", "count": 9}
    late = {"host": "b", "place": "warm-up recommender, 6 of 9 steps done", "count": 8}
    assert "rank 2 says nothing (frozen, dead or cut off) while the others are at: warm-up" in behind(
        {0: word, 1: word}, 3
    )
    assert "rank 1 on b hangs at: warm-up recommender, 6 of 9" in behind({0: word, 1: late, 2: word}, 3)
    assert behind({0: word, 1: word}, 2).startswith(
        "rank 0 on a, rank 1 on a all wait at: warm-up recommender, 7 of 9 steps done; look at the network"
    )
    assert "rank 7 on a and 2 more all wait at: " in behind(dict.fromkeys(range(10), word), 10)


@pytest.mark.parametrize("limit", [0.0])
def test_no_limit_no_thread(tmp_path, limit):
    with Watchdog(tmp_path, 0, 1, limit, Quiet()):
        assert not any(thread.name == "watchdog" for thread in threading.enumerate())
    assert os.listdir(tmp_path) == []


def test_signs_of_life_of_long_work_are_heard_and_compare_no_ranks(tmp_path):
    with Watchdog(tmp_path, 0, 2, 0.0, Quiet()) as watchdog:
        watchdog.progress("phase", 1, 2, "steps")
        count, watchdog.seen = watchdog.count, 0.0
        beat("hashing a file")
        assert watchdog.seen > 0 and watchdog.place == "hashing a file" and watchdog.count == count
        watchdog.seen = 0.0
        writer = threading.Thread(target=beat, args=("writing a checkpoint",))
        writer.start()
        writer.join()
        assert watchdog.seen > 0 and watchdog.place == "hashing a file", "where the main thread stands"
        beat(arrived=True)
        assert watchdog.count == count + 1, "who waits for others is ahead of them"
    watchdog.seen = 0.0
    beat()
    assert watchdog.seen == 0


def test_whatever_works_beats(trained_run, shard_folder, tmp_path):
    """Each long piece of work under the watchdog, and how often it beats at least: with a limit between two beats it
    would be taken for a hang, or hold up a rank that waits for it."""
    import dataclasses

    import torch

    from pretrain.ids.book import Book
    from pretrain.ids.job import make_book
    from pretrain.model.t5 import load_model, save_model
    from pretrain.runtime.world import World
    from pretrain.training import checkpoint
    from pretrain.training.optimizer_state import OptimizerState
    from pretrain.training.validation import validate
    from shards.manifest import Manifest
    from shards.tables import load_items
    from shards.tokenizer import load_tokenizer

    config, run = trained_run
    config = dataclasses.replace(config, search=dataclasses.replace(config.search, prior_weight=0.5))
    folder, tokenizer = checkpoint.newest(Path(run)), load_tokenizer(shard_folder / "tokenizer")
    world, manifest = World(0, 1, torch.device("cpu")), Manifest.load(shard_folder)
    places = []
    watched = {}
    assert folder is not None

    def count(name, work):
        places.clear()
        found = work()
        watched[name] = list(places)
        return found

    def listen(place, arrived=False, waits=False):
        places.append(place)

    with heard_by(listen):
        count("taking up: hashes", lambda: checkpoint.verify(folder))
        recommender = count("taking up: a model", lambda: load_model(str(folder / "recommender"), tokenizer))
        book = count("taking up: a book", lambda: Book.load(folder / "book.arrow", tokenizer))
        moments = OptimizerState(next((folder / "engines").iterdir()))
        count("taking up: moments", lambda: moments.tensor(*next(iter(moments._file_of)).rsplit("/", 1)))
        count("writing a model", lambda: save_model(recommender, tokenizer, tmp_path / "model"))
        count("validation", lambda: validate(recommender, tokenizer, book, manifest, config, world))
        generator = load_model(str(folder / "generator"), tokenizer)
        ids = dataclasses.replace(config.ids, block_size=8)
        items = load_items(str(shard_folder), manifest, manifest.train_members[0].name)
        count("ID job", lambda: make_book(generator, tokenizer, items, ids, world))
    assert all(watched.values()), {name for name, heard in watched.items() if not heard}
    assert len(watched["taking up: hashes"]) >= len(list((folder / "recommender").iterdir()))
    ranked = [place for place in watched["validation"] if "users ranked" in place]
    assert len(ranked) >= len(manifest.train_members) and any("reading" in place for place in watched["validation"])
    assert any("log-probabilities" in place for place in watched["validation"])
    assert sum(bool(place) and "blocks written" in place for place in watched["ID job"]) >= len(items) // 8


def test_an_end_that_waits_for_mlflow_is_no_hang(tmp_path):
    """A job waits two minutes for it at its end, whatever the limit of the watchdog is."""
    import pretrain.tracking.uploader as module

    heard = []

    class Away:
        address = None

        def send(self):
            if len(heard) < 2:
                raise OSError("MLflow is away")

    def listen(place, arrived=False, waits=False):
        heard.append(place)

    pauses = module.BEAT_PAUSE, module.FIRST_PAUSE
    module.BEAT_PAUSE = module.FIRST_PAUSE = 0.01
    try:
        with heard_by(listen):
            assert module.BackgroundUploader(Away()).close(HANG) is None  # type: ignore[arg-type]
    finally:
        module.BEAT_PAUSE, module.FIRST_PAUSE = pauses
    assert set(heard) == {"waiting for MLflow"} and len(heard) >= 2
