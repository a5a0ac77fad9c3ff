"""The baselines: worked by hand, blind to targets, the same in any block and order; what is trained is kept."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from rings import RING, SMALL, scores

from pretrain.model.vocabulary_loss import IGNORED
from pretrain.ranking.metrics import summary
from zeroshot import baselines
from zeroshot.audit.leakage import leakage_check
from zeroshot.baselines.cache import cached
from zeroshot.baselines.causal import CausalTransformer, Shape, training_batches
from zeroshot.baselines.fit import best_epoch
from zeroshot.baselines.sasrec import Sasrec
from zeroshot.judge.judge import judge
from zeroshot.tasks.task import Task


def hit_ratio(task: Task, recommender: baselines.Recommender) -> float:
    return summary(judge(task, recommender, "all").ranks_N)["HR@5"]


def test_popularity_repeat_and_random_by_hand() -> None:
    histories = [np.array([2, 0, 2, 1])]
    assert scores(baselines.Popularity(histories, 4), [0]) == [[1, 1, 2, 0]]
    assert scores(baselines.Repeat(4), [2, 0, 2, 1]) == [[1, 3, 2, -np.inf]]
    random = baselines.Random(4)
    assert scores(random, [2, 0], [2, 1])[1] == scores(random, [2, 1])[0]


def test_tfidf_by_hand() -> None:
    vectors = baselines.item_vectors(["red shoe", "red hat", "blue hat", "blue shoe"])
    assert np.allclose(scores(baselines.TfidfLast(vectors), [2, 0, 2, 1]), [[0.5, 1, 0.5, 0]])
    weights = np.array([0.7**2, 1, 0.7 + 0.7**3, 0])
    expected = weights @ (vectors @ vectors.T).toarray()
    assert np.allclose(scores(baselines.TfidfDecayed(vectors), [2, 0, 2, 1]), [expected])
    with pytest.raises(ValueError, match="nothing to match"):
        baselines.item_vectors(["one", "two"])


def test_neighbours_by_hand() -> None:
    """After 1 came 2 twice and 1 itself once, before it 0 once and 1 once; then popularity: counts 2, 4, 2, 1, 0."""
    histories = [np.array(history) for history in ([0, 1, 2], [1, 1, 2], [3], [0], [1])]
    (found,) = scores(baselines.Neighbours(histories, 5), [3, 1])
    counts = np.array([2, 4, 2, 1, 0])
    assert np.allclose(found, np.array([0.5, 1.5, 2, 0, 0]) + counts / 10)
    (lonely,) = scores(baselines.Neighbours(histories, 5), [3])
    assert np.allclose(lonely, counts / 10)
    assert scores(baselines.Neighbours([], 2), [0]) == [[0, 0]]


def test_item_order_by_hand() -> None:
    """In order of ids the rows are 2, 0, 3, 1; after row 3 comes row 1, then round the end 2, 0, and itself last."""
    order = baselines.ItemOrder(["b", "d", "a", "c"])
    assert scores(order, [3, 2]) == scores(order, [0, 3]) == [[-3, -1, -2, -4]]


def test_item_order_knows_sorted_histories(ring_task) -> None:
    task = ring_task()
    wholes = [
        np.unique(np.append(history, target)) for history, target in zip(task.histories, task.targets, strict=True)
    ]
    released = replace(
        task,
        histories=[whole[:-1] for whole in wholes],
        targets=np.array([whole[-1] for whole in wholes]),
        training_histories=[whole[:-2] for whole in wholes],
    )
    shuffled = replace(task, items=[f"i{(row * 17) % RING:02d}" for row in range(RING)])
    order = baselines.ItemOrder(task.items)
    assert hit_ratio(released, order) > 3 * hit_ratio(shuffled, baselines.ItemOrder(shuffled.items))


def test_names_are_checked_and_kinds_told(ring_task) -> None:
    task, context = ring_task(), baselines.BaselineContext()
    built = baselines.build(baselines.TRAINING_FREE, task, context)
    assert tuple(recommender.name for recommender in built) == baselines.TRAINING_FREE
    with pytest.raises(ValueError, match=r"called bert4rec; known are random, .*frozen-text, ranker, sasrec"):
        baselines.build(["random", "bert4rec"], task, context)
    with pytest.raises(ValueError, match="popularity is named twice"):
        baselines.build(["popularity", "popularity"], task, context)
    with pytest.raises(ValueError, match="encoder-last: a sentence encoder is needed"):
        baselines.build(["encoder-last"], task, context)
    with pytest.raises(ValueError, match="give the shard folder"):
        baselines.build(["frozen-text"], task, replace(context, encoder="somewhere"))
    with pytest.raises(ValueError, match="no validation items"):
        baselines.build(["sasrec"], replace(task, validation=None), context)
    assert (baselines.baseline_kind("sasrec"), baselines.baseline_kind("frozen-text")) == ("supervised", "baseline")


def test_the_transformer_does_not_look_ahead() -> None:
    model = CausalTransformer(Shape(width=8, layers=2, max_length=6), seed=0).eval()
    vectors_BTD = torch.randn(2, 6, 8, generator=torch.Generator().manual_seed(1))
    changed_BTD = vectors_BTD.clone()
    changed_BTD[:, 4:] *= -1
    before, after = model(vectors_BTD), model(changed_BTD)
    torch.testing.assert_close(before[:, :4], after[:, :4])
    assert (before[:, 4] - after[:, 4]).abs().max() > 1e-3
    torch.testing.assert_close(before[:, :3], model(vectors_BTD[:, :3]))


def test_every_step_of_every_history_is_taught_once() -> None:
    sequences = [np.arange(start, start + length) for start, length in ((0, 5), (10, 2), (20, 1), (30, 9), (50, 3))]
    pairs = []
    for inputs_BT, labels_BT in training_batches(sequences, max_length=6, users=2, seed=0, epoch=3):
        real = labels_BT != IGNORED
        pairs += list(zip(inputs_BT[real].tolist(), labels_BT[real].tolist(), strict=True))
    expected = [
        (item, item + 1) for first, last in ((0, 4), (10, 11), (32, 38), (50, 52)) for item in range(first, last)
    ]
    assert sorted(pairs) == expected


def test_sasrec_learns_a_planted_pattern_and_is_kept_bit_for_bit(ring_task, tmp_path: Path) -> None:
    task, epochs = ring_task(), []
    made = Sasrec(task, config=SMALL, cache=tmp_path, progress=epochs.append)
    assert hit_ratio(task, made) > 0.8 > 2 * hit_ratio(task, baselines.Popularity(task.training_histories, RING))
    assert epochs[-1].loss < epochs[0].loss
    assert best_epoch(epochs).validation["NDCG@10"] == max(epoch.validation["NDCG@10"] for epoch in epochs)
    told = len(epochs)
    read = Sasrec(task, config=SMALL, cache=tmp_path, progress=epochs.append)
    again = Sasrec(task, config=SMALL)
    wanted = made.rank(task.histories, ("all",)).scores_NK.tobytes()
    assert read.rank(task.histories, ("all",)).scores_NK.tobytes() == wanted
    assert len(epochs) == told, "what is in the cache is not trained again"
    assert again.rank(task.histories, ("all",)).scores_NK.tobytes() == wanted
    other = Sasrec(task, seed=1, config=SMALL, cache=tmp_path)
    assert other.rank(task.histories, ("all",)).scores_NK.tobytes() != wanted
    assert len(list(tmp_path.iterdir())) == 2


def test_sasrec_sees_no_target_and_no_order_of_users(ring_task) -> None:
    task = ring_task(60)
    config = replace(SMALL, fit=replace(SMALL.fit, max_epochs=2))
    check = leakage_check(task, Sasrec(task, config=config), rebuild=lambda task: Sasrec(task, config=config))
    assert check.verdict == "passed", check.words
    order = np.random.default_rng(0).permutation(60)
    assert task.validation is not None
    moved = replace(
        task,
        users=[task.users[user] for user in order],
        histories=[task.histories[user] for user in order],
        targets=task.targets[order],
        training_histories=[task.training_histories[user] for user in order],
        validation=task.validation[order],
    )
    ranks_N = judge(task, Sasrec(task, config=config), "all").ranks_N
    assert judge(moved, Sasrec(moved, config=config), "all").ranks_N.tolist() == ranks_N[order].tolist()


def test_a_damaged_cache_is_named(tmp_path: Path) -> None:
    def make() -> dict[str, torch.Tensor]:
        return {"a": torch.arange(3.0)}

    cached(tmp_path, "thing", {"x": 1}, make)
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:10])
    with pytest.raises(ValueError, match=r"thing-.*safetensors is damaged .*remove it"):
        cached(tmp_path, "thing", {"x": 1}, make)
