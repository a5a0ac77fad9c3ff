"""Algorithm 1 as a pure function, and its parallel form.

Algorithm 1 is a serial dictatorship: item i takes the first candidate of its list that no earlier item holds. Seen as a
matching market, every candidate prefers the item with the smallest row. With that one common priority the stable
matching is unique: item 0 must hold its first choice, item 1 its first choice among the rest, and so on. Item-proposing
deferred acceptance (Gale and Shapley 1962) always ends in a stable matching, hence in this one, whatever the order of
the proposals. A rejection is final (a holder is only ever replaced by a smaller row), so no candidate is tried twice.
Conditions: each item's list is fixed and strict (no candidate twice), and a longer list only ever grows at its end.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

Candidate = tuple[int, ...]


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


class Claims:
    """Who holds which candidate. `propose` grows the lists of some items and lets every unmatched item claim on.

    After each call every item either holds a candidate or has exhausted its list; the state is the same for any order
    in which the items are given.
    """

    def __init__(self, num_items: int) -> None:
        self.lists: list[list[Candidate]] = [[] for _ in range(num_items)]
        self.choice: list[int] = [-1] * num_items
        self.holder: dict[Candidate, int] = {}
        self.collisions = 0

    def propose(self, added: Iterable[tuple[int, Sequence[Candidate]]]) -> list[int]:
        """Append candidates to the lists of the given rows and settle. Returns all rows left without one, sorted.

        A candidate that stands in an item's list already is skipped.
        """
        free: list[int] = []
        exhausted: list[int] = []
        for row, candidates in added:
            known = set(self.lists[row])
            for candidate in candidates:
                if candidate not in known:
                    known.add(candidate)
                    self.lists[row].append(candidate)
            free.append(row)
        while free:
            row = free.pop()
            if self.choice[row] >= 0 and self.holder.get(self.lists[row][self.choice[row]]) == row:
                continue  # it holds a candidate: a longer list changes nothing
            displaced = self._claim_next(row)
            if displaced == row:
                exhausted.append(row)
            elif displaced is not None:
                free.append(displaced)
        return sorted(set(exhausted))

    def _claim_next(self, row: int) -> int | None:
        """Let `row` claim from where it stood. Returns the item it displaced, itself when its list is exhausted."""
        candidates = self.lists[row]
        while self.choice[row] + 1 < len(candidates):
            self.choice[row] += 1
            candidate = candidates[self.choice[row]]
            holder = self.holder.get(candidate)
            if holder is None or holder > row:
                self.holder[candidate] = row
                self.collisions += holder is not None
                return holder
            self.collisions += 1
        return row

    def assigned(self, row: int) -> Candidate:
        """The candidate that `row` holds."""
        candidate = self.lists[row][self.choice[row]]
        assert self.holder[candidate] == row, f"item {row} holds nothing"
        return candidate
