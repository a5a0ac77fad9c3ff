"""Reconciliation alone: who gets which candidate, over real processes, without a model.

Enters: a number of items and how often their candidates collide. Leaves: a Markdown table, printed and written to
docs/benchmarks/reconcile.md. Must hold, and is checked in every row: the result is that of Algorithm 1 run serially
over the same lists, and the generator would have been asked exactly as often.

    python -m benchmarks.ids.reconcile [--items 233323] [--ranks 1 2 3] [--millions 1 10]

An item's list for attempt n is a function of (item, n). A candidate is shared with others with a given probability
(popular ones more often) and is else the item's own; some items have the text of another, and with it its lists.
"""

import argparse
import multiprocessing
import os
import platform
import resource
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

import numpy as np

from pretrain.ids.assign import Acceptors, Candidate, Proposers, candidate_of, settle
from pretrain.runtime.rendezvous import HeldPort
from pretrain.runtime.world import Traffic, joined_world
from shards.workers import cores

GROUPS, SHARED = 5, 1 << 30


@dataclass(frozen=True)
class Market:
    """`items` items; `collide`: probability that a candidate is a shared one; `twins`: share of items with another's
    text."""

    name: str
    items: int
    collide: float
    twins: float

    def candidates(self, row: int, attempt: int) -> list[Candidate]:
        """The list that a generator writes for an item in one attempt: up to five different candidates."""
        draw = np.random.Philox(key=[row if not self._twin(row) else row // 97 * 97, attempt])
        words = draw.random_raw(2 * GROUPS)
        found: dict[tuple[int, int], None] = {}
        for group in range(GROUPS):
            chance, pick = int(words[2 * group]) / 2**64, int(words[2 * group + 1]) / 2**64
            if chance < self.collide:
                found[SHARED, int(self.items / 4 * pick * pick)] = None
            else:
                found[row if not self._twin(row) else row // 97 * 97, attempt * GROUPS + group] = None
        return [candidate_of(pair) for pair in found]

    def _twin(self, row: int) -> bool:
        """Rows with the text of the first of their 97: as many as `twins` says."""
        return row % 97 < self.twins * 97


def lists_over_time(market: Market, row: int) -> Iterator[list[Candidate]]:
    """Ten penalties in three tiers, then suffixed forms: what the ID job would ask for, one attempt after the other."""
    for attempt in range(30):
        yield market.candidates(row, attempt)
    number = 2
    while True:
        yield [candidate_of((row % 97, -number - extra)) for extra in range(64)]
        number += 64


def serial(market: Market) -> tuple[int, int]:
    """Algorithm 1, one item after the other: a checksum of who holds what, and how often a list was asked for."""
    used: set[Candidate] = set()
    checksum, asked = 0, 0
    for row in range(market.items):
        for candidates in lists_over_time(market, row):
            asked += 1
            held = next((candidate for candidate in candidates if candidate not in used), None)
            if held is not None:
                used.add(held)
                checksum += crc32(held, row)
                break
    return checksum, asked


def one_rank(rank: int, ranks: int, port: int, market: Market, answers: multiprocessing.Queue) -> None:
    """The loop of the ID job without its decoding; every rank makes the lists of the items at home there."""
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(ranks), "LOCAL_RANK": str(rank), "MASTER_PORT": str(port)}
    with joined_world() as world:
        home_N = np.arange(market.items, dtype=np.int32) % ranks
        coming = {row: lists_over_time(market, row) for row in range(rank, market.items, ranks)}
        traffic, proposers, acceptors = Traffic(world), Proposers(coming), Acceptors()
        active, asked, rounds, waves, inside = list(coming), 0, 0, 0, 0.0
        while world.sum(len(active))[0]:
            for row in active:
                proposers.add(row, next(coming[row]))
            asked += len(active)
            world.barrier()
            started = time.monotonic()
            rounds += settle(
                proposers, acceptors, home_N, ranks, traffic.exchange, lambda count: int(world.sum(count)[0])
            )
            inside += time.monotonic() - started
            active, waves = proposers.exhausted(), waves + 1
        checksum = sum(crc32(held.candidate, row) for row, held in proposers.held().items())
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
        answers.put((checksum, asked, rounds, waves, inside, traffic.sent, proposers.rejections, peak))


def parallel(market: Market, ranks: int) -> list[tuple]:
    """What each of `ranks` processes found."""
    held = HeldPort()
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    processes = [context.Process(target=one_rank, args=(r, ranks, held.number, market, answers)) for r in range(ranks)]
    for process in processes:
        process.start()
    found = [answers.get() for _ in processes]
    for process in processes:
        process.join()
    return found


def row_of(market: Market, ranks: int, expected: tuple[int, int]) -> str:
    found = parallel(market, ranks)
    checksum, asked = sum(rank[0] for rank in found), sum(rank[1] for rank in found)
    if (checksum, asked) != expected:
        raise SystemExit(f"{market} on {ranks} ranks differs from Algorithm 1: {(checksum, asked)} is not {expected}")
    seconds, sent = max(rank[4] for rank in found), sum(rank[5] for rank in found)
    rejected, peak = sum(rank[6] for rank in found), max(rank[7] for rank in found)
    cells = [
        market.name, f"{market.items:,}", str(ranks), f"{asked / market.items - 1:.1%}", f"{rejected:,}",
        f"{found[0][3]}", f"{found[0][2]}", f"{seconds:.1f}", f"{sent / market.items:.0f}", f"{peak:,.0f}",
    ]  # fmt: skip
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=233_323, help="items of the paper's Fusion")
    parser.add_argument("--millions", type=int, nargs="*", default=[1, 10], help="larger catalogues, on two ranks")
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks/reconcile.md"))
    options = parser.parse_args()
    lines = [
        "# Reconciliation", "",
        f"`python -m benchmarks.ids.reconcile --millions {' '.join(map(str, options.millions))}` on {cores()} cores "
        f"({platform.machine()}, load {os.getloadavg()[0]:.1f} when it began), Python {platform.python_version()}, "
        "gloo. No model: lists are drawn."
        " Every row gave the result of Algorithm 1 run serially over the same lists, and asked for exactly as many "
        "lists. Seconds are those of proposals and answers alone; bytes are what all ranks sent each other; memory is "
        "that of the largest rank, with Python, torch and the lists.", "",
        "| collisions | items | ranks | lists asked for again | rejections | waves | rounds | seconds | bytes an item "
        "| MB a rank |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]  # fmt: skip
    markets = (("as the paper's", 0.7, 0.02), ("much harsher", 0.9, 0.1))
    for size in sorted({options.items, *(millions * 1_000_000 for millions in options.millions)}):
        for name, collide, twins in markets if size <= 1_000_000 else markets[:1]:
            market = Market(name, size, collide, twins)
            expected = serial(market)
            for ranks in options.ranks if size == options.items else (2,):
                lines.append(row_of(market, ranks, expected))
                print(lines[-1], flush=True)
                options.out.parent.mkdir(parents=True, exist_ok=True)
                options.out.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
