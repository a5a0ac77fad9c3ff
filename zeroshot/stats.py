"""How sure a mean over users is: percentile bootstrap over users.

Enters: per-user values. Leaves: 95% intervals. What must hold: an interval is a function of the values and the seed
alone, whatever their order. A resample only changes how often each distinct value occurs, so multinomial counts of
the distinct values (few: HR@10 has two) are exactly the bootstrap over users at a small part of its cost.
"""

import numpy as np

from shards import counters

DRAWS = 2000
LEVEL = 0.95


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


def paired_difference(a_N: np.ndarray, b_N: np.ndarray, seed: int, draws: int = DRAWS) -> tuple[float, float, float]:
    """Mean of a - b over the same users and its 95% interval: (difference, low, high).

    Raises:
        ValueError: the two arrays are not about the same number of users.
    """
    a_N, b_N = np.asarray(a_N, dtype=np.float64), np.asarray(b_N, dtype=np.float64)
    if a_N.shape != b_N.shape:
        raise ValueError(f"paired values of {len(a_N)} and {len(b_N)} users cannot be compared")
    low, high = bootstrap_interval(a_N - b_N, seed, draws)
    return float((a_N - b_N).mean()), low, high
