"""A task: a catalogue nobody trained on, and the users whose last item has to be found.

Enters: one category of a shard folder (`items.arrow`, `holdout.arrow`) and what the task is (`zeroshot.tasks.suite`).
Leaves: a `Task`. What must hold: histories end before the target, oldest item first, repeats kept; sampling users
changes who is judged, never what a classic baseline may count.
"""

import hashlib
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from shards import counters, tables
from shards.records import ITEM_SCHEMA
from zeroshot.protocol.recommender import TOP
from zeroshot.tasks.fingerprints import Fingerprints, counts_match, fingerprints, sequences_match, users_sha256
from zeroshot.tasks.suite import SAMPLE_SEED, TaskSpec


@dataclass(frozen=True)
class Task:
    """A catalogue of I items and N judged users.

    Attributes:
        name: of the task, such as "Beauty" or "Toys@released".
        users: N user names.
        texts: I item texts, by item row.
        items: I item names, by item row.
        histories: N arrays of item rows, sequence[:-1] (training part and validation item), oldest first.
        targets: int64 array of N item rows, sequence[-1].
        training_histories: sequence[:-2] of *every* user of the data set, the ones not judged included.
        candidates: the item rows that may be recommended, rising; None = all.
        sampled: rows among the N users whom models judge, rising; None = everyone. Classic baselines judge all N.
        spec: what the task is; None = a plain chronological task of the data set of its name.
        fingerprints: of everyone's data, the users not judged included; None where nobody took them.
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
    sampled: np.ndarray | None = None
    spec: TaskSpec | None = None
    fingerprints: Fingerprints | None = None
    validation: np.ndarray | None = None

    def __post_init__(self) -> None:
        if not len(self.users) == len(self.histories) == len(self.targets):
            raise ValueError(f"task {self.name}: users, histories and targets differ in number")
        if len(self.items) != len(self.texts):
            raise ValueError(f"task {self.name}: {len(self.items)} items but {len(self.texts)} texts")
        if len(set(self.users)) != len(self.users):
            raise ValueError(f"task {self.name}: a user occurs twice")

    @property
    def definition(self) -> TaskSpec:
        """What the task is: data set, version, order and split."""
        return self.spec or TaskSpec(self.name)

    @property
    def for_models(self) -> "Task":
        """The task as models judge it: of the sampled users alone, where there is a sample."""
        return self if self.sampled is None else self.of(self.sampled)

    def of(self, rows: np.ndarray) -> "Task":
        """The same task with these of its users judged, in this order."""
        return replace(
            self,
            users=[self.users[row] for row in rows],
            histories=[self.histories[row] for row in rows],
            targets=self.targets[rows],
            sampled=None,
        )

    @property
    def num_interactions(self) -> int:
        """Interactions of all users of the data set, validation items and targets included."""
        return sum(map(len, self.training_histories)) + 2 * len(self.training_histories)

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


def sample_users(users: list[str], count: int) -> np.ndarray:
    """Rows of the published sample, rising: the `count` users whose hashes with SAMPLE_SEED are the smallest.

    It depends on the users' names alone: not on their order, nor on a run's seed. A smaller sample lies in a larger.
    """
    keys = [hashlib.sha256(f"{SAMPLE_SEED}\t{user}".encode()).digest() for user in users]
    return np.sort(np.array(sorted(range(len(users)), key=keys.__getitem__)[:count], dtype=np.int64))


def in_released_order(holdout: tables.Holdout, items: list[str]) -> tables.Holdout:
    """Each user's items sorted by item id (names as text), then split again: the last is the target."""
    rank_I = np.empty(len(items), dtype=np.int64)
    rank_I[sorted(range(len(items)), key=items.__getitem__)] = np.arange(len(items))
    sequences = [rows[np.argsort(rank_I[rows], kind="stable")] for rows in whole_sequences(holdout)]
    return replace(
        holdout,
        histories=[rows[:-2] for rows in sequences],
        valid=np.array([rows[-2] for rows in sequences], dtype=np.int32),
        test=np.array([rows[-1] for rows in sequences], dtype=np.int32),
    )


def whole_sequences(holdout: tables.Holdout) -> list[np.ndarray]:
    """Every user's items, validation item and target included."""
    ends = np.stack([holdout.valid, holdout.test], axis=1)
    return [np.concatenate([history, end]) for history, end in zip(holdout.histories, ends, strict=True)]


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


def load_task(
    shards_folder: str | Path, name_or_spec: str | TaskSpec, max_users: int | None = None, seed: int = 0,
    sample: int | None = None,
) -> Task:  # fmt: skip
    """Reads a task (a name = that data set's plain task) from a shard folder.

    Args:
        shards_folder: holds the data set.
        name_or_spec: the task.
        max_users: everyone, baselines included, judges at most so many users, drawn by `seed`.
        seed: of that draw.
        sample: models judge so many users, the published sample; baselines judge everyone. None = as the task says.

    Raises:
        ValueError: the folder holds no such data set, a file is damaged, the tables do not fit each other, or both
            kinds of sample are asked for.
    """
    spec = TaskSpec(name_or_spec) if isinstance(name_or_spec, str) else name_or_spec
    items, texts, holdout = read_data(shards_folder, spec)
    task = task_from_holdout(spec.name, items, texts, holdout, max_users, seed)
    sample = sample if sample is not None else spec.sample
    if sample is not None and max_users is not None:
        raise ValueError(f"task {spec.name}: a sample for models and max_users for everyone; give one of the two")
    if sample is not None and sample < 1:
        raise ValueError(f"sample is {sample}: at least one user must be judged")
    raw = [item.removeprefix(f"{spec.dataset}/") for item in items]
    return replace(
        task,
        spec=spec,
        sampled=None if sample is None or sample >= len(task.users) else sample_users(task.users, sample),
        fingerprints=fingerprints(raw, texts, holdout.users, whole_sequences(holdout)),
    )


def read_data(shards_folder: str | Path, spec: TaskSpec) -> tuple[list[str], list[str], tables.Holdout]:
    """Item names and texts by row, and all held-out users in the task's order."""
    table = tables.read_table(shards_folder, tables.items_file(spec.dataset), ITEM_SCHEMA)
    items, texts = table["item"].to_pylist(), table["text"].to_pylist()
    holdout = tables.load_holdout(shards_folder, spec.dataset)
    rows = np.concatenate([np.zeros(0, dtype=np.int32), *whole_sequences(holdout)])
    if len(rows) and (rows.min() < 0 or rows.max() >= len(items)):
        raise ValueError(f"task {spec.name}: a held-out user points outside the {len(items)} items")
    return items, texts, in_released_order(holdout, items) if spec.order == "released" else holdout


def restricted(tasks: list[Task], path: Path) -> list[Task]:
    """The tasks with the items named in a text file, one id per line, as their only candidates.

    Raises:
        ValueError: there is no such file, an id is no item of any task, or a task has no candidate.
    """
    if not path.is_file():
        raise ValueError(f"no file of candidates at {path}; write one item id per line")
    try:
        wanted = {line.strip() for line in path.read_text(encoding="utf-8").splitlines()} - {""}
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text at byte {error.start}; save it as UTF-8") from error
    unknown = wanted.difference(*(task.items for task in tasks))
    if unknown:
        raise ValueError(f"{path} names {len(unknown):,} items that no judged data set has, {min(unknown)} for one")
    chosen = []
    for task in tasks:
        rows = np.array([row for row, item in enumerate(task.items) if item in wanted], dtype=np.int64)
        if not len(rows):
            raise ValueError(f"{path} names no item of {task.name}; add some, or leave the data set out with --tasks")
        chosen.append(replace(task, candidates=rows))
    return chosen


def full_lists(task: Task) -> dict[str, float]:
    """Of each protocol, the share of the judged users to whom at most TOP items are left to rank: whatever list they
    get, it holds all of them, and HR@10 is 1."""
    ranked_I = np.ones(len(task.items), dtype=bool)
    if task.candidates is not None:
        ranked_I[:] = False
        ranked_I[task.candidates] = True
    new = np.array([ranked_I.sum() - ranked_I[np.unique(history)].sum() for history in task.histories])
    return {"all": float(ranked_I.sum() <= TOP), "new": float((new <= TOP).mean())}


def task_facts(task: Task) -> dict[str, Any]:
    """A task as the results have it: what it is, how large, on which bytes."""
    spec, data, users = task.definition, task.fingerprints, task.for_models.users
    assert data is not None, "the task was loaded from a shard folder"
    counts = (len(task.training_histories), len(task.items), task.num_interactions)
    sample = {"users": len(users), "seed": SAMPLE_SEED, "users_sha256": users_sha256(users)}
    facts = {
        "num_users": counts[0], "num_items": counts[1], "num_interactions": counts[2],
        "users_judged": len(users),
        "version": spec.version, "dataset": spec.dataset, "order": spec.order, "split": spec.split,
        "sample": None if task.sampled is None else sample,
        "data_sha256": data.data, "hashes": asdict(data),
        "published_counts": None if spec.expected is None else asdict(spec.expected),
        "counts_match": counts_match(spec, *counts), "sequences_match": sequences_match(spec, data),
        "full_lists": full_lists(task),
    }  # fmt: skip
    return facts if task.candidates is None else facts | {"candidates": len(task.candidates)}
