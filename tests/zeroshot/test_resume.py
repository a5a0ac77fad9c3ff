"""An evaluation that is killed and given again: the same bytes, nothing judged twice, nothing lost."""

import dataclasses
import json
import random
from collections import Counter

import pytest

from pretrain.config.run import ScheduleConfig
from zeroshot.judge.user_blocks import FOLDER

KILLS = 3
TOKENS = 20
"""Steps of decoding that every rank of an evaluation makes, and more."""


def evaluate(world, folder, run, kill=None, max_users=None, sweep_users=0):
    """A whole evaluation into `folder`; the trace lists every block that a model was asked. `kill`: (rank, what is
    called, how many calls go well before that rank ends as by SIGKILL)."""
    import os
    import signal
    from pathlib import Path
    from typing import Any

    import zeroshot.harness as harness
    from pretrain.decoding.config import SearchConfig
    from pretrain.decoding.decoder import T5Decoder
    from pretrain.ids import book_cache
    from pretrain.ids.book import Book
    from pretrain.runtime.progress import Silent
    from zeroshot.judge import checkpoint, judge
    from zeroshot.judge.user_blocks import BlockStore
    from zeroshot.protocol.config import EvaluateConfig

    folder = Path(folder)
    modules: Any = (checkpoint, judge)
    for module in modules:
        module.BLOCK = {"cpu": 2}
    trace = folder.with_name(f"{folder.name}.trace")
    halves: Any = judge.in_halves

    def traced(task, recommender, protocols, users, note):
        judged = halves(task, recommender, protocols, users, note)
        if recommender.name in ("idgenrec", "untrained"):
            with trace.open("a") as file:
                names = " ".join(sorted(task.users[user] for user in users))
                file.writelines(f"{recommender.name} {protocol} {names}\n" for protocol in protocols)
        return judged

    make_book: Any = book_cache.make_book

    def made(*arguments, **named):
        found = make_book(*arguments, **named)
        with folder.with_name(f"{folder.name}.books").open("a") as file:
            file.write(f"rank {world.rank}\n")
        return found

    book_cache.make_book = made  # type: ignore[assignment]
    judge_module: Any = judge
    judge_module.in_halves = traced
    places: Any = {
        "block": (judge_module, "in_halves"), "kept": (BlockStore, "write"), "book": (Book, "save"),
        "report": (harness, "write_report"), "token": (T5Decoder, "extend"),
    }  # fmt: skip
    if kill is not None and kill[0] == world.rank:
        owner, name = places[kill[1]]
        kept, calls = getattr(owner, name), []

        def deadly(*arguments, **named):
            if len(calls) == kill[2]:
                os.kill(os.getpid(), signal.SIGKILL)
            calls.append(0)
            return kept(*arguments, **named)

        setattr(owner, name, deadly)
    config = EvaluateConfig(
        run.out, run.shards, str(folder), search=SearchConfig(beam=10, prior_weight=0.3), max_users=max_users,
        blend_weight=2.0, sweep_users=sweep_users, tracking_uri=run.tracking_uri,
    )  # fmt: skip
    harness.evaluate(config, world, Silent())


@pytest.fixture(scope="module")
def run(run_ranks, train_config):
    """A run of a few steps, for all tests of this file."""

    def train(world, config):
        from pretrain.runtime.progress import Silent
        from pretrain.training.train import train

        return str(train(config, world, Silent()))

    short = ScheduleConfig(
        teaching_epochs=0.2, warmup_epochs=0.1, generator_epochs=0.1, recommender_epochs=0.1, validation_users=4
    )
    config = dataclasses.replace(train_config("to judge"), schedule=short, checkpoint_steps=100)
    run_ranks(train, 1, config)
    return config


@pytest.fixture(scope="module")
def undisturbed(run_ranks, run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed") / "report"
    run_ranks(evaluate, 1, str(folder), run)
    return folder


def asked(folder):
    return Counter(folder.with_name(f"{folder.name}.trace").read_text().splitlines())


def died(run_ranks, *arguments):
    """An evaluation that is killed before it ends."""
    with pytest.raises(AssertionError, match="the process died|[Cc]losed|reset|refused"):
        run_ranks(evaluate, *arguments)


@pytest.mark.parametrize("seed", range(2))
def test_killed_anywhere_it_ends_with_the_same_bytes(run_ranks, run, undisturbed, tmp_path, seed):
    """Ranks die before, while and after blocks are judged; the evaluation goes on with another number of ranks."""
    draw, folder, in_flight = random.Random(seed), tmp_path / "report", 0
    points = draw.sample(["book", "block", "kept", "token", "report"], KILLS)
    for point in sorted(points, key=["book", "token", "block", "kept", "report"].index):
        ranks = draw.choice((1, 2))
        at = draw.randrange({"token": TOKENS, "block": 3, "kept": 3}.get(point, 1))
        victim = draw.randrange(ranks) if point in ("block", "token") else 0
        died(run_ranks, ranks, str(folder), run, (victim, point, at))
        in_flight += ranks
    assert (folder / FOLDER).is_dir()
    run_ranks(evaluate, draw.choice((1, 2)), str(folder), run)
    for name in ("ranks.parquet", "book-Gifts.arrow"):
        assert (folder / name).read_bytes() == (undisturbed / name).read_bytes(), name
    assert set(asked(folder)) == set(asked(undisturbed)), "every block was judged"
    again = sum(asked(folder).values()) - sum(asked(undisturbed).values())
    assert 0 <= again <= in_flight, "only what was in flight was judged again"
    assert not (folder / FOLDER).exists() and not list(folder.glob(".*"))


def test_undisturbed_every_block_is_judged_once(run_ranks, run, undisturbed, tmp_path):
    assert set(asked(undisturbed).values()) == {1}
    users = Counter(user for line in asked(undisturbed) for user in line.split()[2:])
    assert set(users.values()) == {2 * 2}, "each user once per model and protocol"
    run_ranks(evaluate, 2, str(tmp_path / "two"), run)
    assert asked(tmp_path / "two") == asked(undisturbed)
    assert (tmp_path / "two" / "ranks.parquet").read_bytes() == (undisturbed / "ranks.parquet").read_bytes()


def test_another_evaluation_takes_nothing_over(run_ranks, run, undisturbed, tmp_path):
    """Killed with everyone, given again with a sample: the kept blocks are of other users."""
    folder = tmp_path / "report"
    died(run_ranks, 1, str(folder), run, (0, "report", 0))
    assert asked(folder) == asked(undisturbed)
    trace, books = folder.with_name("report.trace"), folder.with_name("report.books")
    trace.unlink()
    books.unlink()
    run_ranks(evaluate, 1, str(folder), run, None, 4)
    assert sum(asked(folder).values()) == 2 * 2 * 2 and not books.exists(), "two models, protocols and blocks"
    assert not (folder / FOLDER).exists()


def test_a_finished_book_is_not_made_again_and_another_one_not_taken(run_ranks, run, undisturbed, tmp_path):
    folder = tmp_path / "report"
    books = folder.with_name("report.books")
    died(run_ranks, 1, str(folder), run, (0, "block", 0))
    [kept] = (folder / FOLDER).glob("*.arrow")
    book = (folder / "book-Gifts.arrow").read_bytes()
    assert books.read_text() == "rank 0\n" and kept.read_bytes() == book
    kept.write_bytes(book[:-7])
    died(run_ranks, 2, str(folder), run, (0, "block", 0))
    assert sorted(books.read_text().split("\n")) == ["", "rank 0", "rank 0", "rank 1"], "a damaged book is made again"
    run_ranks(evaluate, 1, str(folder), run, None, None, 4)
    assert len(books.read_text().splitlines()) == 3, "and a whole one is not"
    sweeps = json.loads((folder / "results.json").read_text())["sweeps"]
    assert len(sweeps) == 13 and all(row["num_users"] == 4 for row in sweeps)
    assert (folder / "book-Gifts.arrow").read_bytes() == book == (undisturbed / "book-Gifts.arrow").read_bytes()
    assert (folder / "ranks.parquet").read_bytes() == (undisturbed / "ranks.parquet").read_bytes()
