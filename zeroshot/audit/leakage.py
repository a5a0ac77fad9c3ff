"""Inputs against targets: whatever the targets are, every recommender must be given and must answer the same.

Enters: a task, a recommender, and a way to build it anew. Leaves: a check. Must hold: targets, users' names and
validation items are changed, each user's of them, in the very objects that the recommender was made from and in a task
that it is made from again; afterwards the task is as it was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Protocol, runtime_checkable

import numpy as np

from shards import counters
from zeroshot.audit.findings import Check
from zeroshot.protocol.recommender import PROTOCOLS, Ranking, Recommender
from zeroshot.tasks.task import Task

PARTS = ("targets", "users' names", "validation items")
NUM_USERS = 64


@runtime_checkable
class Reads(Protocol):
    """A recommender that can show what its model reads."""

    def inputs(self, histories: list[np.ndarray]) -> list[np.ndarray]:
        """The input of each history, such as the tokens of its prompt."""
        ...


def leakage_check(
    task: Task,
    recommender: Recommender,
    rebuild: Callable[[Task], Recommender] | None = None,
    num_users: int = NUM_USERS,
    seed: int = 0,
) -> Check:
    """Shows that no input and no list depends on a target.

    A recommender that kept the task or its targets is found out by changing them where they are; one that copied
    something when it was made, by making it again from a changed task.

    Args:
        task: its users are asked.
        recommender: must give the same lists for the same histories, bit by bit.
        rebuild: makes the recommender from a task; None where that is too dear, which the words say.
        num_users: size of the seeded sample of users that is asked.
        seed: of the sample and of the changes.
    """
    name = f"inputs of {recommender.name}"
    if len(task.items) < 2:
        return Check(task.name, name, "unknown", "with one item no target can be changed")
    draw = counters.generator(seed, "permutation-audit")
    sample = np.sort(draw.choice(len(task.users), size=min(num_users, len(task.users)), replace=False))
    histories = [task.histories[user].copy() for user in sample]

    def observed(asked: Recommender) -> list[bytes]:
        inputs = asked.inputs(histories) if isinstance(asked, Reads) else []
        # As the recommender gives them: what the judge then takes out could hide that a filter has seen the target.
        rankings = asked.rank(histories, PROTOCOLS)
        rankings = [rankings] if isinstance(rankings, Ranking) else [rankings[protocol] for protocol in PROTOCOLS]
        return [np.asarray(one).tobytes() for one in inputs] + [snapshot(ranking) for ranking in rankings]

    honest = observed(recommender)
    causes: list[str] = []
    with changed_in_place(task, seed):
        kept = observed(recommender) != honest
    if kept and observed(recommender) != honest:
        return Check(task.name, name, "failed", "asked twice for the same histories it gives other lists")
    if kept:
        causes.append("the task's targets or users' names, which it kept")
    if rebuild is not None and observed(rebuild(permuted(task, PARTS, seed))) != honest:
        if observed(rebuild(task)) != honest:
            return Check(task.name, name, "failed", "made again from the same data it gives other lists")
        found = [part for part in PARTS if observed(rebuild(permuted(task, (part,), seed))) != honest]
        causes += [f"the {part} it was made from" for part in found or ["data"]]
    if causes:
        words = f"what it reads or lists for the same histories depends on {' and on '.join(causes)}"
        return Check(task.name, name, "failed", words)
    again = "" if rebuild is not None else " (it was not made again from changed data)"
    words = f"the same for {len(sample):,} users when targets, users' names and validation items change{again}"
    return Check(task.name, name, "passed", words)


def permuted(task: Task, parts: tuple[str, ...] = PARTS, seed: int = 0) -> Task:
    """A task with some parts changed for every user; training histories, items and texts stay."""
    other = replace(task, targets=task.targets.copy(), users=list(task.users))
    if "targets" in parts:
        other.targets[:] = other_targets(task, seed)
    if "users' names" in parts:
        other.users[:] = other_names(task)
    if "validation items" in parts:
        draw = counters.generator(seed, "permutation-audit", "validation")
        steps = draw.integers(1, len(task.items), len(task.users))
        moved = [
            np.append(history[:-1], (history[-1:] + step) % len(task.items))
            for history, step in zip(task.histories, steps, strict=True)
        ]
        other = replace(other, histories=moved)
    return other


@contextmanager
def changed_in_place(task: Task, seed: int) -> Iterator[None]:
    """Other targets and names in the task's own objects, until the block ends."""
    targets, users = task.targets.copy(), list(task.users)
    try:
        task.targets[:] = other_targets(task, seed)
        task.users[:] = other_names(task)
        yield
    finally:
        task.targets[:], task.users[:] = targets, users


def other_targets(task: Task, seed: int) -> np.ndarray:
    """Another target for every user: for every second one an item of the history, so that a filter that spares the
    target shows itself. Not a shuffle: the counts of the items change too."""
    draw = counters.generator(seed, "permutation-audit", "targets")
    targets = (task.targets + draw.integers(1, len(task.items), len(task.targets))) % len(task.items)
    for user in range(0, len(targets), 2):
        seen = np.unique(task.histories[user])
        seen = seen[seen != task.targets[user]]
        if len(seen):
            targets[user] = draw.choice(seen)
    return targets


def other_names(task: Task) -> list[str]:
    """The next user's name for everyone; a new one for a lone user."""
    return [*task.users[1:], task.users[0]] if len(task.users) > 1 else [f"{task.users[0]}'"]


def filter_check(task: Task, who: str, ranks: dict[str, np.ndarray]) -> Check:
    """Was every target that stands in its history left out under `new`? A filter that spares it has looked at it.

    Args:
        task: as these recommenders were judged.
        who: "models" or "baselines", for the name of the check.
        ranks: ranks_N under `new` of each recommender.
    """
    before = ~task.target_is_new
    spared = {name: int(np.isfinite(ranks_N[before]).sum()) for name, ranks_N in ranks.items()}
    guilty = [f"{name} has {count:,}" for name, count in spared.items() if count]
    told = f"{int(before.sum()):,} of {len(task.users):,} targets were bought before"
    if guilty:
        words = f"{told} and must be absent under `new`, but {'; '.join(guilty)} in its lists"
        return Check(task.name, f"filter, {who}", "failed", words)
    return Check(task.name, f"filter, {who}", "passed", f"{told} and are absent from every list under `new`")


def snapshot(ranking: Ranking) -> bytes:
    """The exact bytes of a ranking."""
    items = b"" if ranking.items_NK is None else np.ascontiguousarray(ranking.items_NK).tobytes()
    return np.ascontiguousarray(ranking.scores_NK).tobytes() + items
