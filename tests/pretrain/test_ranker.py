"""The ranker: features by hand and by name, lists of candidates, a fit that repeats itself and learns."""

import numpy as np
import pytest
import torch

from pretrain.ranking import ranker as module
from pretrain.ranking.candidates import candidates, recall
from pretrain.ranking.context import FLOOR, Context
from pretrain.ranking.features import FEATURES, ITEMS, PAIRS, USERS, Block, Catalogue, feature_names, feature_values
from pretrain.ranking.ranker import Ranker, RankerConfig, fit_ranker, training_lists
from pretrain.ranking.text_match import item_vectors, nearest_texts

TEXTS = ["red shoe", "red hat", "blue hat", "blue shoe", "green lamp red"]
HISTORIES = [np.array(history) for history in ([0, 1], [0, 1, 3], [1, 0], [2])]
CONFIG = RankerConfig(lists=60, width=8, models=2, epochs=20, learning_rate=1e-2)


def catalogue(texts=TEXTS, histories=HISTORIES):
    return Catalogue(Context(histories, len(texts)), item_vectors(texts))


def column(block, items_NK, name):
    return feature_values(block, items_NK)[..., feature_names().index(name)]


def walks(items=30, users=80, seed=0):
    """Everyone walks on by one or two items."""
    draw = np.random.default_rng(seed)
    return [(draw.integers(items) + np.cumsum(draw.choice([1, 1, 2], 7))) % items for _ in range(users)]


@pytest.fixture(scope="module")
def lists():
    wholes = walks()
    texts = [f"bead {row // 5} of row {row % 5}" for row in range(30)]
    return training_lists(texts, [w[:-1] for w in wholes], np.array([w[-1] for w in wholes]), CONFIG, 0, "Ring")


def test_features_by_hand():
    block, items = Block(catalogue(), [np.array([2, 1])]), np.array([[0, 3, 4]])
    log = lambda value: np.log1p(40 * np.asarray(value))  # noqa: E731
    together = np.array([3, 1, 0]) / FLOOR  # with item 1, of which three users know 0 and one knows 3
    assert np.allclose(column(block, items, "together last"), log(together))
    assert np.allclose(column(block, items, "together recent"), log(together / 1.7))
    assert np.allclose(column(block, items, "after last"), log(np.array([1, 1, 0]) / FLOOR))
    assert np.allclose(column(block, items, "before recent"), log(np.array([2, 0, 0]) / FLOOR / 1.7))
    assert np.allclose(column(block, items, "popularity"), np.log1p(FLOOR))
    assert np.allclose(column(block, items, "history length"), np.log(2))
    words = item_vectors(TEXTS)
    assert np.allclose(column(block, items, "text last"), (words[1] @ words[[0, 3, 4]].T).toarray())
    within = column(block, items, "together last, in the list")
    assert np.allclose([within.mean(), within.std()], [0, 1])


def test_each_feature_has_a_name_a_kind_and_a_formula():
    names = feature_names()
    assert len(set(names)) == len(names) and names[: len(FEATURES)] == [feature.name for feature in FEATURES]
    assert all(feature.kind in ("zero-shot", "in-context") and feature.formula for feature in FEATURES)
    block = Block(catalogue(), HISTORIES)
    assert feature_values(block, candidates(block)).shape[-1] == len(names) == 2 * len(PAIRS + ITEMS) + len(USERS)


def test_what_is_zero_shot_reads_no_count():
    items = np.array([[0, 3, 4]] * 2)
    ours, others = (
        Block(catalogue(histories=histories), HISTORIES[:2]) for histories in (HISTORIES, [np.array([4, 3, 2, 4])])
    )
    for feature in FEATURES:
        same = np.array_equal(column(ours, items, feature.name), column(others, items, feature.name))
        assert same or feature.kind == "in-context", feature.name
        if feature.kind == "zero-shot":
            assert same, feature.name


def test_a_user_alone_has_the_same_candidates_and_features():
    wholes = walks()
    one = Catalogue(Context(wholes, 30), item_vectors([f"bead {row // 5} of row {row % 5}" for row in range(30)]))
    histories = wholes[:6]
    together = Block(one, histories)
    items_NK = candidates(together, dict.fromkeys(["text recent", "together recent", "two hops"], 5), 3)
    values_NKF = feature_values(together, items_NK)
    for user, history in enumerate(histories):
        alone = Block(one, [history])
        (items_K,) = candidates(alone, dict.fromkeys(["text recent", "together recent", "two hops"], 5), 3)
        assert items_K.tolist() == items_NK[user][items_NK[user] >= 0].tolist()
        assert np.array_equal(feature_values(alone, items_K[None])[0], values_NKF[user][items_NK[user] >= 0])


def test_candidates_leave_the_history_out_and_are_counted():
    block = Block(catalogue(), [np.array([0, 1]), np.arange(5)])
    items_NK = candidates(block)
    assert items_NK.tolist() == [[2, 3, 4], [-1, -1, -1]]
    assert recall(items_NK, np.array([3, 3])) == 0.5


def test_nearest_texts_leave_the_item_out():
    nearest = nearest_texts(item_vectors(TEXTS), 2).toarray()
    assert np.allclose(nearest.sum(axis=1), 1) and not nearest.diagonal().any()
    assert set(np.flatnonzero(nearest[0])) == {3, 4}


def test_no_count_holds_what_came_next(lists, monkeypatch):
    """The counts of training lists end before the last item of the history, as those of an unseen set do."""
    seen = []
    monkeypatch.setattr(module, "Context", lambda histories, items: seen.append(histories) or Context(histories, items))
    wholes = walks()
    training_lists(["a b"] * 30, [w[:-1] for w in wholes], np.array([w[-1] for w in wholes]), CONFIG, 0, "Ring")
    whole, sparse = seen
    assert {tuple(history) for history in whole} == {tuple(walk[:-2]) for walk in wholes}
    assert len(sparse) == round(0.15 * len(wholes))


def test_a_fit_learns_and_repeats_itself(lists):
    one, same, other = (fit_ranker(lists, CONFIG, seed) for seed in (0, 0, 1))
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), same.state_dict().values(), strict=True))
    assert not torch.equal(one.linear.weight, other.linear.weight)

    def loss(ranker):
        with torch.no_grad():
            return float(
                -torch.cat([ranker(b.features_NKF, b.present_NK)[range(len(b.next_N)), b.next_N] for b in lists]).mean()
            )

    fresh = Ranker(CONFIG, 0)
    fresh.mean_F.copy_(one.mean_F)
    fresh.deviation_F.copy_(one.deviation_F)
    assert loss(one) < 0.8 * loss(fresh)


def test_nothing_to_learn_from_is_refused():
    with pytest.raises(ValueError, match="no list to learn from"):
        fit_ranker([], CONFIG, 0)


@pytest.mark.parametrize(
    ("texts", "training", "history"),
    [
        (TEXTS, [], [0]),
        (TEXTS, [np.array([3])], [0, 0, 0]),
        (["same words"] * 12, HISTORIES, [2, 1]),
        (TEXTS, HISTORIES, [4, 3, 2, 1, 0]),
        (TEXTS, HISTORIES, []),
    ],
    ids=["empty context", "one user, all repeats", "equal texts", "all items known", "no history"],
)
def test_odd_sets_get_a_sensible_list(lists, texts, training, history):
    ranker = fit_ranker(lists, CONFIG, 0).double()
    items_NK, scores_NK = ranker.rank(Block(catalogue(texts, training), [np.array(history, dtype=np.int64)]))
    present = items_NK[0] >= 0
    assert set(items_NK[0][present]) == set(range(len(texts))) - set(history)
    assert np.isfinite(scores_NK[0][present]).all() and np.all(np.diff(scores_NK[0][present]) <= 0)
