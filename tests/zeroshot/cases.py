"""Everything that the audit looks at, honest, with ways to plant one thing."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from leaky import Prompted
from made_shards import Cut, honest_cut, item_texts, manifest, sequences, write_member

from shards.manifest import Manifest
from shards.tokenizer import train_tokenizer
from zeroshot import baselines
from zeroshot.audit.data_checks import data_checks
from zeroshot.audit.exposure import Pretraining, exposure_checks
from zeroshot.audit.findings import Check, failed
from zeroshot.audit.leakage import leakage_check
from zeroshot.protocol.recommender import Recommender
from zeroshot.tasks.suite import resolve
from zeroshot.tasks.task import Task, load_task

Build = Callable[[Task], Recommender]
Plant = Callable[["Case"], "Case"]
CLEAN = Pretraining(
    {"Garden": [f"C{row:09d}" for row in range(40)]},
    {"Garden": [f"title: a b tool{name}" for name in "xy"]},
    {"Garden": [f"AOTHER{row:07d}XQ" for row in range(40)]},
    manifest("Shop", train=("Garden",)),
)


@dataclass
class Case:
    """Everything that the audit looks at, honest unless something is planted."""

    folder: Path
    manifest: Manifest
    task: Task
    known: Pretraining
    builds: list[Build]


@cache
def words():
    """A tokenizer of printable ASCII."""
    with TemporaryDirectory() as folder:
        return train_tokenizer(item_texts(), folder, 200)


def standard(name: str) -> Build:
    return lambda task: baselines.build((name,), task, baselines.BaselineContext(seed=4))[0]


def history_id(task: Task, user: int) -> str:
    """A user ID from the items before the target, as it should be."""
    return " ".join(task.texts[row] for row in task.training_histories[user][-2:])


HONEST: list[Build] = [*map(standard, baselines.TRAINING_FREE), lambda task: Prompted(task, history_id)]


def case(folder: Path, told: dict[str, list[int]] | None = None, cut: Cut = honest_cut, name: str = "Shop") -> Case:
    write_member(folder, name.split("@")[0], told or sequences(), cut)
    shards = manifest("Shop")
    return Case(folder, shards, load_task(folder, resolve((name,), shards)[0]), CLEAN, HONEST)


def audited(one: Case) -> list[Check]:
    checks = data_checks(one.task, one.folder, one.manifest, words()) + exposure_checks(one.task, one.known)
    return checks + [leakage_check(one.task, build(one.task), build) for build in one.builds]


def verdicts(one: Case) -> dict[str, str]:
    return {check.check: check.verdict for check in audited(one)}


def red(one: Case) -> set[str]:
    return {check.check for check in failed(audited(one))}


def with_build(build: Build) -> Plant:
    return lambda one: replace(one, builds=[*HONEST, build])


def with_task(**changes: Callable[[Task], Any]) -> Plant:
    return lambda one: replace(
        one, task=replace(one.task, **{name: change(one.task) for name, change in changes.items()})
    )


def with_shards(told: dict[str, list[int]], cut: Cut = honest_cut) -> Plant:
    return lambda one: case(one.folder, told, cut)


def with_known(**changes: Any) -> Plant:
    return lambda one: replace(one, known=replace(CLEAN, **changes))
