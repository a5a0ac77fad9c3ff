"""How sure a mean over users is, and whether two recommenders differ on the same users.

Enters: per-user values. Leaves: 95% intervals, p values, effect sizes. What must hold: each is a function of the
values and the seed alone, whatever their order. Resampling users, or flipping signs, only changes how often each
distinct value occurs, so counts of the distinct values (few: HR@10 has two) are exactly the resampling over users at
a small part of its cost.
"""

import numpy as np
from scipy import stats

from shards import counters

DRAWS = 2000
LEVEL = 0.95
FLIPS = 20_000
"""Draws of the sign-flip test; its smallest p value is 1 / (FLIPS + 1)."""
SLACK = 1e-9
"""Relative room in which a flipped sum counts as equal to the observed one: sums differ by rounding."""


def bootstrap_means(values_N: np.ndarray, seed: int, draws: int = DRAWS) -> np.ndarray:
    """Means of `draws` resamples of the users with replacement; ValueError without users or for a value not finite."""
    values_N = np.asarray(values_N, dtype=np.float64)
    if values_N.ndim != 1 or not len(values_N):
        raise ValueError("a bootstrap needs a flat array with at least one user")
    if not np.isfinite(values_N).all():
        raise ValueError("a bootstrap needs finite values")
    distinct_V, counts_V = np.unique(values_N, return_counts=True)
    draw = counters.generator(seed, "bootstrap")
    resampled_DV = draw.multinomial(len(values_N), counts_V / len(values_N), size=draws)
    return resampled_DV @ distinct_V / len(values_N)


def bootstrap_interval(values_N: np.ndarray, seed: int, draws: int = DRAWS) -> tuple[float, float]:
    """95% percentile interval (low, high) of the mean of per-user values."""
    low, high = np.quantile(bootstrap_means(values_N, seed, draws), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def two_way_bootstrap_interval(values_SN: np.ndarray, seed: int, draws: int = DRAWS) -> tuple[float, float]:
    """95% percentile interval of the mean over S seeds of one recipe and N users, both resampled in each draw.

    The users are the same for every seed, so a draw takes whole users (columns) and whole seeds (rows).
    """
    values_SN = np.asarray(values_SN, dtype=np.float64)
    if values_SN.ndim != 2 or not values_SN.size:
        raise ValueError("an interval over seeds and users needs at least one of each")
    patterns_VS, counts_V = np.unique(values_SN.T, axis=0, return_counts=True)
    num_seeds, num_users = values_SN.shape
    draw = counters.generator(seed, "bootstrap over seeds and users")
    users_DV = draw.multinomial(num_users, counts_V / num_users, size=draws)
    seeds_DS = draw.multinomial(num_seeds, np.full(num_seeds, 1 / num_seeds), size=draws)
    means_D = ((users_DV @ patterns_VS) * seeds_DS).sum(axis=1) / (num_users * num_seeds)
    low, high = np.quantile(means_D, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def paired_difference(a_N: np.ndarray, b_N: np.ndarray, seed: int, draws: int = DRAWS) -> tuple[float, float, float]:
    """Mean of a - b over the same users and its 95% interval: (difference, low, high).

    Raises:
        ValueError: the two arrays are not about the same number of users.
    """
    difference_N = paired(a_N, b_N)
    low, high = bootstrap_interval(difference_N, seed, draws)
    return float(difference_N.mean()), low, high


def permutation_test(a_N: np.ndarray, b_N: np.ndarray, seed: int, flips: int = FLIPS) -> float:
    """Two-sided p value of "a and b are the same recommender to every user", by flipping signs of the differences.

    Under that hypothesis a user's two values could as well be exchanged, so the sign of each difference is a fair coin:
    nothing is assumed of the distribution, which for these metrics is a heap of zeros with few distinct values; a
    t test would lean on the normal limit in the tail, and Wilcoxon's test asks about ranks and not about the mean that
    a table shows. Where the differences that are not zero have one size (every HR@k) the test is the exact binomial
    one (McNemar's). Else the signs are drawn `flips` times, as binomial counts per distinct size.
    """
    difference_N = paired(a_N, b_N)
    sizes_V, where_N = np.unique(np.abs(difference_N), return_inverse=True)
    counts_V = np.bincount(where_N, minlength=len(sizes_V))
    if sizes_V[0] == 0:
        sizes_V, counts_V = sizes_V[1:], counts_V[1:]
    if not len(sizes_V):
        return 1.0
    if len(sizes_V) == 1:
        return float(stats.binomtest(int((difference_N > 0).sum()), int(counts_V[0])).pvalue)
    draw = counters.generator(seed, "sign flips")
    sums_D = (2 * draw.binomial(counts_V, 0.5, size=(flips, len(counts_V))) - counts_V) @ sizes_V
    observed = abs(float(difference_N.sum()))
    as_far = int((np.abs(sums_D) >= observed - SLACK * float(sizes_V @ counts_V)).sum())
    return (as_far + 1) / (flips + 1)


def holm(p_M: np.ndarray) -> np.ndarray:
    """Holm's step-down correction of M p values, in their order: the share of families with any false find stays below
    the level, whatever the dependence between the tests. As `multipletests(p, method="holm")` of statsmodels."""
    p_M = np.asarray(p_M, dtype=np.float64)
    order_M = np.argsort(p_M, kind="stable")
    steps_M = p_M[order_M] * np.arange(len(p_M), 0, -1)
    corrected_M = np.empty(len(p_M))
    corrected_M[order_M] = np.minimum(np.maximum.accumulate(steps_M), 1.0)
    return corrected_M


def effect_size(a_N: np.ndarray, b_N: np.ndarray) -> float | None:
    """Mean difference in standard deviations of the differences (Cohen's d of pairs).

    0 where no user differs; None where the deviation is zero but the difference is not, or there is one user only.
    """
    difference_N = paired(a_N, b_N)
    if not difference_N.any():
        return 0.0
    deviation = float(difference_N.std(ddof=1)) if len(difference_N) > 1 else 0.0
    return float(difference_N.mean()) / deviation if deviation > 0 else None


def paired(a_N: np.ndarray, b_N: np.ndarray) -> np.ndarray:
    """a - b; ValueError unless both are about the same number of users, at least one."""
    a_N, b_N = np.asarray(a_N, dtype=np.float64), np.asarray(b_N, dtype=np.float64)
    if a_N.shape != b_N.shape:
        raise ValueError(f"paired values of {len(a_N)} and {len(b_N)} users cannot be compared")
    if not len(a_N):
        raise ValueError("a comparison needs at least one user")
    return a_N - b_N
