"""A thread that ends a rank which makes no progress, and says which rank hangs, where.

Enters: what a rank is doing, whenever it changes. Leaves: on a hang, one file per rank with its host, place and stack,
one line on rank 0 that names who is behind, one on every other host, and exit status 3. Must hold: nothing is written
or sent while all is well.
"""

from __future__ import annotations

import faulthandler
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from pretrain.reporter import Reporter

STATUS = 3
SHOWN_RANKS = 8
GATHER_SECONDS = 15.0
"""How long rank 0 waits for the words of the others, whose clocks run out at nearly the same time."""


class Watchdog:
    """Also a Reporter: passes everything on, and takes it as a sign of life. Used as a context manager."""

    def __init__(self, folder: Path, rank: int, ranks: int, limit: float, reporter: Reporter) -> None:
        self.folder, self.rank, self.ranks, self.limit, self.reporter = folder, rank, ranks, limit, reporter
        self.place, self.count, self.seen = "starting", 0, time.monotonic()
        self._stop = threading.Event()

    def at(self, place: str) -> None:
        """A sign of life: what this rank does from now on."""
        self.place, self.count, self.seen = place, self.count + 1, time.monotonic()

    def line(self, text: str) -> None:
        self.at(self.place)
        self.reporter.line(text)

    def progress(self, what: str, done: int, total: int, unit: str, note: str = "") -> None:
        self.at(f"{what}, {done:,} of {total:,} {unit} done")
        self.reporter.progress(what, done, total, unit, note)

    def __enter__(self) -> Watchdog:
        if self.limit > 0:
            threading.Thread(target=self._watch, name="watchdog", daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()

    def _watch(self) -> None:
        while not self._stop.wait(min(1.0, self.limit / 4)):
            if time.monotonic() - self.seen > self.limit:
                self._give_up()

    def _give_up(self) -> None:
        hangs = self.folder / "hangs"
        hangs.mkdir(parents=True, exist_ok=True)
        with (hangs / f"rank-{self.rank:04d}.stack").open("w") as file:
            faulthandler.dump_traceback(file)
        word = hangs / f"rank-{self.rank:04d}.json"
        host = socket.gethostname()
        word.with_suffix(".writing").write_text(json.dumps({"host": host, "place": self.place, "count": self.count}))
        os.replace(word.with_suffix(".writing"), word)
        if self.rank == 0:
            time.sleep(min(GATHER_SECONDS, self.limit))
            print(f"error: {self._verdict(hangs)}", file=sys.stderr, flush=True)
        else:
            if os.environ.get("LOCAL_RANK") == "0":  # of another host, whose word may not reach rank 0
                print(f"error: rank {self.rank} on {host}: no progress for {self.limit:.0f} s at: {self.place}",
                      file=sys.stderr, flush=True)  # fmt: skip
            time.sleep(min(GATHER_SECONDS, self.limit) + 5)  # rank 0 has to speak before anybody's end stops it
        os._exit(STATUS)

    def _verdict(self, hangs: Path) -> str:
        words = {
            rank: json.loads(path.read_text())
            for rank in range(self.ranks)
            if (path := hangs / f"rank-{rank:04d}.json").is_file()
        }
        return f"no progress for {self.limit:.0f} s: {behind(words, self.ranks)}; stacks are in {hangs}"


def behind(words: Mapping[int, Mapping[str, object]], ranks: int) -> str:
    """Who holds up the others: the ranks that said nothing, else those with the fewest signs of life."""
    silent = [rank for rank in range(ranks) if rank not in words]
    others = sorted({str(word["place"]) for word in words.values()})
    if silent:
        return f"{_named(silent, {})} says nothing (frozen, dead or cut off) while the others are at: {others[0]}"
    least = min(int(str(word["count"])) for word in words.values())
    last = [rank for rank, word in words.items() if int(str(word["count"])) == least]
    if len(last) == ranks:
        return f"{_named(last, words)} all wait at: {'; '.join(others)}; look at the network between them"
    where = str(words[last[0]]["place"])
    ahead = next(str(word["place"]) for rank, word in words.items() if rank not in last)
    return f"{_named(last, words)} hangs at: {where}; the others wait at: {ahead}"


def _named(ranks: Sequence[int], words: Mapping[int, Mapping[str, object]]) -> str:
    """A few of the ranks with their hosts."""
    named = [f"rank {rank}" + (f" on {words[rank]['host']}" if rank in words else "") for rank in ranks[:SHOWN_RANKS]]
    return ", ".join(named) + (f" and {len(ranks) - SHOWN_RANKS} more" if len(ranks) > SHOWN_RANKS else "")
