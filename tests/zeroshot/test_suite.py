"""Tasks: what each name means, what is refused, the released order, the published sample, fingerprints."""

import dataclasses
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from made_shards import NUM_USERS, honest_cut, item_ids, item_texts, manifest, sequences, write_member

from shards import registry
from zeroshot.judge.ranks import UserFacts, ranks_table
from zeroshot.judge.rows import comparisons_from_ranks
from zeroshot.tasks.fingerprints import counts_match, fingerprints, sequences_match, users_sha256
from zeroshot.tasks.suite import SAMPLE_SEED, SUITE, TaskSpec, from_toml, resolve
from zeroshot.tasks.task import load_task, restricted, sample_users, task_facts

OWN = 'name = "Mine"\nversion = 2\ndataset = "Shop"\norder = "chronological"\n'


def test_the_suite_is_the_papers_six_unseen_sets_with_the_counts_of_the_registry() -> None:
    assert set(SUITE) == {row.category for row in registry.paper_rows() if row.role == "test"}
    for name, spec in SUITE.items():
        assert spec.expected == registry.row("yelp" if name == "Yelp" else "2014", name).expected
        assert (spec.version, spec.dataset, spec.order, spec.split) == (1, name, "chronological", "leave-one-out")
        assert spec.released.sequences_sha256 == spec.interactions_sha256 != (spec.sequences_sha256 or 0)
    with pytest.raises(dataclasses.FrozenInstanceError):
        SUITE["Toys"].version = 2  # pyright: ignore[reportAttributeAccessIssue]


def test_names_become_tasks(tmp_path: Path) -> None:
    shards = manifest("Toys", "Shop", train=("Games",))
    assert resolve((), shards) == [SUITE["Toys"], TaskSpec("Shop")]
    plain, released, own = resolve(("Toys", "Toys@released", "Shop@released"), shards)
    assert (plain, released) == (SUITE["Toys"], SUITE["Toys"].released)
    assert (released.name, released.dataset, released.order) == ("Toys@released", "Toys", "released")
    assert (own.name, own.dataset, own.order, own.expected) == ("Shop@released", "Shop", "released", None)
    (tmp_path / "mine.toml").write_text(OWN + "users = 80\nitems = 60\ninteractions = 500\nsample = 9\n")
    [mine] = resolve((str(tmp_path / "mine.toml"),), shards)
    assert (mine.name, mine.version, mine.dataset, mine.sample) == ("Mine", 2, "Shop", 9)
    assert mine.expected == registry.Counts(80, 60, 500, "mine.toml")
    # The known task is leave-one-out: the same data split in time are another task, whose hash nobody knows.
    [timed] = resolve(("Toys",), manifest("Toys", split="time"))
    assert (timed.split, timed.expected, timed.sequences_sha256) == ("time", None, None)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("Toyz",), "no task 'Toyz'; did you mean Toys?"),
        (("Shops@released",), "did you mean Shop?"),
        (("Quux",), "no task 'Quux'. Known: Toys, Shop, Sports"),
        (("Music",), "task Music needs the test set Music, but the shard folder has Toys, Shop; add it with"),
        (("Games",), "task Games needs the test set Games"),
        (("Toys", "Toys"), "two tasks are called Toys"),
        (("nothing.toml",), "no task file at nothing.toml"),
    ],
)
def test_what_is_no_task_is_refused(names: tuple[str, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message.replace("?", r"\?")):
        resolve(names, manifest("Toys", "Shop", train=("Games",)))


def test_no_test_set_and_a_released_order_of_a_split_in_time_are_refused() -> None:
    with pytest.raises(ValueError, match="holds no test set"):
        resolve((), manifest(train=("Games",)))
    with pytest.raises(ValueError, match="split by time"):
        resolve(("Toys@released",), manifest("Toys", split="time"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name = ", "is no TOML"),
        (OWN.replace("order", "ordre"), "unknown key 'ordre'; did you mean order"),
        (OWN.replace("version = 2\n", ""), "lacks version"),
        (OWN.replace("2", '"2"'), "version is '2'; it must be a int"),
        (OWN.replace("2", "true"), "version is True"),
        (OWN.replace("chronological", "random"), "order 'random' is neither"),
        (OWN.replace("Mine", "a/b"), "name 'a/b'"),
        (OWN.replace("Mine", "Toys"), "Toys is a task of the suite"),
        (OWN + "users = 3\n", "give all of users, items, interactions"),
        (OWN + "sample = 0\n", "a sample of 0 users"),
    ],
)
def test_a_faulty_task_file_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "task.toml"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        from_toml(path)


def test_a_released_task_is_sorted_by_id_and_split_again(tmp_path: Path) -> None:
    told = sequences()
    write_member(tmp_path, "Shop", told)
    [spec] = resolve(("Shop@released",), manifest("Shop"))
    task, ids = load_task(tmp_path, spec), item_ids()
    for user, history, target in zip(task.users, task.histories, task.targets, strict=True):
        expected = sorted(ids[row] for row in told[user])
        assert [ids[row] for row in (*history, target)] == expected, "the last id is the target"
    assert [len(rows) + 2 for rows in task.training_histories] == [len(rows) for rows in told.values()]
    plain = load_task(tmp_path, "Shop")
    assert task.items == plain.items and task.num_interactions == plain.num_interactions
    assert task.fingerprints and plain.fingerprints
    assert task.fingerprints.sequences == task.fingerprints.interactions == plain.fingerprints.interactions
    assert plain.fingerprints.sequences != plain.fingerprints.interactions


def test_the_sample_depends_on_the_users_alone(tmp_path: Path) -> None:
    told = sequences()
    write_member(tmp_path / "a", "Shop", told)
    write_member(tmp_path / "b", "Other", dict(reversed(told.items())))
    one = load_task(tmp_path / "a", "Shop", seed=1, sample=20)
    two = load_task(tmp_path / "b", "Other", seed=2, sample=20)
    assert set(one.for_models.users) == set(two.for_models.users) and len(one.for_models.users) == 20
    assert set(load_task(tmp_path / "a", "Shop", sample=7).for_models.users) < set(one.for_models.users)
    assert users_sha256(one.for_models.users) == users_sha256(two.for_models.users)
    assert load_task(tmp_path / "a", "Shop", sample=NUM_USERS).sampled is None
    # Classic baselines judge everyone, and count everyone.
    assert len(one.users) == len(one.training_histories) == NUM_USERS
    order = [one.users.index(user) for user in one.for_models.users]
    assert order == sorted(order)
    for row, history, target in zip(order, one.for_models.histories, one.for_models.targets, strict=True):
        assert history.tolist() == one.histories[row].tolist() and target == one.targets[row]
    facts = task_facts(one)
    told = {"users": 20, "seed": SAMPLE_SEED, "users_sha256": users_sha256(one.for_models.users)}
    assert facts["sample"] == told and facts["users_judged"] == 20
    file = tmp_path / "few.txt"
    file.write_text(one.items[3])
    assert restricted([one], file)[0].for_models.candidates is not None
    with pytest.raises(ValueError, match="give one of the two"):
        load_task(tmp_path / "a", "Shop", max_users=5, sample=20)
    with pytest.raises(ValueError, match="at least one"):
        load_task(tmp_path / "a", "Shop", sample=0)


def test_the_published_sample_is_frozen() -> None:
    # By coreutils: printf '0\tu0' | sha256sum, and so on for u1 to u11; the five smallest.
    assert sample_users([f"u{number}" for number in range(12)], 5).tolist() == [0, 5, 7, 10, 11]


def test_fingerprints_are_of_the_data_not_of_their_place() -> None:
    items, texts, told = item_ids(), item_texts(), sequences(num_users=6)
    rows = [np.array(one) for one in told.values()]
    users = list(told)
    first = fingerprints(items, texts, users, rows)
    assert first == fingerprints(items, texts, users, [one.astype(np.int32) for one in rows])
    turned = fingerprints(items, texts, users[::-1], rows[::-1])
    assert turned == first
    moved = fingerprints(items[::-1], texts[::-1], users, [len(items) - 1 - one for one in rows])
    assert moved.items != first.items and dataclasses.replace(moved, items=first.items) == first
    swapped = fingerprints(items, texts, users, [np.array([*rows[0][::-1]]), *rows[1:]])
    assert swapped.sequences != first.sequences and swapped.interactions == first.interactions
    assert fingerprints(items, [*texts[1:], texts[0]], users, rows).texts != first.texts
    assert len({first.data, moved.data, swapped.data}) == 3
    # By hand, with coreutils: printf 'a\tx\ty\nb\ty\n' | sha256sum
    by_hand = fingerprints(["x", "y"], ["one", "two"], ["b", "a"], [np.array([1]), np.array([0, 1])])
    assert by_hand.sequences == "51a71aa1493419722960271c9d37e7ae99a73f091f8ec02d135ef93e77e65226"


def test_counts_and_sequences_are_compared_with_the_published_ones(tmp_path: Path) -> None:
    told = sequences()
    write_member(tmp_path, "Shop", told)
    task = load_task(tmp_path, "Shop")
    assert task.fingerprints is not None
    counts = (NUM_USERS, len(item_ids()), sum(map(len, told.values())))
    same = TaskSpec("Shop", expected=registry.Counts(*counts, "here"), sequences_sha256=task.fingerprints.sequences)
    assert (counts_match(same, *counts), sequences_match(same, task.fingerprints)) == (True, True)
    assert (counts_match(task.definition, *counts), sequences_match(task.definition, task.fingerprints)) == (None, None)
    other = dataclasses.replace(same, sequences_sha256="0" * 64)
    assert (counts_match(other, 1, 2, 3), sequences_match(other, task.fingerprints)) == (False, False)
    facts = task_facts(load_task(tmp_path, same))
    assert (facts["counts_match"], facts["sequences_match"], facts["num_interactions"]) == (True, True, counts[2])
    assert facts["published_counts"]["source"] == "here" and facts["hashes"]["texts"] == task.fingerprints.texts


def test_a_damaged_member_is_refused(tmp_path: Path) -> None:
    write_member(tmp_path, "Shop", {"u": [1, 2, 999]})
    with pytest.raises(ValueError, match="points outside the 60 items"):
        load_task(tmp_path, "Shop")
    write_member(tmp_path, "Shop", {}, honest_cut)
    with pytest.raises(ValueError, match="no held-out user"):
        load_task(tmp_path, "Shop")


def test_a_model_on_a_sample_is_compared_with_a_baseline_on_everyone_over_common_users() -> None:
    users = [f"u{number}" for number in range(6)]

    def facts(names: list[str]) -> UserFacts:
        ones_N = np.ones(len(names), dtype=int)
        return UserFacts(names, ones_N.astype(bool), ones_N, ones_N, ones_N)

    everyone = ranks_table("T", "popularity", "all", facts(users), np.array([1.0, 20, 1, 20, 1, 1]))
    sample = ranks_table("T", "idgenrec", "all", facts(["u4", "u1"]), np.array([1.0, 2.0]))
    kinds = {"idgenrec": "model", "popularity": "baseline"}
    found = comparisons_from_ranks(pl.concat([sample, everyone]), kinds)
    assert {one["difference"] for one in found if one["metric"] == "HR@10"} == {0.5}, "u4: 1 - 1, u1: 1 - 0"
    stranger = ranks_table("T", "idgenrec", "all", facts(["u4", "x"]), np.array([1.0, 2.0]))
    with pytest.raises(ValueError, match="was not judged on every user"):
        comparisons_from_ranks(pl.concat([stranger, everyone]), kinds)
