"""Signs of life, and a thread that ends a rank which gives none, and says which rank hangs, where.

Enters: what a rank is doing, whenever it changes (`beat`, in everything that takes long). Leaves: on a hang, one file
per rank with its host, place and stack, one line on rank 0 that names who is behind, one on every other host, and exit
status 3. Must hold: whatever works, beats; nothing is written or sent while all is well.
"""

from __future__ import annotations

import faulthandler
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from pretrain.runtime.progress import Reporter

STATUS = 3
SHOWN_RANKS = 8
GATHER_SECONDS = 15.0
"""How long rank 0 waits for the words of the others, whose clocks run out at nearly the same time."""


class Listener(Protocol):
    """Hears signs of life. `place`: what is done, where it has changed. `arrived`: this rank has come to a place where
    ranks wait for each other. `waits`: it stands there, and lives as long as one of the others does."""

    def __call__(self, place: str | None, arrived: bool = False, waits: bool = False) -> None: ...


_listeners: list[Listener] = []


def beat(place: str | None = None, arrived: bool = False, waits: bool = False) -> None:
    """A sign of life of this rank, from any thread; nothing where nobody listens."""
    for listener in _listeners:
        listener(place, arrived, waits)


@contextmanager
def heard_by(listener: Listener) -> Iterator[None]:
    """Inside signs of life reach `listener` too."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)


class Watchdog:
    """Also a Reporter: passes everything on, and takes it as a sign of life. Used as a context manager."""

    def __init__(self, folder: Path, rank: int, ranks: int, limit: float, reporter: Reporter) -> None:
        self.folder, self.rank, self.ranks, self.limit, self.reporter = folder, rank, ranks, limit, reporter
        self.place, self.count, self.seen = "starting", 0, time.monotonic()
        self._stop = threading.Event()
        self._listening = heard_by(self._hear)

    def at(self, place: str) -> None:
        """A sign of life that all ranks give alike: what this rank does from now on."""
        self.count += 1
        beat(place)

    def _hear(self, place: str | None, arrived: bool = False, waits: bool = False) -> None:
        # Ranks are compared by what they do alike: how often one beats inside its work says nothing of the others.
        self.count, self.seen = self.count + arrived, time.monotonic()
        if place is not None and threading.current_thread() is threading.main_thread():
            self.place = place  # a checkpoint that is written meanwhile is not where this rank stands

    def line(self, text: str) -> None:
        self.at(self.place)
        self.reporter.line(text)

    def progress(self, what: str, done: int, total: int, unit: str, note: str = "") -> None:
        self.at(f"{what}, {done:,} of {total:,} {unit} done")
        self.reporter.progress(what, done, total, unit, note)

    def __enter__(self) -> Watchdog:
        self._listening.__enter__()
        if self.limit > 0:
            threading.Thread(target=self._watch, name="watchdog", daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._listening.__exit__(None, None, None)

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
