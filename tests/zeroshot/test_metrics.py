"""Ranks and metrics: hand-worked cases, and agreement with a naive implementation."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import label_ranking_average_precision_score, ndcg_score, top_k_accuracy_score

from pretrain.ranking import metrics

NO = -np.inf
NO_ITEM = -1


def test_hand_worked_dense_ranks() -> None:
    scores_NI = np.array([[3.0, 1, 2, 0], [5, 5, 5, 1], [1, NO, 0, 0], [0, 0, 0, 0]])
    ranks_N = metrics.mid_ranks(scores_NI, None, np.array([2, 1, 1, 3]), 4)
    assert ranks_N.tolist() == [2.0, 2.0, np.inf, 2.5]


def test_hand_worked_list_ranks() -> None:
    scores_NK = np.array([[-1.0, -2, -2], [-1, -2, NO], [-1, -2, -3]])
    items_NK = np.array([[4, 7, 2], [4, 7, -1], [0, 1, NO_ITEM]])
    ranks_N = metrics.mid_ranks(scores_NK, items_NK, np.array([2, 3, 0]), 8)
    assert ranks_N.tolist() == [2.5, np.inf, 1.0]


def test_hand_worked_metrics() -> None:
    ranks_N = np.array([1.0, 3.0, 5.5, 10.0, 11.0, np.inf])
    assert metrics.hit_ratio(ranks_N, 5).tolist() == [1, 1, 0, 0, 0, 0]
    assert metrics.hit_ratio(ranks_N, 10).tolist() == [1, 1, 1, 1, 0, 0]
    assert metrics.ndcg(ranks_N, 5).tolist() == [1, 0.5, 0, 0, 0, 0]
    assert metrics.ndcg(ranks_N, 10)[2] == 1 / math.log2(6.5)
    assert metrics.reciprocal_rank(ranks_N, 10).tolist() == [1, 1 / 3, 1 / 5.5, 0.1, 0, 0]
    found = metrics.summary(ranks_N)
    assert found["MRR@10"] == pytest.approx((1 + 1 / 3 + 1 / 5.5 + 0.1) / 6)
    assert found["HR@10"] == pytest.approx(4 / 6)
    assert found["NDCG@5"] == pytest.approx(1.5 / 6)


@given(st.data())
def test_agrees_with_a_naive_ranking(data: st.DataObject) -> None:
    num_items = data.draw(st.integers(1, 8))
    score = st.sampled_from([NO, -1.0, 0.0, 0.5, 2.0])
    scores = data.draw(st.lists(score, min_size=num_items, max_size=num_items))
    target = data.draw(st.integers(0, num_items - 1))
    present = sorted((item for item in range(num_items) if scores[item] > NO), key=lambda item: -scores[item])
    tied = [place for place, item in enumerate(present, start=1) if scores[item] == scores[target]]
    expected = sum(tied) / len(tied) if scores[target] > NO else math.inf
    dense = metrics.mid_ranks(np.array([scores]), None, np.array([target]), num_items)
    assert dense.tolist() == [expected]
    padded = present + [-1] * (num_items - len(present))
    list_scores = [scores[item] if item >= 0 else NO for item in padded]
    listed = metrics.mid_ranks(np.array([list_scores]), np.array([padded]), np.array([target]), num_items)
    assert listed.tolist() == [expected]


@given(st.lists(st.floats(1, 40) | st.just(math.inf), min_size=1))
def test_metrics_are_bounded_and_rise_with_k(ranks: list[float]) -> None:
    found = metrics.summary(np.array(ranks))
    assert 0 <= found["NDCG@5"] <= found["HR@5"] <= found["HR@10"] <= 1
    assert found["NDCG@5"] <= found["NDCG@10"] <= found["HR@10"]
    assert 0 <= found["MRR@10"] <= found["NDCG@10"] + 1e-12


def test_metrics_equal_scikit_learn_on_random_rankings() -> None:
    draw = np.random.default_rng(1)
    num_users, num_items = 300, 40
    scores_NI = draw.permuted(np.tile(np.arange(num_items, dtype=float), (num_users, 1)), axis=1)
    targets_N = draw.integers(0, num_items, num_users)
    relevant_NI = np.eye(num_items)[targets_N]
    values = metrics.per_user(metrics.mid_ranks(scores_NI, None, targets_N, num_items))
    for k in (5, 10):
        expected = [ndcg_score(relevant_NI[[user]], scores_NI[[user]], k=k) for user in range(num_users)]
        np.testing.assert_allclose(values[f"NDCG@{k}"], expected)
        hits = top_k_accuracy_score(targets_N, scores_NI, k=k, labels=np.arange(num_items))
        assert values[f"HR@{k}"].mean() == pytest.approx(hits)
    # With one relevant item label-ranking average precision is 1 / rank, uncut; MRR@10 is the same, 0 beyond 10.
    uncut_N = np.array(
        [label_ranking_average_precision_score(relevant_NI[[user]], scores_NI[[user]]) for user in range(num_users)]
    )
    np.testing.assert_allclose(values["MRR@10"], np.where(uncut_N >= 0.1 - 1e-9, uncut_N, 0))


def test_impossible_input_is_refused() -> None:
    with pytest.raises(ValueError, match="outside the catalogue"):
        metrics.mid_ranks(np.zeros((1, 3)), None, np.array([3]), 3)
    with pytest.raises(ValueError, match="columns"):
        metrics.mid_ranks(np.zeros((1, 3)), None, np.array([0]), 4)
    with pytest.raises(ValueError, match="no user"):
        metrics.summary(np.zeros(0))
