"""Bootstrap intervals: coverage, agreement with resampling users one by one, pairing."""

import numpy as np
import pytest

from zeroshot.stats import bootstrap_interval, bootstrap_means, paired_difference


def test_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    draw = np.random.default_rng(1)
    covered = 0
    for trial in range(300):
        low, high = bootstrap_interval((draw.random(400) < 0.3).astype(float), seed=trial, draws=500)
        covered += low <= 0.3 <= high
    assert 0.91 <= covered / 300 <= 0.98


def test_counting_values_is_the_same_as_resampling_users() -> None:
    draw = np.random.default_rng(2)
    values_N = draw.choice([0.0, 0.3, 0.5, 1.0], size=200, p=[0.8, 0.1, 0.05, 0.05])
    plain = draw.choice(values_N, size=(4000, 200)).mean(axis=1)
    ours = bootstrap_means(values_N, seed=0, draws=4000)
    assert ours.mean() == pytest.approx(plain.mean(), abs=0.002)
    assert ours.std() == pytest.approx(plain.std(), rel=0.06)


def test_an_interval_depends_on_values_and_seed_alone() -> None:
    values_N = np.array([0.0, 1, 0, 1, 1])
    assert bootstrap_interval(values_N, 7) == bootstrap_interval(values_N[::-1], 7)
    assert bootstrap_interval(np.ones(5), 7) == (1.0, 1.0)


def test_pairing_takes_out_what_users_share() -> None:
    draw = np.random.default_rng(4)
    easy_N = draw.random(2000)
    a_N = easy_N + 0.01
    difference, low, high = paired_difference(a_N, easy_N, seed=0)
    assert difference == pytest.approx(0.01)
    assert (low, high) == (pytest.approx(0.01), pytest.approx(0.01))
    assert paired_difference(easy_N, a_N, seed=0)[0] == pytest.approx(-difference)


def test_impossible_input_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        bootstrap_interval(np.zeros(0), 0)
    with pytest.raises(ValueError, match="finite"):
        bootstrap_interval(np.array([np.inf]), 0)
    with pytest.raises(ValueError, match="compared"):
        paired_difference(np.zeros(3), np.zeros(4), 0)
