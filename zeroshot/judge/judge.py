"""The judge: histories in, one rank and the best ten items per user out, on one rank or on many.

Enters: a task and a recommender; the World where ranks share the users. Leaves: a `Judged` for each protocol, in the
order of the task's users. What must hold: each user is judged exactly once; nothing that comes from a target reaches
the recommender or decides what is excluded; the target is used for one thing, the final look-up of its rank; an
evaluation that is killed and given again goes on where it was, on any number of ranks, and ends with the same bytes.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from pretrain.ranking.metrics import mid_ranks
from pretrain.runtime.watchdog import beat
from pretrain.runtime.world import World
from zeroshot.judge.rankings import answers, top_items
from zeroshot.judge.user_blocks import Blocks, BlockStore, identity_of
from zeroshot.protocol.recommender import PROTOCOLS, Judged, ProtocolName, Recommender, Resumable
from zeroshot.tasks.task import Task

ByProtocol = dict[ProtocolName, Judged]
BLOCK = {"cpu": 32, "cuda": 64}
"""Users per block by the kind of device: one call of the model. A GPU waits for launches where they are few."""


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


def judge_shared(
    task: Task, recommender: Recommender, world: World, progress: Callable[[int, int], None],
    folder: Path | None = None, note: Callable[[str], None] = lambda line: None,
    protocols: tuple[ProtocolName, ...] = PROTOCOLS,
) -> ByProtocol:  # fmt: skip
    """All users under every protocol, their blocks shared out over the ranks. Collective.

    `folder`: where finished blocks of a resumable recommender are kept (None: nowhere).
    """
    blocks = Blocks.arrange(task, recommender, BLOCK[world.device.type])
    stores: dict[ProtocolName, BlockStore] = {}
    if folder is not None and isinstance(recommender, Resumable):
        own = recommender.identity()
        stores = {protocol: BlockStore(folder, identity_of(task, own, protocol, blocks)) for protocol in protocols}
    mine = judge_blocks(task, recommender, protocols, blocks, world.blocks(len(blocks), 1), progress, stores, note)
    gathered = world.gather(mine)
    assert sum(len(part[protocols[0]]) for part in gathered) == len(blocks), "a block was judged twice"
    return {
        protocol: blocks.joined({number: judged for part in gathered for number, judged in part[protocol].items()})
        for protocol in protocols
    }


def judge_baselines(task: Task, baselines: list[Recommender], world: World) -> dict[str, ByProtocol]:
    """The baselines, each judged on one rank. Collective."""
    mine: dict[str, ByProtocol] = {
        baseline.name: judge_protocols(task, baseline) for baseline in baselines[world.rank :: world.size]
    }
    return {name: judged for part in world.gather(mine) for name, judged in part.items()}
