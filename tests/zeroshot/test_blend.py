"""The blend: what text, popularity and repeats add to the model's scores."""

from typing import Any

import numpy as np
import pytest

from zeroshot.baselines import TextPopularity, TfidfDecayed, item_vectors
from zeroshot.baselines.text_popularity import LEAST, Blend, expert_of, repeat_share, repeats_itself
from zeroshot.protocol.config import BLENDS, POPULARITY_BLEND, TEXT_BLEND, EvaluateConfig

TEXTS = ["blue ball rubber", "red ball rubber", "garden hose", "garden rake", "blue hose"]
TRAINING = [np.array([0, 1, 2]), np.array([3, 1]), np.array([1]), np.array([4, 1, 3])]
HISTORIES = [np.array([0]), np.array([2, 1]), np.array([3, 3, 4])]


def expert(training=TRAINING, texts=TEXTS, **weights):
    return TextPopularity(item_vectors(texts), training, **weights)


def test_it_is_a_probability_of_every_item():
    log_probs_NI = expert().log_probs(HISTORIES)
    np.testing.assert_allclose(np.exp(log_probs_NI).sum(axis=1), 1.0)


def test_without_popularity_new_items_go_by_their_text():
    log_probs_NI = expert(popularity_weight=0.0).log_probs(HISTORIES)
    match_NI = TfidfDecayed(item_vectors(TEXTS)).rank(HISTORIES, ("all",)).scores_NK
    for log_probs_I, match_I, history in zip(log_probs_NI, match_NI, HISTORIES, strict=True):
        new = np.setdiff1d(np.arange(5), history)
        order = new[np.argsort(-match_I[new], kind="stable")]
        assert (np.diff(log_probs_I[order]) <= 1e-12).all()


def test_without_text_new_items_go_by_their_count():
    log_probs_I = expert(text_weight=0.0).log_probs([np.array([0])])[0]
    assert log_probs_I[1] > log_probs_I[3] > log_probs_I[4] == pytest.approx(log_probs_I[2])
    assert log_probs_I[1] - log_probs_I[3] == pytest.approx(0.35 * np.log(5 / 3)), "1 comes four times, 3 twice"


def test_the_history_has_the_share_of_repeats_by_recency():
    training = [np.array([0, 1, 0]), np.array([2, 3]), np.array([4])]
    assert repeat_share(training) == 1.5 / 3, "one of two; a history of one item cannot repeat"
    probs_I = np.exp(expert(training).log_probs([np.array([3, 3, 4])])[0])
    assert probs_I[[3, 4]].sum() == pytest.approx(0.5)
    assert probs_I[3] / probs_I[4] == pytest.approx(0.7 + 0.49), "one step back and two, against the last"


def test_who_has_everything_can_only_repeat():
    log_probs_I = expert().log_probs([np.arange(5)])[0]
    assert np.isfinite(log_probs_I).all() and (np.diff(log_probs_I) > 0).all()


def test_a_very_long_history_has_finite_numbers():
    log_probs_I = expert().log_probs([np.array([0] + [1, 2] * 2_000)])[0]
    assert log_probs_I[0] == pytest.approx(np.log(LEAST))


def test_whether_anyone_repeats():
    assert not repeats_itself(TRAINING) and repeats_itself([*TRAINING, np.array([1, 2, 1])])


def test_worth_is_the_weighted_log_probability():
    worth_NI = Blend(expert(), 3.0)(HISTORIES)
    assert worth_NI.dtype == np.float32 and worth_NI.shape == (3, 5)
    np.testing.assert_allclose(worth_NI, 3.0 * expert().log_probs(HISTORIES), rtol=1e-6)


def test_another_weight_text_or_history_is_another_recommender():
    others = [
        Blend(expert(), 1.0), Blend(expert(), 2.0), Blend(expert(texts=[*TEXTS[:4], "red hose"]), 1.0),
        Blend(expert([*TRAINING, np.array([2])]), 1.0), Blend(expert(popularity_weight=1.0), 1.0),
    ]  # fmt: skip
    assert len({other.identity() for other in others}) == 5
    assert others[0].identity() == Blend(expert(), 1.0).identity()


def test_without_text_an_item_counts_by_its_share_or_as_a_repeat():
    log_probs_NI = expert_of(POPULARITY_BLEND, TEXTS, TRAINING).log_probs(HISTORIES)
    counts_I = np.array([1, 4, 1, 2, 1]) + 1.0
    repeats = 0.5 / 4  # no training history of two items or more ends in a repeat
    share_I = (1.0 - repeats) * counts_I / counts_I[1:].sum()
    np.testing.assert_allclose(np.exp(log_probs_NI[0]), [repeats, *share_I[1:]])
    other_texts = expert_of(POPULARITY_BLEND, TEXTS[::-1], TRAINING)
    np.testing.assert_array_equal(other_texts.log_probs(HISTORIES), log_probs_NI, "no text is read")
    np.testing.assert_array_equal(
        expert_of(TEXT_BLEND, TEXTS, TRAINING).log_probs(HISTORIES), expert().log_probs(HISTORIES)
    )


def test_the_blends_that_are_asked_for():
    asked = EvaluateConfig("run", "shards", "out", blend_weight=2.0, popularity_weight=0.5)
    assert asked.blends == {POPULARITY_BLEND: 0.5, TEXT_BLEND: 2.0} and tuple(asked.blends) == BLENDS
    assert EvaluateConfig("run", "shards", "out").blends == {}


@pytest.mark.parametrize("weight", [-1.0, float("nan")])
@pytest.mark.parametrize("name", ["blend_weight", "popularity_weight"])
def test_a_weight_that_makes_no_sense_is_refused(name, weight):
    values: dict[str, Any] = {name: weight}
    with pytest.raises(ValueError, match=rf"{name} is .*; it must be at least 0"):
        EvaluateConfig("run", "shards", "out", **values)
