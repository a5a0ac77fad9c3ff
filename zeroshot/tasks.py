"""A task: a catalogue nobody trained on, and the users whose last item has to be found.

Enters: one category of a shard folder (`items.arrow`, `holdout.arrow`). Leaves: a `Task`. What must hold: histories
end before the target, oldest item first, repeats kept; sampling users changes who is judged, never what a classic
baseline may count.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from shards import counters, tables
from shards.records import ITEM_SCHEMA


@dataclass(frozen=True)
class Task:
    """A catalogue of I items and N judged users.

    Attributes:
        name: the data set, such as "Beauty".
        users: N user names.
        texts: I item texts, by item row.
        items: I item names, by item row.
        histories: N arrays of item rows, sequence[:-1] (training part and validation item), oldest first.
        targets: int64 array of N item rows, sequence[-1].
        training_histories: sequence[:-2] of *every* user of the data set, the ones not judged included.
        candidates: the item rows that may be recommended, rising; None = all.
        validation: sequence[-2] of every user in the order of `training_histories`, for supervised baselines only.
    """

    name: str
    users: list[str]
    texts: list[str]
    items: list[str]
    histories: list[np.ndarray]
    targets: np.ndarray
    training_histories: list[np.ndarray]
    candidates: np.ndarray | None = None
    validation: np.ndarray | None = None

    def __post_init__(self) -> None:
        if not len(self.users) == len(self.histories) == len(self.targets):
            raise ValueError(f"task {self.name}: users, histories and targets differ in number")
        if len(self.items) != len(self.texts):
            raise ValueError(f"task {self.name}: {len(self.items)} items but {len(self.texts)} texts")
        if len(set(self.users)) != len(self.users):
            raise ValueError(f"task {self.name}: a user occurs twice")

    @property
    def target_is_new(self) -> np.ndarray:
        """Bool array of N: the target is not in the user's history."""
        pairs = zip(self.histories, self.targets, strict=True)
        return np.array([target not in history for history, target in pairs], dtype=bool)

    @property
    def history_lengths(self) -> np.ndarray:
        """Int array of N: items in each user's history, repeats counted."""
        return np.array([len(history) for history in self.histories], dtype=np.int64)


def choose_users(num_users: int, max_users: int | None, seed: int) -> np.ndarray:
    """Rows of the judged users, rising: all, or a seeded sample of `max_users` without replacement."""
    if max_users is not None and max_users < 1:
        raise ValueError(f"max_users is {max_users}: at least one user must be judged")
    if max_users is None or max_users >= num_users:
        return np.arange(num_users)
    return np.sort(counters.generator(seed, "judged-users").choice(num_users, size=max_users, replace=False))


def task_from_holdout(
    name: str, items: list[str], texts: list[str], holdout: tables.Holdout, max_users: int | None = None, seed: int = 0
) -> Task:
    """The task of an item table (names and texts by row) and its held-out users.

    Raises:
        ValueError: there is no user, or a row points outside the item table.
    """
    if not len(holdout):
        raise ValueError(f"task {name}: no held-out user")
    training_histories = [np.asarray(history, dtype=np.int64) for history in holdout.histories]
    valid_N, test_N = holdout.valid.astype(np.int64), holdout.test.astype(np.int64)
    rows = np.concatenate([*training_histories, valid_N, test_N])
    if rows.min() < 0 or rows.max() >= len(items):
        raise ValueError(f"task {name}: a held-out user points outside the {len(items)} items")
    judged = choose_users(len(holdout), max_users, seed)
    return Task(
        name=name,
        users=[holdout.users[user] for user in judged],
        texts=texts,
        items=items,
        histories=[np.append(training_histories[user], valid_N[user]) for user in judged],
        targets=test_N[judged],
        training_histories=training_histories,
        validation=valid_N,
    )


def load_task(shards_folder: str | Path, name: str, max_users: int | None = None, seed: int = 0) -> Task:
    """Reads data set `name` of a shard folder as a task, judging at most `max_users` of its users.

    Raises:
        ValueError: the folder holds no such data set, a file is damaged, or the tables do not fit each other.
    """
    table = tables.read_table(shards_folder, tables.items_file(name), ITEM_SCHEMA)
    holdout = tables.load_holdout(shards_folder, name)
    return task_from_holdout(name, table["item"].to_pylist(), table["text"].to_pylist(), holdout, max_users, seed)


def restricted(tasks: list[Task], path: Path) -> list[Task]:
    """The tasks with the items named in a text file, one id per line, as their only candidates.

    Raises:
        ValueError: there is no such file, an id is no item of any task, or a task has no candidate.
    """
    if not path.is_file():
        raise ValueError(f"no file of candidates at {path}; write one item id per line")
    wanted = {line.strip() for line in path.read_text(encoding="utf-8").splitlines()} - {""}
    unknown = wanted.difference(*(task.items for task in tasks))
    if unknown:
        raise ValueError(f"{path} names {len(unknown):,} items that no judged data set has, {min(unknown)} for one")
    found = []
    for task in tasks:
        rows = np.array([row for row, item in enumerate(task.items) if item in wanted], dtype=np.int64)
        if not len(rows):
            raise ValueError(f"{path} names no item of {task.name}; add some, or leave the data set out with --tasks")
        found.append(replace(task, candidates=rows))
    return found
