"""A hang is named with rank and phase, and ends the job."""

import multiprocessing
import os
import socket
import sys
import threading
from types import SimpleNamespace
from typing import Any

import pytest
from patience import until

from pretrain import watchdog as watchdog_module
from pretrain.watchdog import STATUS, Watchdog, behind

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
