"""The blend: what a text match adds to the model's scores."""

import numpy as np
import pytest
from scipy import sparse

from zeroshot.baselines import TfidfDecayed, item_vectors
from zeroshot.config import EvaluateConfig
from zeroshot.text_match import TextMatch

TEXTS = ["blue ball rubber", "red ball rubber", "garden hose", "garden rake", "blue hose"]


def test_worth_is_the_weighted_cosine_and_ranks_as_the_text_match_does():
    vectors = item_vectors(TEXTS)
    histories = [np.array([0]), np.array([2, 1]), np.array([3, 3, 4])]
    worth_NI = TextMatch(vectors, 3.0)(histories)
    assert worth_NI.dtype == np.float32 and worth_NI.shape == (3, 5)
    assert worth_NI[0, 0] == pytest.approx(3.0), "an item is as like itself as can be"
    assert (worth_NI >= 0).all() and (worth_NI <= 3.0 + 1e-6).all()
    match_NI = TfidfDecayed(vectors).rank(histories, False).scores_NK
    for worth_I, match_I in zip(worth_NI, match_NI, strict=True):
        np.testing.assert_allclose(worth_I / worth_I.max(), match_I / match_I.max(), atol=1e-6)


def test_a_history_without_words_is_worth_nothing():
    vectors = sparse.csr_matrix(np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]))
    assert not TextMatch(vectors, 5.0)([np.array([0])]).any()


def test_another_weight_or_text_is_another_recommender():
    one, two = item_vectors(TEXTS), item_vectors([*TEXTS[:4], "red hose"])
    assert len({TextMatch(one, 1.0).identity(), TextMatch(one, 2.0).identity(), TextMatch(two, 1.0).identity()}) == 3
    assert TextMatch(one, 1.0).identity() == TextMatch(item_vectors(TEXTS), 1.0).identity()


@pytest.mark.parametrize("weight", [-1.0, float("nan")])
def test_a_weight_that_makes_no_sense_is_refused(weight):
    with pytest.raises(ValueError, match=r"text_weight is .*; it must be a number of at least 0"):
        EvaluateConfig("run", "shards", "out", text_weight=weight)
