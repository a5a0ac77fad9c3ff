"""What the audit says: unknown where nothing can be known, causes by name, counts; and how verdicts are merged."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from cases import CLEAN, Build, Case, audited, case, verdicts, with_known
from leaky import Dice, Keeper, Prompted, Tally
from made_shards import NUM_ITEMS, item_texts, manifest, sequences, write_member

from zeroshot import baselines
from zeroshot.audit.data_checks import lists_check
from zeroshot.audit.exposure import Pretraining, as_trained
from zeroshot.audit.findings import Check, far_above, heaviest, merged
from zeroshot.audit.leakage import PARTS, filter_check, leakage_check, permuted
from zeroshot.judge.judge import judge
from zeroshot.tasks.suite import resolve
from zeroshot.tasks.task import Task, full_lists, load_task


def test_what_cannot_be_checked_is_unknown_and_never_zero(tmp_path: Path) -> None:
    one = case(tmp_path)
    assert {verdicts(one)[f"{kind} in pretraining"] for kind in ("items", "users")} == {"passed"}
    assert verdicts(one)["later events"] == "unknown"
    gone = verdicts(with_known(users=None, texts=None, manifest=None)(one))
    assert (gone["items in pretraining"], gone["users in pretraining"]) == ("passed", "unknown")
    assert verdicts(with_known(items={})(one))["items in pretraining"] == "unknown"
    numbers = with_known(items={"Phones": ["1", "2"]}, texts=None, users={"Phones": ["7"]})(one)
    (items, users) = (check for check in audited(numbers) if check.check.endswith("in pretraining"))
    assert (items.verdict, users.verdict) == ("unknown", "unknown")
    assert "Phones: cannot be checked" in items.words and " 0 " not in items.words + users.words
    both = with_known(users={"Garden": list(one.task.users)[:9]})(one)
    assert verdicts(both)["users in pretraining"] == "note"
    assert "9 users of Garden" in next(check.words for check in audited(both) if check.check == "users in pretraining")
    # Under a split in time the shards of the training do not name all users.
    timed = replace(CLEAN, manifest=manifest("Shop", train=("Garden",), split="time"))
    assert verdicts(replace(one, known=timed))["users in pretraining"] == "unknown"


def test_events_later_than_the_test_period_are_told_where_the_moments_are_recorded(tmp_path: Path) -> None:
    def known(train: int, test: int) -> Pretraining:
        shards = manifest("Shop", train=("Garden",), split="time")
        moments = {"Garden": train, "Shop": test}
        members = (replace(one, cleaning={"split_moment": moments[one.name]}) for one in shards.members)
        return replace(CLEAN, manifest=replace(shards, members=tuple(members)))

    one = case(tmp_path)
    assert verdicts(replace(one, known=known(10, 10)))["later events"] == "passed"
    late = replace(one, known=known(11, 10))
    assert verdicts(late)["later events"] == "note"
    assert any("in Garden" in check.words for check in audited(late))


def test_interactions_that_were_written_twice_are_not_repeats_as_everywhere(tmp_path: Path) -> None:
    doubled = {user: [row for row in rows for _ in range(2)] for user, rows in sequences(repeats=0).items()}
    check = next(check for check in audited(case(tmp_path, doubled)) if check.check == "target in history")
    assert check.verdict == "note" and "100.0% of the targets are the very item before them" in check.words


def test_reviews_that_the_build_took_as_one_are_told(tmp_path: Path) -> None:
    one = case(tmp_path)
    [member] = one.manifest.members
    one.manifest = replace(one.manifest, members=(replace(member, cleaning={"duplicates_removed": 180}),))
    check = next(check for check in audited(one) if check.check == "target in history")
    assert check.verdict == "passed" and "180 interactions that came twice were taken as one" in check.words


def test_ties_of_the_source_are_told_and_judged_by_the_order_they_had(tmp_path: Path) -> None:
    def order(share: float, **facts: Any) -> Check:
        one = case(tmp_path)
        [member] = one.manifest.members
        member = replace(member, cleaning=facts, share_sorted_by_id=share)
        one.manifest = replace(one.manifest, members=(member,))
        return next(check for check in audited(one) if check.check == "order")

    assert "12 neighbours of one moment stand as in the source" in order(0.1, ties=12, ties_drawn=False).words
    drawn = order(0.1, ties=480, ties_drawn=True)
    assert drawn.verdict == "note" and "480 neighbours of one moment stood in the order of the ids" in drawn.words
    assert order(1.0, ties=480, ties_drawn=True).verdict == "failed", "drawn, but the source knew no order"


def test_what_a_build_recorded_is_told(tmp_path: Path) -> None:
    pair = {
        "train": "Garden",
        "test": "Shop",
        "items_by": "id",
        "items": 22,
        "items_dropped": True,
        "users_by": "id",
        "users": 1522,
        "users_dropped": False,
    }
    assert CLEAN.manifest is not None
    one = with_known(manifest=replace(CLEAN.manifest, overlap=(pair,)))(case(tmp_path))
    words = next(check.words for check in audited(one) if check.check == "items in pretraining")
    assert "22 items in both, dropped from training; 1,522 users in both, NOT dropped" in words


def test_the_shards_of_the_training_are_known_again_when_test_sets_were_added() -> None:
    pair = {"train": "Garden", "test": "Old"}
    before = replace(manifest("Old", train=("Garden",)), overlap=(pair,))
    later = {"train": "Garden", "test": "Shop"}
    added = replace(before, members=(*before.members, *manifest("Shop").members), overlap=(pair, later))
    assert as_trained(added, before.sha256()) == before and as_trained(before, before.sha256()) == before
    assert as_trained(added, manifest("Old").sha256()) is None
    assert as_trained(replace(added, seed=1), before.sha256()) is None, "other shards"


def test_the_words_name_the_cause_and_the_task_is_put_back(tmp_path: Path) -> None:
    task = case(tmp_path).task
    before = (task.targets.copy(), list(task.users), [history.copy() for history in task.histories])

    def words(build: Build) -> str:
        return leakage_check(task, build(task), build).words

    assert "on the task's targets or users' names, which it kept" in words(Keeper)
    assert words(lambda task: Tally([*task.training_histories, task.targets])).endswith(
        "on the targets it was made from"
    )
    assert words(lambda task: Tally(task.histories)).endswith("on the validation items it was made from")
    assert words(lambda task: Prompted(task, lambda task, user: task.users[user])).endswith(
        "on the users' names it was made from"
    )
    assert "asked twice" in words(lambda task: Dice())
    honest = leakage_check(task, baselines.Repeat(NUM_ITEMS))
    assert honest.verdict == "passed" and "was not made again" in honest.words
    assert before[0].tolist() == task.targets.tolist() and before[1] == task.users
    assert all((one == other).all() for one, other in zip(before[2], task.histories, strict=True))


def test_everything_of_every_user_changes(tmp_path: Path) -> None:
    task = case(tmp_path).task
    other = permuted(task)
    assert (other.targets != task.targets).all()
    assert all(one != before for one, before in zip(other.users, task.users, strict=True))
    assert all(one[-1] != before[-1] for one, before in zip(other.histories, task.histories, strict=True))
    in_history = [row in history for row, history in zip(other.targets, task.histories, strict=True)]
    assert all(in_history[::2]), "targets that a filter would have to take out"
    for part in PARTS:
        some = permuted(task, (part,))
        changed = {
            "targets": (some.targets != task.targets).any(),
            "users' names": some.users != task.users,
            "validation items": some.histories is not task.histories,
        }
        assert [name for name in PARTS if changed[name]] == [part]
    lone = replace(task, users=task.users[:1], histories=task.histories[:1], targets=task.targets[:1])
    assert permuted(lone).users != lone.users


def test_a_catalogue_of_one_item_cannot_be_checked() -> None:
    task = Task("One", ["u"], ["t"], ["i"], [np.array([0])], np.array([0]), [np.array([0])])
    assert leakage_check(task, baselines.Repeat(1)).verdict == "unknown"


def test_a_target_bought_before_must_be_absent_under_new(tmp_path: Path) -> None:
    task = case(tmp_path).task
    assert (~task.target_is_new).any()
    ranks_N = judge(task, baselines.Repeat(NUM_ITEMS), "new").ranks_N
    assert filter_check(task, "baselines", {"repeat": ranks_N}).verdict == "passed"
    spared = np.where(task.target_is_new, ranks_N, 3.0)
    check = filter_check(task, "baselines", {"repeat": ranks_N, "sparing": spared})
    assert check.verdict == "failed" and f"sparing has {int((~task.target_is_new).sum())}" in check.words


def test_texts_that_say_the_same_or_nothing_are_counted(tmp_path: Path) -> None:
    one = case(tmp_path)
    texts = ["title: na; brand: na", "", "na", *item_texts()[3:58], item_texts()[5], item_texts()[6]]
    told = [check for check in audited(replace(one, task=replace(one.task, texts=texts))) if check.check == "texts"]
    assert [(check.verdict, check.words) for check in told] == [
        ("note", "4 of 60 items share their text with another, 3 have none; unknown tokens: none")
    ]
    assert verdicts(one)["texts"] == "passed"


def test_texts_that_a_model_cannot_tell_apart_or_read_are_counted(tmp_path: Path) -> None:
    one = case(tmp_path)
    texts = [
        "title: \uff52ed lamp",
        "title:  red  lamp",
        "title: 红茶; brand: 龙井",
        "title: 龙井 -; brand: na",
        *item_texts()[4:],
    ]
    [told] = [check for check in audited(replace(one, task=replace(one.task, texts=texts))) if check.check == "texts"]
    assert told.verdict == "note"
    assert told.words.startswith("2 of 60 items share their text with another, 2 have none; unknown tokens: 0.")


def test_counts_that_are_not_the_published_ones_are_said(tmp_path: Path) -> None:
    write_member(tmp_path, "Music", sequences())
    [spec] = resolve(("Music",), manifest("Music"))
    one = Case(tmp_path, manifest("Music"), load_task(tmp_path, spec), CLEAN, [])
    (check,) = (check for check in audited(one) if check.check == "published data")
    assert check.verdict == "note"
    assert "NOT the published counts, 5,541, 3,568 and 64,706 (paper Table 3)" in check.words


def test_a_share_is_far_above_another_only_by_much_and_not_by_chance() -> None:
    assert far_above(80, 80, 5, 80) and not far_above(80, 80, 75, 80)
    assert not far_above(2, 2, 0, 2), "two users prove nothing"
    assert not far_above(5_000, 100_000, 0, 100_000), "significant, and small"


def test_verdicts_are_merged_by_weight_in_a_fixed_order() -> None:
    checks = [Check("T", "b", "passed", "1"), Check("T", "a", "note", "2"), Check("T", "b", "failed", "3")]
    assert [check.words for check in merged(checks)] == [check.words for check in merged(checks[::-1])] == ["2", "3"]
    assert heaviest(["note", "failed", "unknown"]) == "failed" and heaviest([]) == "passed"


def test_lists_that_hold_all_that_is_left_are_counted_after_the_history_is_out(tmp_path: Path) -> None:
    told = {f"u{user}": [(user + step) % 14 for step in range(7)] for user in range(9)} | {"once": [1, 1, 1, 1, 2]}
    task = replace(case(tmp_path, told).task, candidates=np.arange(14))
    assert full_lists(task) == {"all": 0.0, "new": 0.9}, "six of fourteen are out, of one user's only one"
    check = lists_check(task)
    assert check.verdict == "note" and "90.0% of the users under `new`" in check.words
    assert full_lists(replace(task, candidates=np.arange(10)))["all"] == 1.0
    assert full_lists(replace(task, candidates=np.arange(11)))["all"] == 0.0
    assert lists_check(replace(task, candidates=None)).verdict == "passed"
