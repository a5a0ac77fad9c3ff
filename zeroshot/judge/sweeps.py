"""Sweeps: the model at other beams and with the other templates, on a seeded sample of users.

Enters: a task, what makes the model at a setting, the World. Leaves: rows of the results' `sweeps`. Must hold: every
setting is judged on the same users under protocol `all`; nothing is chosen by it: the run's own beam and template 0 are
what the report's other numbers come from.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np

from pretrain.config.prompt import TEMPLATES
from pretrain.runtime.world import World
from shards import counters
from zeroshot.judge.judge import judge_shared
from zeroshot.judge.rows import measured
from zeroshot.protocol.recommender import Recommender
from zeroshot.tasks.task import Task

Setting = Literal["beam", "template"]
BEAMS = (10, 20, 50)
SETTINGS: tuple[tuple[Setting, tuple[int, ...]], ...] = (
    ("beam", BEAMS),
    ("template", tuple(range(1, len(TEMPLATES) + 1))),
)
"""Templates are counted from 1, as the paper does."""


def sample(task: Task, count: int, seed: int) -> Task:
    """The task with `count` of its judged users, in their order (all, where there are fewer)."""
    draw = counters.generator(seed, "sweep-users", task.name)
    rows = np.sort(draw.permutation(len(task.users))[:count])
    return task.of(rows)


def sweep(
    task: Task,
    make: Callable[[Setting, int], Recommender],
    count: int,
    seed: int,
    world: World,
    progress: Callable[[str, int, int], None],
    folder: Path | None = None,
    note: Callable[[str], None] = lambda line: None,
) -> list[dict[str, Any]]:
    """One row per setting and value, on `count` users. Collective.

    Args:
        make: the model at a beam, or with a template counted from 1.
        progress: called with what is under way, users done, users in all.
        folder: where finished blocks are kept, as `judge_shared` has it.
    """
    few = sample(task, count, seed)
    rows: list[dict[str, Any]] = []
    for setting, values in SETTINGS:
        for value in values:
            label = f"{setting} {value}"

            def advance(done: int, total: int, label: str = label) -> None:
                progress(label, done, total)

            judged = judge_shared(few, make(setting, value), world, advance, folder, note, ("all",))["all"]
            where = {"task": task.name, "protocol": "all", "setting": setting, "value": value}
            row = where | measured(judged.ranks_N, seed)
            if setting == "beam":
                # Of one rank: what the ranks took together, over all users.
                row["ms_per_user"] = round(1e3 * judged.seconds / len(few.users), 2)
            rows.append(row)
    return rows
