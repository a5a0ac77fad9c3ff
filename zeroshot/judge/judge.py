"""The judge: histories in, one rank and the best ten items per user out.

Enters: a task and a recommender. Leaves: a `Judged`, in the order of the task's users. What must hold: each user is
judged exactly once; nothing that comes from a target reaches the recommender or decides what is excluded; the target
is used for one thing, the final look-up of its rank; every list holds real items, none twice, by falling score.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch

from pretrain.ranking.metrics import mid_ranks
from pretrain.runtime.watchdog import beat
from zeroshot.judge.user_blocks import Blocks, BlockStore
from zeroshot.protocol.recommender import PROTOCOLS, TOP, Judged, ProtocolName, Ranking, Recommender
from zeroshot.tasks.task import Task


def judge(
    task: Task,
    recommender: Recommender,
    protocol: ProtocolName,
    block: int = 256,
    progress: Callable[[int, int], None] | None = None,
) -> Judged:
    """Ranks of all judged users' targets, and their best ten items.

    Args:
        task: the catalogue and its users.
        recommender: is asked once per block of users.
        protocol: "all" ranks every item; "new" takes the history out, so a target bought before gets rank inf.
        block: users per question; the ranks do not depend on it.
        progress: called with (users done, users in all) after each block.

    Raises:
        ValueError: unknown protocol, the recommender's answer is malformed, or one user is too much for the memory.
    """
    blocks = Blocks.arrange(task, recommender, block)
    return blocks.joined(judge_blocks(task, recommender, (protocol,), blocks, range(len(blocks)), progress)[protocol])


def judge_protocols(task: Task, recommender: Recommender, block: int = 256) -> dict[ProtocolName, Judged]:
    """What `judge` says under every protocol, from one question per block of users."""
    blocks = Blocks.arrange(task, recommender, block)
    parts = judge_blocks(task, recommender, PROTOCOLS, blocks, range(len(blocks)))
    return {protocol: blocks.joined(judged) for protocol, judged in parts.items()}


def judge_blocks(
    task: Task,
    recommender: Recommender,
    protocols: Sequence[ProtocolName],
    blocks: Blocks,
    numbers: Iterable[int],
    progress: Callable[[int, int], None] | None = None,
    stores: Mapping[ProtocolName, BlockStore] = {},
    note: Callable[[str], None] = lambda line: None,
) -> dict[ProtocolName, dict[int, Judged]]:
    """Some blocks of a task by their number, under each protocol. A block that its protocol's store holds is not judged
    again; one that is judged is stored.

    `progress` is called with lists done and lists in all, `note` with blocks that were too large for the memory. Raises
    what `judge` raises.
    """
    for protocol in protocols:
        if protocol not in PROTOCOLS:
            raise ValueError(f"protocol {protocol!r} is none of {', '.join(PROTOCOLS)}")
    parts: dict[ProtocolName, dict[int, Judged]] = {protocol: {} for protocol in protocols}
    numbers, done = list(numbers), 0
    total = len(protocols) * sum(len(blocks.users(number)) for number in numbers)
    for number in reversed(numbers):  # the longest inputs first: what is too much for the memory is seen at once
        stored = {protocol: store.read(number) for protocol, store in stores.items()}
        judged = {protocol: block for protocol, block in stored.items() if block is not None}
        missing: list[ProtocolName] = [protocol for protocol in protocols if protocol not in judged]
        if missing:
            beat(f"{task.name}, {recommender.name}")
            judged |= in_halves(task, recommender, missing, blocks.users(number), note)
        for protocol in protocols:
            if protocol in missing and protocol in stores:
                stores[protocol].write(number, judged[protocol])
            parts[protocol][number] = judged[protocol]
            done += len(judged[protocol])
        if progress is not None:
            progress(done, total)
    return parts


def in_halves(
    task: Task, recommender: Recommender, protocols: Sequence[ProtocolName], users: np.ndarray,
    note: Callable[[str], None],
) -> dict[ProtocolName, Judged]:  # fmt: skip
    """The users of one block; where they are too many for the memory, each half alone, down to one user."""
    started = time.monotonic()
    try:
        histories = [task.histories[user] for user in users]
        rankings = answers(recommender, histories, protocols, len(task.items), task.candidates)
        judged: dict[ProtocolName, Judged] = {
            protocol: Judged(
                mid_ranks(ranking.scores_NK, ranking.items_NK, task.targets[users], len(task.items)),
                *top_items(ranking),
            )
            for protocol, ranking in rankings.items()
        }
        seconds = (time.monotonic() - started) / len(protocols)
        return {protocol: replace(block, seconds=seconds) for protocol, block in judged.items()}
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    # Outside the handler: the traceback would hold on to the memory of the call that failed.
    if len(users) == 1:
        raise ValueError(
            f"{task.name}: {recommender.name} runs out of memory for user {task.users[users[0]]} alone, with "
            f"{len(task.histories[users[0]])} items of history ({reason}); make search.beam smaller, start fewer "
            "processes, or give more memory"
        )
    note(f"{task.name}: {recommender.name} runs out of memory for {len(users)} users at once; each half is tried alone")
    half = len(users) // 2
    halves = [in_halves(task, recommender, protocols, part, note) for part in (users[:half], users[half:])]
    joined: dict[ProtocolName, Judged] = {}
    for protocol in protocols:
        joined[protocol] = Judged.joined([part[protocol] for part in halves])
    return joined


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that host or device have no memory left; torch says so in a RuntimeError."""
    words = ("out of memory", "can't allocate memory")
    return isinstance(error, MemoryError) or any(part in str(error).lower() for part in words)


def top_items(ranking: Ranking) -> tuple[np.ndarray, np.ndarray]:
    """The best ten items of each user and their scores, [N, 10]; of equal dense scores the lower row first."""
    items_NK, scores_NK = ranking.items_NK, ranking.scores_NK
    if items_NK is None:
        items_NK = best_rows(scores_NK, min(TOP, scores_NK.shape[1]))
        scores_NK = np.take_along_axis(scores_NK, items_NK, axis=1)
    items_NK, scores_NK = items_NK[:, :TOP], scores_NK[:, :TOP]
    present_NK = (items_NK >= 0) & (scores_NK > -np.inf)
    top_NK = np.full((len(items_NK), TOP), -1, dtype=np.int32)
    best_NK = np.full(top_NK.shape, -np.inf, dtype=np.float32)
    top_NK[:, : items_NK.shape[1]] = np.where(present_NK, items_NK, -1)
    best_NK[:, : items_NK.shape[1]] = np.where(present_NK, scores_NK, -np.inf)
    return top_NK, best_NK


def best_rows(scores_NI: np.ndarray, count: int) -> np.ndarray:
    """Columns of the `count` largest scores of each row, [N, count], the largest first, of equal ones the lower column;
    any columns for places without a score (-inf)."""
    # torch's is 4 to 60 times faster here than NumPy's partition, which is at its worst where most scores are equal.
    best_NK, chosen = torch.topk(torch.from_numpy(np.ascontiguousarray(scores_NI)), count)
    chosen_NK, limit_N1 = np.sort(chosen.numpy(), axis=1), best_NK.numpy()[:, -1:]
    # Which of the scores equal to the last one were taken is chance; where there are more of them, take the first.
    unsure_N = ((scores_NI >= limit_N1).sum(axis=1) > count) & (limit_N1[:, 0] > -np.inf)
    for row in np.flatnonzero(unsure_N):
        above = np.flatnonzero(scores_NI[row] > limit_N1[row])
        level = np.flatnonzero(scores_NI[row] == limit_N1[row])[: count - len(above)]
        chosen_NK[row] = np.sort(np.concatenate([above, level]))
    order_NK = np.argsort(-np.take_along_axis(scores_NI, chosen_NK, axis=1), axis=1, kind="stable")
    return np.take_along_axis(chosen_NK, order_NK, axis=1)


def answers(
    recommender: Recommender, histories: list[np.ndarray], protocols: Sequence[ProtocolName], num_items: int,
    candidates: np.ndarray | None = None,
) -> dict[ProtocolName, Ranking]:  # fmt: skip
    """A recommender's checked rankings of the candidates (None: all items), for `new` without the items of each
    history; sees no target."""
    rankings = recommender.rank(histories, protocols)
    checked: dict[ProtocolName, Ranking] = {}
    for protocol in protocols:
        ranking = rankings if isinstance(rankings, Ranking) else rankings[protocol]
        check_ranking(recommender.name, ranking, len(histories), num_items)
        if candidates is not None:
            ranking = among_candidates(recommender.name, ranking, candidates)
        checked[protocol] = ranking if protocol == "all" else without_history(recommender.name, ranking, histories)
    return checked


def without_history(name: str, ranking: Ranking, histories: list[np.ndarray]) -> Ranking:
    """Dense scores with the items of each user's history absent; ValueError for a list that holds one."""
    if ranking.items_NK is None:
        scores_NI = np.array(ranking.scores_NK, dtype=np.float64)
        for row, history in enumerate(histories):
            scores_NI[row, history] = -np.inf
        return Ranking(scores_NI)
    for items_K, history in zip(ranking.items_NK, histories, strict=True):
        if np.isin(items_K, history).any():
            raise ValueError(f"{name} lists an item of the history although the protocol is `new`")
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
