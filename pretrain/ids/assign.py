"""Algorithm 1 as a pure function, and its parallel form over ranks.

Algorithm 1 is a serial dictatorship: item i takes the first candidate of its list that no earlier item holds. Seen as a
matching market, every candidate prefers the item with the smallest row. With that one common priority the stable
matching is unique: item 0 must hold its first choice, item 1 its first choice among the rest, and so on. Item-proposing
deferred acceptance (Gale and Shapley 1962) always ends in a stable matching, hence in this one, whatever the order of
the proposals. A rejection is final (a holder is only ever replaced by a smaller row), so no candidate is tried twice,
and how many rejections there are does not depend on the order either: each item ends at one place of its list.

Conditions: each item's list is fixed and strict (no candidate twice), and a longer list only ever grows at its end.

An item's list lives on one rank, its home; a candidate's holder is known to one rank, its owner. Items propose to
owners, owners send rejections home, until nobody is free: what crosses the network is proposals and rejections.
Items of an older book hold what they have under negative rows, so that no item of the catalogue can take it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple
from zlib import crc32

import numpy as np

Candidate = bytes
"""Token ids as little-endian int32: 4 bytes a token, where a tuple of numbers takes 36."""
Proposal = tuple[int, Candidate]
Exchange = Callable[[list[list]], list[list]]
"""One list for every rank goes out, one from every rank comes in."""


class Held(NamedTuple):
    """What an item holds, and the attempt that brought it."""

    candidate: Candidate
    attempt: int


def candidate_of(token_ids: Sequence[int] | np.ndarray) -> Candidate:
    """Token ids as a candidate."""
    return np.asarray(token_ids, dtype="<i4").tobytes()


def tokens_of(candidate: Candidate) -> np.ndarray:
    """The token ids of a candidate, int32."""
    return np.frombuffer(candidate, dtype="<i4").astype(np.int32)


def sequential(lists: Sequence[Sequence[Candidate]]) -> list[int | None]:
    """Algorithm 1 as printed: per item the index of the candidate it takes, or None where its list runs out."""
    used: set[Candidate] = set()
    choices: list[int | None] = []
    for candidates in lists:
        index = next((i for i, candidate in enumerate(candidates) if candidate not in used), None)
        if index is not None:
            used.add(candidates[index])
        choices.append(index)
    return choices


def owner_of(candidate: Candidate, ranks: int) -> int:
    """The rank that knows a candidate's holder; the same in every process."""
    return crc32(candidate) % ranks


class Proposers:
    """One side of deferred acceptance: the candidate lists of the items at home on one rank, and the candidate that
    each holds or proposes."""

    def __init__(self, rows: Iterable[int] = ()) -> None:
        self.lists: dict[int, list[Candidate]] = {row: [] for row in rows}
        self.ends: dict[int, list[int]] = {row: [] for row in self.lists}
        self.choice = dict.fromkeys(self.lists, 0)
        self.free = set(self.lists)
        self.rejections = 0

    def add(self, row: int, candidates: Iterable[Candidate]) -> None:
        """Append an attempt's candidates; what stands in the list already is skipped."""
        own = self.lists[row]
        known = set(own)
        for candidate in candidates:
            if candidate not in known:
                known.add(candidate)
                own.append(candidate)
        self.ends[row].append(len(own))

    def attempts(self, row: int) -> int:
        """Attempts made for an item."""
        return len(self.ends[row])

    def proposals(self) -> list[Proposal]:
        """What the free items propose, by row; after it they wait for an answer, and no answer is a yes."""
        made = [
            (row, self.lists[row][self.choice[row]])
            for row in sorted(self.free)
            if self.choice[row] < len(self.lists[row])
        ]
        self.free.difference_update(row for row, _ in made)
        return made

    def rejected(self, rows: Iterable[int]) -> None:
        """The items move on to the next candidate of their lists."""
        for row in rows:
            self.choice[row] += 1
            self.free.add(row)
            self.rejections += 1

    def exhausted(self) -> list[int]:
        """Items whose lists have run out, by row: they need more candidates."""
        return sorted(row for row in self.free if self.choice[row] >= len(self.lists[row]))

    def held(self) -> dict[int, Held]:
        """What each item that is not free holds."""
        return {
            row: Held(self.lists[row][choice], bisect_right(self.ends[row], choice))
            for row, choice in self.choice.items()
            if row not in self.free
        }

    def passed_over(self) -> Iterator[Proposal]:
        """What every item wanted before what it holds."""
        for row, choice in self.choice.items():
            yield from ((row, candidate) for candidate in self.lists[row][:choice])


class Acceptors:
    """The other side: who holds which candidate, of those that one rank owns."""

    def __init__(self) -> None:
        self.holder: dict[Candidate, int] = {}

    def decide(self, proposals: Iterable[Proposal]) -> list[int]:
        """The smallest row holds a candidate; returns the items sent on, bumped holders included."""
        sent_on = []
        for row, candidate in proposals:
            holder = self.holder.get(candidate)
            if holder is None or row < holder:
                self.holder[candidate] = row
                if holder is not None:
                    sent_on.append(holder)
            else:
                sent_on.append(row)
        return sent_on


def settle(
    proposers: Proposers, acceptors: Acceptors, home_N: np.ndarray, ranks: int, exchange: Exchange,
    total: Callable[[int], int],
) -> int:  # fmt: skip
    """Propose and answer until every item holds a candidate or has run out; returns the rounds it took. Collective.

    `home_N` is every item's home. `exchange` is the ranks' all-to-all, `total` their sum: both are called equally often
    on all of them.
    """
    rounds = 0
    while True:
        proposals = proposers.proposals()
        if total(len(proposals)) == 0:
            return rounds
        answers: list[list] = [[] for _ in range(ranks)]
        for row in acceptors.decide(entry for part in exchange(to_owners(proposals, ranks)) for entry in part):
            answers[home_N[row]].append(row)
        proposers.rejected(row for part in exchange(answers) for row in part)
        rounds += 1


def to_owners(proposals: Iterable[Proposal], ranks: int) -> list[list]:
    """Proposals by the rank that owns their candidates."""
    asked: list[list] = [[] for _ in range(ranks)]
    for proposal in proposals:
        asked[owner_of(proposal[1], ranks)].append(proposal)
    return asked


def blockers(
    proposers: Proposers, acceptors: Acceptors, home_N: np.ndarray, ranks: int, exchange: Exchange
) -> list[tuple[int, Candidate, int]]:
    """(row, candidate, who holds it) for everything that items at home wanted and did not get. Collective, settled."""
    answers: list[list] = [[] for _ in range(ranks)]
    for part in exchange(to_owners(proposers.passed_over(), ranks)):
        for row, candidate in part:
            answers[home_N[row]].append((row, candidate, acceptors.holder[candidate]))
    return [entry for part in exchange(answers) for entry in part]
