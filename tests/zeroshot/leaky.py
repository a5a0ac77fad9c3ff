"""Recommenders that see what they must not, for the tests of the audit."""

from collections.abc import Callable, Sequence

import numpy as np
from made_shards import NUM_ITEMS

from zeroshot import baselines
from zeroshot.protocol.recommender import ProtocolName, Ranking, Rankings
from zeroshot.tasks.task import Task


def key(history: np.ndarray) -> bytes:
    """By which the leaks below know a user again: the training part of the history."""
    return history[:-1].tobytes()


class Tally(baselines.Popularity):
    """Counts of the items in whatever histories it is given."""

    def __init__(self, histories: list[np.ndarray]) -> None:
        super().__init__(histories, NUM_ITEMS)


class Prompted:
    """A model whose prompt is a user ID and the history; its lists say nothing about what it has read."""

    name = "prompted"

    def __init__(self, task: Task, words_of: Callable[[Task, int], str]) -> None:
        self.ids = {key(history): words_of(task, user) for user, history in enumerate(task.histories)}

    def inputs(self, histories: list[np.ndarray]) -> list[np.ndarray]:
        told = [self.ids.get(key(history), "nobody").encode() for history in histories]
        return [np.append(np.frombuffer(one, np.uint8), rows) for one, rows in zip(told, histories, strict=True)]

    def rank(self, histories: list[np.ndarray], protocols: Sequence[ProtocolName]) -> Ranking:
        return Ranking(np.tile(np.arange(NUM_ITEMS, 0.0, -1.0), (len(histories), 1)))


class Keeper(Prompted):
    """Keeps the task itself, and looks into it when it is asked."""

    name = "keeper"

    def __init__(self, task: Task) -> None:
        self.task, self.ids = task, {}

    def rank(self, histories: list[np.ndarray], protocols: Sequence[ProtocolName]) -> Ranking:
        scores_NI = super().rank(histories, protocols).scores_NK
        user_of = {key(history): user for user, history in enumerate(self.task.histories)}
        for row, history in enumerate(histories):
            if key(history) in user_of:
                scores_NI[row, self.task.targets[user_of[key(history)]]] = NUM_ITEMS + 1
        return Ranking(scores_NI)


class Sparing:
    """Lists items by number; its filter takes out the history and, at random, half of the rest, but never the target:
    what sampled negatives do."""

    name = "sparing"

    def __init__(self, task: Task, negatives: bool) -> None:
        pairs = zip(task.histories, task.targets, strict=True)
        self.target, self.negatives = {key(history): int(target) for history, target in pairs}, negatives

    def rank(self, histories: list[np.ndarray], protocols: Sequence[ProtocolName]) -> Rankings:
        return {protocol: self.lists(histories, protocol) for protocol in protocols}

    def lists(self, histories: list[np.ndarray], protocol: ProtocolName) -> Ranking:
        items_NK = np.full((len(histories), NUM_ITEMS), -1)
        for row, history in enumerate(histories):
            gone = set(history.tolist()) | (set(range(0, NUM_ITEMS, 2)) if self.negatives else set())
            gone -= {self.target.get(key(history))}
            left = [item for item in range(NUM_ITEMS) if protocol == "all" or item not in gone]
            items_NK[row, : len(left)] = left
        return Ranking(np.tile(np.arange(NUM_ITEMS, 0.0, -1.0), (len(histories), 1)), items_NK)


class Dice:
    """Other lists each time."""

    name = "dice"

    def __init__(self) -> None:
        self.draw = np.random.default_rng(0)

    def rank(self, histories: list[np.ndarray], protocols: Sequence[ProtocolName]) -> Ranking:
        return Ranking(self.draw.random((len(histories), NUM_ITEMS)))
