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
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from zlib import crc32

import numpy as np

Candidate = tuple[int, ...]
Proposal = tuple[int, Candidate]
Exchange = Callable[[list[list]], list[list]]
"""One list for every rank goes out, one from every rank comes in."""


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


def home_of(row: int, ranks: int) -> int:
    """The rank on which an item's list lives."""
    return row % ranks


def owner_of(candidate: Candidate, ranks: int) -> int:
    """The rank that knows a candidate's holder; the same in every process."""
    return crc32(np.asarray(candidate, dtype=np.int32).tobytes()) % ranks


class Wishes:
    """The candidate lists of the items at home on one rank, and the candidate that each holds or proposes."""

    def __init__(self) -> None:
        self.lists: dict[int, list[Candidate]] = {}
        self.choice: dict[int, int] = {}
        self.free: set[int] = set()
        self.rejections = 0

    def add(self, row: int, candidates: Iterable[Candidate]) -> None:
        """Append to an item's list; what stands there already is skipped. An item that had run out is free again."""
        found = self.lists.setdefault(row, [])
        known = set(found)
        for candidate in candidates:
            if candidate not in known:
                known.add(candidate)
                found.append(candidate)
        if row not in self.choice:
            self.choice[row] = 0
            self.free.add(row)

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

    def held(self) -> dict[int, Candidate]:
        """What each item that is not free holds."""
        return {row: self.lists[row][choice] for row, choice in self.choice.items() if row not in self.free}


class Holders:
    """Who holds which candidate, of those that one rank owns."""

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


def settle(wishes: Wishes, holders: Holders, ranks: int, exchange: Exchange, total: Callable[[int], int]) -> int:
    """Propose and answer until every item holds a candidate or has run out; returns the rounds it took. Collective.

    `exchange` is the ranks' all-to-all, `total` their sum: both are called equally often on all of them.
    """
    rounds = 0
    while True:
        proposals = wishes.proposals()
        if total(len(proposals)) == 0:
            return rounds
        asked: list[list] = [[] for _ in range(ranks)]
        for proposal in proposals:
            asked[owner_of(proposal[1], ranks)].append(proposal)
        answers: list[list] = [[] for _ in range(ranks)]
        for row in holders.decide(proposal for part in exchange(asked) for proposal in part):
            answers[home_of(row, ranks)].append(row)
        wishes.rejected(row for part in exchange(answers) for row in part)
        rounds += 1
