"""HR@k, NDCG@k and MRR@10 from ranks.

Enters: scores of N users over lists or over the whole catalogue, and their targets. Leaves: one rank per user (1 is
best, inf is absent) and per-user metric values. What must hold: ties get the mid-rank `greater + (equal + 1) / 2`,
never an order by row number, which leaks popularity; an item scored -inf is not in the list.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

ProtocolName = Literal["all", "new"]
"""all: every item is ranked; new: without the items of the history."""
PROTOCOLS: tuple[ProtocolName, ...] = get_args(ProtocolName)
CUTOFFS = (5, 10)
MRR_CUTOFF = 10


@dataclass(frozen=True)
class Ranking:
    """Scores of a block of N users.

    Attributes:
        scores_NK: float scores. Lists: by falling score. Dense (`items_NK` is None): column = item row, K = number of
            items, and -inf says that the item is not in the list.
        items_NK: int item rows of the lists, -1 where a list is short, or None when the scores are dense.
    """

    scores_NK: np.ndarray
    items_NK: np.ndarray | None = None


def mid_ranks(scores_NK: np.ndarray, items_NK: np.ndarray | None, targets_N: np.ndarray, num_items: int) -> np.ndarray:
    """Rank of each user's target, ties at mid-rank.

    Args:
        scores_NK: float scores; dense over the catalogue when `items_NK` is None, then K == num_items.
        items_NK: item rows of the lists, -1 where a list is short, or None.
        targets_N: item row of each user's target.
        num_items: size of the catalogue.

    Returns:
        ranks_N, float64: 1-based, half ranks where the target ties, inf where it is absent or scored -inf.

    Raises:
        ValueError: the shapes do not fit or a target is no row of the catalogue.
    """
    num_users = len(targets_N)
    if scores_NK.ndim != 2 or len(scores_NK) != num_users:
        raise ValueError(f"scores of shape {scores_NK.shape} do not fit {num_users} targets")
    if num_users and not (targets_N.min() >= 0 and targets_N.max() < num_items):
        raise ValueError(f"a target lies outside the catalogue of {num_items} items")
    if items_NK is None:
        if scores_NK.shape[1] != num_items:
            raise ValueError(f"dense scores have {scores_NK.shape[1]} columns for {num_items} items")
        target_scores_N = scores_NK[np.arange(num_users), targets_N].astype(np.float64)
    else:
        if items_NK.shape != scores_NK.shape:
            raise ValueError(f"items of shape {items_NK.shape} do not fit scores of shape {scores_NK.shape}")
        scores_NK = np.where(items_NK >= 0, scores_NK, -np.inf)
        is_target_NK = items_NK == targets_N[:, None]
        target_scores_N = np.where(is_target_NK, scores_NK, -np.inf).max(axis=1, initial=-np.inf)
    greater_N = np.count_nonzero(scores_NK > target_scores_N[:, None], axis=1)
    equal_N = np.count_nonzero(scores_NK == target_scores_N[:, None], axis=1)
    return np.where(target_scores_N > -np.inf, greater_N + (equal_N + 1) / 2, np.inf)


def hit_ratio(ranks_N: np.ndarray, k: int) -> np.ndarray:
    """HR@k of each user: 1.0 where the rank is at most k, else 0.0."""
    return (np.asarray(ranks_N, dtype=np.float64) <= k).astype(np.float64)


def ndcg(ranks_N: np.ndarray, k: int) -> np.ndarray:
    """NDCG@k of each user with one relevant item: 1 / log2(rank + 1) where the rank is at most k, else 0.0.

    A fractional mid-rank is used as it is.
    """
    ranks_N = np.asarray(ranks_N, dtype=np.float64)
    return np.where(ranks_N <= k, 1.0 / np.log2(ranks_N + 1.0), 0.0)


def reciprocal_rank(ranks_N: np.ndarray, k: int) -> np.ndarray:
    """MRR@k of each user: 1 / rank where the rank is at most k, else 0.0. A fractional mid-rank is used as it is."""
    ranks_N = np.asarray(ranks_N, dtype=np.float64)
    return np.where(ranks_N <= k, 1.0 / ranks_N, 0.0)


def per_user(ranks_N: np.ndarray) -> dict[str, np.ndarray]:
    """Every reported metric of each user: HR@5, NDCG@5, HR@10, NDCG@10, MRR@10, each an array of N values."""
    values: dict[str, np.ndarray] = {}
    for k in CUTOFFS:
        values[f"HR@{k}"] = hit_ratio(ranks_N, k)
        values[f"NDCG@{k}"] = ndcg(ranks_N, k)
    values[f"MRR@{MRR_CUTOFF}"] = reciprocal_rank(ranks_N, MRR_CUTOFF)
    return values


def summary(ranks_N: np.ndarray) -> dict[str, float]:
    """Mean of every reported metric over the users; ValueError when there is none."""
    if len(ranks_N) == 0:
        raise ValueError("no user to average over")
    return {metric: float(values_N.mean()) for metric, values_N in per_user(ranks_N).items()}
