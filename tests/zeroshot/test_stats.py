"""Bootstrap intervals: coverage, agreement with resampling users one by one, pairing. Paired tests, Holm, effect."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from zeroshot.judge.significance import (
    bootstrap_interval,
    bootstrap_means,
    effect_size,
    holm,
    paired_difference,
    permutation_test,
    two_way_bootstrap_interval,
)


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


@pytest.mark.parametrize("seed", range(5))
def test_a_paired_test_equals_scipy_on_every_sign(seed: int) -> None:
    draw = np.random.default_rng(seed)
    b_N = draw.choice([0.0, 0.43, 0.5, 0.63], size=12)
    a_N = b_N + draw.choice([-0.11, 0.07, 0.13, 0.37], size=12)
    exact = stats.permutation_test(
        (a_N, b_N), lambda a, b, axis: (a - b).mean(axis=axis), vectorized=True, permutation_type="samples",
        n_resamples=10_000,
    ).pvalue  # fmt: skip
    assert 0 < exact < 1, "all 4,096 signs were tried"
    assert permutation_test(a_N, b_N, seed=0) == pytest.approx(exact, abs=0.012)


def test_a_paired_test_of_hits_is_mcnemars() -> None:
    # 9 users only a hits, 1 user only b: two-sided binomial, 2 * (C(10,0) + C(10,1)) / 2**10.
    a_N, b_N = np.array([1.0] * 9 + [0.0] + [1.0] * 40), np.array([0.0] * 9 + [1.0] + [1.0] * 40)
    assert permutation_test(a_N, b_N, seed=0) == pytest.approx(22 / 1024)
    assert permutation_test(b_N, a_N, seed=0) == pytest.approx(22 / 1024)
    assert permutation_test(a_N, a_N, seed=0) == 1.0


def test_p_values_are_uniform_without_a_difference_and_small_with_one() -> None:
    draw = np.random.default_rng(7)
    values = [0.0, 0.0, 0.0, 0.43, 0.5, 0.63, 1.0]
    found = [permutation_test(*draw.choice(values, size=(2, 150)), seed=trial, flips=500) for trial in range(400)]
    assert 0.02 <= np.mean(np.array(found) <= 0.05) <= 0.08
    assert stats.kstest(found, "uniform").pvalue > 0.001
    a_N = draw.choice(values, size=2000)
    assert permutation_test(np.minimum(a_N + 0.1 * draw.random(2000), 1), a_N, seed=0, flips=2000) == 1 / 2001


def test_a_paired_test_does_not_depend_on_the_order_of_users() -> None:
    draw = np.random.default_rng(8)
    a_N, b_N = draw.choice([0.0, 0.5, 0.63, 1.0], size=(2, 300))
    order = draw.permutation(300)
    assert permutation_test(a_N, b_N, seed=3) == permutation_test(a_N[order], b_N[order], seed=3)


def test_holm_on_cases_worked_by_hand() -> None:
    # The smallest times 4, then 3, 2, 1; never below an earlier one.
    assert holm(np.array([0.01, 0.04, 0.03, 0.005])) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm(np.array([0.5, 0.9])) == pytest.approx([1.0, 1.0])
    assert holm(np.array([0.02])) == pytest.approx([0.02])
    assert holm(np.array([0.02, 0.02, 0.02])) == pytest.approx([0.06, 0.06, 0.06])
    assert len(holm(np.zeros(0))) == 0


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_holm_rejects_what_the_step_down_rule_rejects(values: list[float]) -> None:
    p_M = np.array(values)
    corrected_M = holm(p_M)
    assert (corrected_M >= p_M).all() and (corrected_M <= np.minimum(p_M * len(p_M), 1) + 1e-12).all()
    for level in (0.01, 0.05, 0.5):
        rejected = np.zeros(len(p_M), dtype=bool)
        for step, place in enumerate(np.argsort(p_M, kind="stable")):
            if p_M[place] * (len(p_M) - step) > level:
                break
            rejected[place] = True
        assert (corrected_M <= level).tolist() == rejected.tolist()


def test_effect_size_by_hand() -> None:
    assert effect_size(np.array([1.0, 1, 0, 0]), np.zeros(4)) == pytest.approx(0.5 / np.sqrt(1 / 3))
    assert effect_size(np.ones(4), np.ones(4)) == 0.0
    assert effect_size(np.ones(4), np.zeros(4)) is None


def test_an_interval_over_seeds_and_users_is_that_of_resampling_both() -> None:
    draw = np.random.default_rng(9)
    values_SN = (draw.random((3, 200)) < np.array([0.2, 0.3, 0.4])[:, None]).astype(float)
    plain = [values_SN[draw.integers(0, 3, 3)][:, draw.integers(0, 200, 200)].mean() for _ in range(4000)]
    low, high = two_way_bootstrap_interval(values_SN, seed=0)
    assert (low, high) == (
        pytest.approx(np.quantile(plain, 0.025), abs=0.012),
        pytest.approx(np.quantile(plain, 0.975), abs=0.012),
    )
    alone = bootstrap_interval(values_SN.mean(axis=0), 0)
    assert high - low > 1.3 * (alone[1] - alone[0]), "seeds that differ widen the interval"
