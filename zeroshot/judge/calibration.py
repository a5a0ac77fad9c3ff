"""Does a model know how sure it is: the probability of its first item against how often that item is right.

Enters: the ranks of one (task, protocol, model) with `top_score`, the log-probability of the first item. Leaves: bins.
What must hold: bins hold nearly the same number of users, whatever the scores; equal scores are never parted.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl
from scipy import stats

BINS = 10
MIN_USERS = 20


@dataclass(frozen=True)
class CalibrationBin:
    """Users of neighbouring probabilities: how many, their mean probability, the share with the first item right, and
    its 95% interval (Wilson)."""

    num_users: int
    probability: float
    right: float
    low: float
    high: float


def first_right(ranks_N: np.ndarray) -> np.ndarray:
    """1 where the target is first; 1/2 where it shares the first place with one other (mid-rank 1.5), else 0."""
    return np.where(ranks_N < 2, 1 / (2 * np.minimum(ranks_N, 2) - 1), 0.0)


def calibration(own: pl.DataFrame) -> list[CalibrationBin]:
    """The bins by rising probability; none where no score is known."""
    scored = own.filter(pl.col("top_score").is_not_null())
    if scored.height < MIN_USERS:
        return []
    probability_N = np.exp(scored["top_score"].to_numpy().astype(np.float64))
    right_N = first_right(scored["rank"].to_numpy())
    edges = np.unique(np.quantile(probability_N, np.linspace(0, 1, min(BINS, scored.height // MIN_USERS) + 1)))
    place_N = np.searchsorted(edges[1:-1], probability_N, side="right")
    bins = []
    for place in np.unique(place_N):
        inside_N = place_N == place
        count, hits = int(inside_N.sum()), float(right_N[inside_N].sum())
        interval = stats.binomtest(int(hits), count).proportion_ci(method="wilson")
        mean = float(probability_N[inside_N].mean())
        bins.append(CalibrationBin(count, mean, hits / count, float(interval.low), float(interval.high)))
    return bins


def calibration_error(bins: list[CalibrationBin]) -> float:
    """Mean distance between probability and share over the users (expected calibration error)."""
    users = sum(one.num_users for one in bins)
    return sum(one.num_users * abs(one.probability - one.right) for one in bins) / users
