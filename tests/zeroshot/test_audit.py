"""The audit: each planted leak turns it red, under the name of what is wrong; honest data of every kind stay green."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cases import CLEAN, Case, Plant, case, red, with_build, with_known, with_shards, with_task
from leaky import Dice, Keeper, Prompted, Sparing, Tally
from made_shards import NUM_USERS, item_ids, item_texts, manifest, sequences, write_member

from zeroshot.tasks.suite import TaskSpec
from zeroshot.tasks.task import Task, load_task

# What is planted into an honest case, and the checks that must fail: these and no others.


def whole(task: Task) -> list[np.ndarray]:
    return [np.append(history, target) for history, target in zip(task.histories, task.targets, strict=True)]


def named_after_targets(one: Case) -> Case:
    told = {f"u{n}-{item_ids()[rows[-1]]}": rows for n, rows in enumerate(sequences().values())}
    return case(one.folder, told)


def sorted_by_id(one: Case) -> Case:
    ids = item_ids()
    return case(one.folder, {user: sorted(rows, key=ids.__getitem__) for user, rows in sequences().items()})


def in_another_order(one: Case) -> Case:
    """A known task's interactions, shuffled."""
    data = one.task.fingerprints
    assert data is not None
    known = TaskSpec("Shop", sequences_sha256=data.sequences, interactions_sha256=data.interactions)
    draw = np.random.default_rng(1)
    write_member(one.folder, "Shop", {user: draw.permutation(rows).tolist() for user, rows in sequences().items()})
    return replace(one, task=load_task(one.folder, known))


def same_titles(one: Case) -> Case:
    """Fusion has the test items under numbers in the place of ids."""
    return with_known(items={"Phones": ["1", "2"]}, texts={"Phones": item_texts()[:2]})(one)


LEAKS: dict[str, tuple[Plant, set[str]]] = {
    "user ID made from the whole sequence": (
        with_build(lambda task: Prompted(task, lambda task, user: task.texts[task.targets[user]])),
        {"inputs of prompted"},
    ),
    "user ID made from the name": (
        with_build(lambda task: Prompted(task, lambda task, user: task.users[user])),
        {"inputs of prompted"},
    ),
    "users named after their targets": (named_after_targets, {"user names"}),
    "target kept and looked up": (with_build(Keeper), {"inputs of keeper"}),
    "target in the history of the task": (with_task(histories=whole), {"history", "target in history"}),
    "half of the histories hold the target": (
        with_task(histories=lambda task: whole(task)[: NUM_USERS // 2] + task.histories[NUM_USERS // 2 :]),
        {"history", "target in history"},
    ),
    "one history of another user": (
        with_task(histories=lambda task: [task.histories[1], *task.histories[1:]]),
        {"history"},
    ),
    "shuffled histories": (
        with_task(histories=lambda task: [np.roll(history, 1) for history in task.histories]),
        {"history"},
    ),
    "target in the history of the shards": (
        with_shards(sequences(), lambda rows: (rows, rows[-2], rows[-1])),
        {"target in history"},
    ),
    "validation item in the training history of the shards": (
        with_shards(sequences(), lambda rows: (rows[:-1], rows[-2], rows[-1])),
        {"target in history"},
    ),
    "filter that spares the target": (with_build(lambda task: Sparing(task, False)), {"inputs of sparing"}),
    "sampled negatives": (with_build(lambda task: Sparing(task, True)), {"inputs of sparing"}),
    "test interactions in the popularity count": (
        with_build(lambda task: Tally([*task.training_histories, task.targets.copy()])),
        {"inputs of popularity"},
    ),
    "validation interactions in the popularity count": (
        with_build(lambda task: Tally(task.histories)),
        {"inputs of popularity"},
    ),
    "test interactions in the training histories": (with_task(training_histories=whole), {"history"}),
    "training histories of too many users": (
        with_task(training_histories=lambda task: [*task.training_histories, task.targets]),
        {"history"},
    ),
    "lists that change by themselves": (with_build(lambda task: Dice()), {"inputs of dice"}),
    "sequences sorted by id": (sorted_by_id, {"order"}),
    "shards built in the released order": (
        lambda one: replace(one, manifest=manifest("Shop", order="released")),
        {"order"},
    ),
    "a known task in another order": (in_another_order, {"order"}),
    "test items in Fusion": (
        with_known(items={"Garden": [*CLEAN.items["Garden"], item_ids()[5]]}),
        {"items in pretraining"},
    ),
    "test items in Fusion under other ids": (same_titles, {"items in pretraining"}),
}


@pytest.mark.parametrize("leak", LEAKS)
def test_a_planted_leak_turns_the_audit_red(tmp_path: Path, leak: str) -> None:
    plant, expected = LEAKS[leak]
    honest = case(tmp_path)
    assert not red(honest)
    assert red(plant(honest)) == expected


def rising(seed: int, share: float) -> dict[str, list[int]]:
    """Ids that rise with time for some users, as Amazon's do."""
    ids, told = item_ids(), sequences(seed, repeats=0)
    few = list(told)[: int(share * len(told))]
    return {user: sorted(rows, key=ids.__getitem__) if user in few else rows for user, rows in told.items()}


@pytest.mark.parametrize(
    "honest",
    [
        *(pytest.param(with_shards(sequences(seed, repeats=0)), id=f"no repeats, {seed}") for seed in range(3)),
        *(pytest.param(with_shards(sequences(seed, repeats=0.3)), id=f"many repeats, {seed}") for seed in range(3)),
        pytest.param(with_shards(sequences(5, repeats=0.8)), id="nearly nothing but repeats"),
        pytest.param(with_shards(rising(1, 0.2)), id="ids rise with time"),
        pytest.param(with_shards(sequences(2, num_users=4)), id="four users"),
        pytest.param(with_shards({"u1": [5, 3, 9]}), id="one user"),
        pytest.param(lambda one: case(one.folder, name="Shop@released"), id="released"),
        pytest.param(with_known(users={"Garden": list(sequences())[:9]}), id="users in both"),
        pytest.param(with_known(users=None, texts=None, manifest=None), id="shards of the training gone"),
        pytest.param(with_known(items={}, users=None, texts=None, manifest=None), id="no book either"),
        pytest.param(
            with_known(items={"Phones": ["1", "2"]}, users={"Phones": ["7"]}, texts={"Phones": ["t: a", "t: b"]}),
            id="anonymised",
        ),
    ],
)
def test_honest_data_stay_green(tmp_path: Path, honest: Plant) -> None:
    assert red(honest(case(tmp_path))) == set()
