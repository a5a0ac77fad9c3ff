"""What a recommender's lists are like, whether right or not: coverage and novelty of the best ten.

Enters: the item rows of the lists, -1 where one is short. Leaves: coverage of a group of users, novelty of each user.
What must hold: no target is looked at; an item's popularity is counted in the training histories (sequence[:-2]) alone.
"""

import numpy as np


def coverage(top_NK: np.ndarray, num_candidates: int) -> float:
    """Distinct listed items as a share of those that could be listed; ValueError without candidates."""
    if num_candidates < 1:
        raise ValueError("coverage needs at least one candidate")
    return len(np.unique(top_NK[top_NK >= 0])) / num_candidates


def coverage_of_groups(top_NK: np.ndarray, target_is_new_N: np.ndarray, num_candidates: int) -> dict[str, float]:
    """Coverage by the lists of all users, and by those of the users with a new target."""
    return {
        "all": coverage(top_NK, num_candidates),
        "new_target": coverage(top_NK[np.asarray(target_is_new_N, dtype=bool)], num_candidates),
    }


def novelty(top_NK: np.ndarray, counts_I: np.ndarray) -> np.ndarray:
    """Mean surprise of each user's listed items in bits, -log2((count + 1) / (total + items)); NaN for an empty list.

    Args:
        top_NK: item rows, -1 where a list is short.
        counts_I: how often each item of the catalogue occurs in the training histories.
    """
    surprise_I = -np.log2((counts_I + 1) / (counts_I.sum() + len(counts_I)))
    present_NK = top_NK >= 0
    sums_N = np.where(present_NK, surprise_I[np.maximum(top_NK, 0)], 0.0).sum(axis=1)
    lengths_N = present_NK.sum(axis=1)
    return np.where(lengths_N > 0, sums_N / np.maximum(lengths_N, 1), np.nan)
