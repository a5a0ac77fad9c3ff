"""The judge: histories in, one rank per user out.

Enters: a task and a recommender. Leaves: ranks_N, in the order of the task's users. What must hold: each user is
judged exactly once; nothing that comes from a target reaches the recommender or decides what is excluded; the target
is used for one thing, the final look-up of its rank; every list holds real items, none twice, by falling score.
"""

from collections.abc import Callable
from typing import Literal, get_args

import numpy as np

from pretrain.metrics import mid_ranks
from zeroshot.interface import Ranking, Recommender
from zeroshot.tasks import Task

Scope = Literal["all", "new"]
PROTOCOLS: tuple[Scope, ...] = get_args(Scope)


def judge(
    task: Task,
    recommender: Recommender,
    protocol: Scope,
    block: int = 256,
    progress: Callable[[int, int], None] | None = None,
) -> np.ndarray:
    """Ranks of all judged users' targets.

    Args:
        task: the catalogue and its users.
        recommender: is asked once per block of users.
        protocol: "all" ranks every item; "new" takes the history out, so a target bought before gets rank inf.
        block: users per question; the ranks do not depend on it.
        progress: called with (users done, users in all) after each block.

    Returns:
        ranks_N, float64, 1-based, mid-rank for ties, inf for an absent target.

    Raises:
        ValueError: unknown protocol, or the recommender's answer is malformed.
    """
    if protocol not in PROTOCOLS:
        raise ValueError(f"protocol {protocol!r} is none of {', '.join(PROTOCOLS)}")
    if block < 1:
        raise ValueError(f"block is {block}: at least one user per question")
    num_users, num_items = len(task.users), len(task.items)
    blocks: list[np.ndarray] = []
    for start in range(0, num_users, block):
        histories = task.histories[start : start + block]
        ranking = answer(recommender, histories, protocol, num_items, task.candidates)
        blocks.append(mid_ranks(ranking.scores_NK, ranking.items_NK, task.targets[start : start + block], num_items))
        if progress is not None:
            progress(min(start + block, num_users), num_users)
    ranks_N = np.concatenate(blocks) if blocks else np.zeros(0)
    assert ranks_N.shape == (num_users,), "every user is judged exactly once"
    return ranks_N


def answer(
    recommender: Recommender, histories: list[np.ndarray], protocol: Scope, num_items: int,
    candidates: np.ndarray | None = None,
) -> Ranking:  # fmt: skip
    """A recommender's checked ranking of the candidates (None: all items), for `new` without the items of each history;
    sees no target."""
    ranking = recommender.rank(histories, exclude_history=protocol == "new")
    check_ranking(recommender.name, ranking, len(histories), num_items)
    if candidates is not None:
        ranking = among_candidates(recommender.name, ranking, candidates)
    if protocol == "all":
        return ranking
    if ranking.items_NK is None:
        scores_NI = np.array(ranking.scores_NK, dtype=np.float64)
        for row, history in enumerate(histories):
            scores_NI[row, history] = -np.inf
        return Ranking(scores_NI)
    for items_K, history in zip(ranking.items_NK, histories, strict=True):
        if np.isin(items_K, history).any():
            raise ValueError(f"{recommender.name} lists an item of the history although the protocol is `new`")
    return ranking


def among_candidates(name: str, ranking: Ranking, candidates: np.ndarray) -> Ranking:
    """Dense scores with all other items absent; ValueError for a list that holds another."""
    if ranking.items_NK is None:
        scores_NI = np.full(ranking.scores_NK.shape, -np.inf)
        scores_NI[:, candidates] = ranking.scores_NK[:, candidates]
        return Ranking(scores_NI)
    if not np.isin(ranking.items_NK[ranking.items_NK >= 0], candidates).all():
        raise ValueError(f"{name} lists an item that is no candidate")
    return ranking


def check_ranking(name: str, ranking: Ranking, num_users: int, num_items: int) -> None:
    """ValueError unless there is one row per user and each list holds real items, none twice, by falling score."""
    scores_NK, items_NK = ranking.scores_NK, ranking.items_NK
    if scores_NK.ndim != 2 or scores_NK.shape[0] != num_users:
        raise ValueError(f"{name} answers {num_users} histories with scores of shape {scores_NK.shape}")
    if np.isnan(scores_NK).any():
        raise ValueError(f"{name} gives a score that is not a number")
    if items_NK is None:
        if scores_NK.shape[1] != num_items:
            raise ValueError(f"{name} scores {scores_NK.shape[1]} items of a catalogue of {num_items}")
        return
    if items_NK.shape != scores_NK.shape:
        raise ValueError(f"{name} gives items of shape {items_NK.shape} with scores of shape {scores_NK.shape}")
    if items_NK.size and not (items_NK.min() >= -1 and items_NK.max() < num_items):
        raise ValueError(f"{name} lists an item that is not in the catalogue")
    present_NK = items_NK >= 0
    if (present_NK[:, 1:] & ~present_NK[:, :-1]).any():
        raise ValueError(f"{name} has a gap (-1) inside a list; -1 may only fill the end")
    sorted_NK = np.sort(items_NK, axis=1)
    if ((sorted_NK[:, 1:] == sorted_NK[:, :-1]) & (sorted_NK[:, 1:] >= 0)).any():
        raise ValueError(f"{name} lists an item twice for one user")
    if (present_NK[:, 1:] & (scores_NK[:, 1:] > scores_NK[:, :-1])).any():
        raise ValueError(f"{name} gives a list that is not sorted by falling score")
