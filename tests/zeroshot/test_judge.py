"""The judge: everyone once, no target seen, malformed answers refused."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from shards.records import HOLDOUT_SCHEMA, ITEM_SCHEMA
from zeroshot import baselines
from zeroshot.judge.judge import judge, judge_protocols
from zeroshot.protocol.recommender import ProtocolName, Ranking, Rankings
from zeroshot.tasks.task import Task, load_task, restricted

NUM_ITEMS = 30


def make_task(num_users: int = 23) -> Task:
    draw = np.random.default_rng(3)
    histories = [draw.integers(0, NUM_ITEMS, draw.integers(2, 9)) for _ in range(num_users)]
    words = [f"title: thing {row % 7} of kind {row % 4}" for row in range(NUM_ITEMS)]
    return Task(
        name="Toy",
        users=[f"u{number}" for number in range(num_users)],
        texts=words,
        items=[f"i{row}" for row in range(NUM_ITEMS)],
        histories=histories,
        targets=draw.integers(0, NUM_ITEMS, num_users),
        training_histories=[history[:-1] for history in histories],
    )


class Recorder:
    """Answers with fixed scores and keeps what it was asked."""

    name = "recorder"

    def __init__(self) -> None:
        self.asked: list[np.ndarray] = []

    def rank(self, histories: list[np.ndarray], protocols: Sequence[ProtocolName]) -> Ranking:
        self.asked += histories
        return Ranking(np.tile(np.arange(NUM_ITEMS, 0.0, -1.0), (len(histories), 1)))


class Lister:
    """Lists the same items for everyone, however wrong they are."""

    name = "lister"

    def __init__(self, items: list[int], scores: list[float] | None = None) -> None:
        self.items = items
        self.scores = scores if scores is not None else [float(-place) for place in range(len(items))]

    def rank(self, histories: list[np.ndarray], protocols: Sequence[ProtocolName]) -> Ranking:
        size = (len(histories), 1)
        return Ranking(np.tile(self.scores, size), np.tile(np.array(self.items), size))


class Excluding(Lister):
    """Lists what is not in the history, where that is asked for."""

    def rank(self, histories: list[np.ndarray], protocols: Sequence[ProtocolName]) -> Rankings:
        return {protocol: self.lists(histories, protocol) for protocol in protocols}

    def lists(self, histories: list[np.ndarray], protocol: ProtocolName) -> Ranking:
        rows = [
            [item for item in range(NUM_ITEMS) if protocol == "all" or item not in history] for history in histories
        ]
        items_NK = np.array([(row + [-1] * NUM_ITEMS)[:12] for row in rows])
        return Ranking(np.where(items_NK >= 0, -np.arange(12.0), -np.inf), items_NK)


@pytest.mark.parametrize("block", [4, 23])
def test_both_protocols_at_once_are_each_alone(block: int) -> None:
    task = make_task()
    everyone = [*baselines.build(baselines.TRAINING_FREE, task, baselines.BaselineContext()), Excluding([])]
    for recommender in everyone:
        found = judge_protocols(task, recommender, block=block)
        assert list(found) == ["all", "new"]
        for protocol, judged in found.items():
            alone = judge(task, recommender, protocol, block=block)
            assert np.array_equal(judged.ranks_N, alone.ranks_N), (recommender.name, protocol)
            assert np.array_equal(judged.top_NK, alone.top_NK) and np.array_equal(judged.scores_NK, alone.scores_NK)
    assert not np.array_equal(found["all"].ranks_N, found["new"].ranks_N)


def test_who_answers_in_dense_scores_is_asked_once_for_both_protocols() -> None:
    task, recorder = make_task(), Recorder()
    judge_protocols(task, recorder, block=4)
    asked, given = (sorted(history.tolist() for history in side) for side in (recorder.asked, task.histories))
    assert asked == given


@pytest.mark.parametrize("block", [1, 4, 23, 100])
def test_each_user_is_asked_exactly_once_and_blocks_do_not_matter(block: int) -> None:
    task, recorder, seen = make_task(), Recorder(), []
    judged = judge(task, recorder, "all", block=block, progress=lambda done, total: seen.append((done, total)))
    asked, given = (sorted(history.tolist() for history in side) for side in (recorder.asked, task.histories))
    assert asked == given
    assert judged.ranks_N.tolist() == (task.targets + 1.0).tolist()
    assert judged.top_NK.dtype == np.int32 and (judged.top_NK == np.arange(10)).all()
    assert judged.scores_NK.dtype == np.float32 and (judged.scores_NK == NUM_ITEMS - np.arange(10)).all()
    assert seen[-1] == (23, 23)


def test_exclusion_takes_the_history_out_and_never_looks_at_the_target() -> None:
    task = make_task()
    ranks_N = judge(task, Recorder(), "new").ranks_N
    for rank, history, target in zip(ranks_N, task.histories, task.targets, strict=True):
        left = [row for row in range(NUM_ITEMS) if row not in history]
        assert rank == (left.index(target) + 1 if target in left else np.inf)
    assert np.isinf(ranks_N).tolist() == (~task.target_is_new).tolist()
    # Whatever the targets are, the same items are left: only the look-up differs.
    moved = judge(replace(task, targets=(task.targets + 1) % NUM_ITEMS), recorder := Recorder(), "new")
    assert len(recorder.asked) == len(moved) == 23


@pytest.mark.parametrize(
    ("lister", "message"),
    [
        (Lister([1, 2, 1]), "twice"),
        (Lister([1, NUM_ITEMS]), "not in the catalogue"),
        (Lister([1, -1, 2]), "gap"),
        (Lister([1, 2], [0.0, 1.0]), "falling"),
        (Lister([1, 2], [0.0, float("nan")]), "not a number"),
    ],
)
def test_malformed_lists_are_refused(lister: Lister, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        judge(make_task(), lister, "all")


def test_a_list_with_a_history_item_is_refused_under_new() -> None:
    lister = Lister(list(range(NUM_ITEMS)))
    judge(make_task(), lister, "all")
    with pytest.raises(ValueError, match="history"):
        judge(make_task(), lister, "new")
    with pytest.raises(ValueError, match="protocol"):
        judge(make_task(), lister, "old")  # pyright: ignore[reportArgumentType]


class Scorer:
    """Dense scores of one user, the same for all."""

    name = "scorer"

    def __init__(self, scores: list[float]) -> None:
        self.scores = scores

    def rank(self, histories: list[np.ndarray], protocols: Sequence[ProtocolName]) -> Ranking:
        return Ranking(np.tile(self.scores, (len(histories), 1)))


def test_the_best_ten_of_dense_scores_go_by_row_where_they_tie() -> None:
    task = make_task()
    scores = [1.0, 2.0, 1.0] + [-np.inf] * (NUM_ITEMS - 3)
    judged = judge(task, Scorer(scores), "all")
    assert (judged.top_NK == [1, 0, 2] + [-1] * 7).all()
    assert (judged.scores_NK == [2.0, 1.0, 1.0] + [-np.inf] * 7).all()
    draw = np.random.default_rng(0)
    for _ in range(20):
        scores = draw.integers(0, 4, NUM_ITEMS).astype(float).tolist()
        expected = sorted(range(NUM_ITEMS), key=lambda row, scores=scores: (-scores[row], row))[:10]
        assert (judge(task, Scorer(scores), "all").top_NK == expected).all()
    short = judge(task, Lister([7, 3]), "all")
    assert (short.top_NK == [7, 3] + [-1] * 8).all() and (short.scores_NK[:, 2:] == -np.inf).all()
    few = replace(task, items=task.items[:2], texts=task.texts[:2], targets=task.targets % 2)
    few = replace(few, histories=[history % 2 for history in few.histories])
    assert (judge(few, Scorer([0.5, 0.5]), "all").top_NK == [0, 1] + [-1] * 8).all()


def test_a_task_is_read_from_shards_and_sampled_by_seed(tmp_path: Path) -> None:
    rows = [{"item": f"i{row}", "text": f"text {row}", "token_ids": [row]} for row in range(6)]
    users = [
        {"record": f"Toy/{user:09d}", "user": f"u{user}", "history": [user % 3, 3], "valid": 4, "test": 5}
        for user in range(9)
    ]
    (tmp_path / "Toy").mkdir()
    for name, schema, entries in (("items", ITEM_SCHEMA, rows), ("holdout", HOLDOUT_SCHEMA, users)):
        with pa.ipc.new_file(str(tmp_path / "Toy" / f"{name}.arrow"), schema) as sink:
            sink.write_table(pa.Table.from_pylist(entries, schema=schema))
    task = load_task(tmp_path, "Toy")
    assert task.histories[1].tolist() == [1, 3, 4]
    assert task.training_histories[1].tolist() == [1, 3]
    assert task.targets.tolist() == [5] * 9
    sample, again = (load_task(tmp_path, "Toy", max_users=4, seed=2) for _ in range(2))
    assert sample.users == again.users
    assert len(sample.users) == 4
    assert len(sample.training_histories) == 9
    with pytest.raises(ValueError, match="missing"):
        load_task(tmp_path, "Nowhere")


def test_candidates_bind_the_model_and_every_baseline_alike(tmp_path: Path) -> None:
    task = make_task()
    file = tmp_path / "candidates.txt"
    file.write_text("i3\n\n  i7\ni11\n")
    [few] = restricted([task], file)
    assert few.candidates is not None and few.candidates.tolist() == [3, 7, 11] and task.candidates is None
    popularity = baselines.Popularity(task.training_histories, NUM_ITEMS)
    ranks_N = judge(few, popularity, "all").ranks_N
    inside = np.isin(task.targets, [3, 7, 11])
    assert inside.any() and np.isinf(ranks_N[~inside]).all() and (ranks_N[inside] <= 3).all()
    judge(few, Lister([7, 3]), "all")
    with pytest.raises(ValueError, match="lister lists an item that is no candidate"):
        judge(few, Lister([7, 4]), "all")


def test_a_file_of_candidates_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    task, file = make_task(), tmp_path / "candidates.txt"
    with pytest.raises(ValueError, match="no file of candidates"):
        restricted([task], file)
    file.write_text("i3\nsoap\n")
    with pytest.raises(ValueError, match="1 items that no judged data set has, soap"):
        restricted([task], file)
    file.write_text("i3\n")
    other = replace(task, name="Other", items=[f"o{row}" for row in range(NUM_ITEMS)])
    with pytest.raises(ValueError, match="names no item of Other"):
        restricted([task, other], file)
