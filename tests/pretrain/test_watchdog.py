"""A hang is named with rank and phase, and ends the job."""

import multiprocessing
import os
import socket
import sys
import time

import pytest

from pretrain.watchdog import STATUS, Watchdog, behind


class Quiet:
    def line(self, text):
        pass

    def progress(self, what, done, total, unit, note=""):
        pass


def rank_body(folder, rank, hangs_at, limit, all_are_here):
    sys.stderr = open(folder / f"err-{rank}", "w")  # noqa: SIM115 (it lives as long as the process)
    all_are_here.wait()  # on a busy machine one may be here seconds before the other
    with Watchdog(folder, rank, 2, limit, Quiet()) as watchdog:
        for step in range(1, 6):
            watchdog.progress("round 1 generator", step, 9, "steps")
            if rank == 1 and step == hangs_at:
                time.sleep(60)
        time.sleep(60 if hangs_at else 0)


def ranks_of(folder, hangs_at, limit=3.0):
    context = multiprocessing.get_context("spawn")
    all_are_here = context.Barrier(2)
    ranks = [context.Process(target=rank_body, args=(folder, rank, hangs_at, limit, all_are_here)) for rank in range(2)]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join(40)
    return [process.exitcode for process in ranks]


@pytest.mark.processes
def test_the_rank_that_hangs_is_named(tmp_path):
    assert ranks_of(tmp_path, hangs_at=3) == [STATUS, STATUS]
    said = (tmp_path / "err-0").read_text()
    assert said.startswith("error: no progress for") and said.count("\n") == 1
    assert f"rank 1 on {socket.gethostname()} hangs at: round 1 generator, 3 of 9 steps done" in said
    assert "the others wait at: round 1 generator, 5 of 9 steps done" in said
    assert (tmp_path / "err-1").read_text() == ""
    assert (
        "time.sleep" in (tmp_path / "hangs" / "rank-0001.stack").read_text()
        or "rank_body" in (tmp_path / "hangs" / "rank-0001.stack").read_text()
    )


def test_without_a_hang_nothing_is_written(tmp_path):
    assert ranks_of(tmp_path, hangs_at=0, limit=30.0) == [0, 0]
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
    import threading

    with Watchdog(tmp_path, 0, 1, limit, Quiet()):
        assert not any(thread.name == "watchdog" for thread in threading.enumerate())
    assert os.listdir(tmp_path) == []
