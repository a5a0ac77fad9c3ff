"""One checkpoint on one unseen task: a new ID book by its own generator, a new trie, ranks of every user.

Enters: models, a task, the World. Leaves: the book and, on every rank, the ranks of all users in the task's order. Must
hold: the users are shared out over the ranks, each judged on exactly one; IDs are always made by the given generator,
so
no stale file can win.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from transformers import T5ForConditionalGeneration

from pretrain.config import PromptConfig, SearchConfig
from pretrain.ids.book import Book
from pretrain.ids.config import IdConfig
from pretrain.ids.job import make_book
from pretrain.ids.journal import discard
from pretrain.ranking import GenerativeRecommender
from pretrain.reporter import Reporter
from pretrain.world import World
from shards.tables import ItemTable
from zeroshot.interface import Recommender
from zeroshot.judge import PROTOCOLS, Scope, judge
from zeroshot.tasks import Task

Ranks = dict[Scope, np.ndarray]
BLOCK = 64


@dataclass(frozen=True)
class Checkpoint:
    """What is judged: both models, the tokenizer, and how the run made IDs and prompts."""

    recommender: T5ForConditionalGeneration
    generator: T5ForConditionalGeneration
    untrained: T5ForConditionalGeneration | None
    untrained_generator: T5ForConditionalGeneration | None
    tokenizer: Any
    ids: IdConfig
    prompt: PromptConfig


def task_book(
    checkpoint: Checkpoint, items: ItemTable, task: Task, out: Path, world: World, reporter: Reporter,
    untrained: bool = False,
) -> Book:  # fmt: skip
    """The ID book of the unseen catalogue, saved in the folder `out`: by the trained generator or, for the control
    "untrained-ids", by the generator before training. Collective."""
    generator = checkpoint.untrained_generator if untrained else checkpoint.generator
    if generator is None:
        raise ValueError("the run kept no generator from before training (untrained/generator in its folder)")
    name = f"{task.name}-untrained" if untrained else task.name
    progress = out / f".book-{name}.progress"
    book, _ = make_book(
        generator, checkpoint.tokenizer, items, checkpoint.ids, world, reporter, f"{name}, IDs", journal=progress
    )
    reporter.line(f"  {book.describe()}")
    if world.is_main:
        book.save(out / f"book-{name}.arrow")
        discard(progress)
    return book


def generative(
    checkpoint: Checkpoint, name: str, book: Book, items: ItemTable, search: SearchConfig,
    candidates: np.ndarray | None = None,
) -> GenerativeRecommender:  # fmt: skip
    """The same model before training where the name is "untrained", else the trained one ("idgenrec"; "untrained-ids"
    over a book of the untrained generator), over a book and the texts of its items, which histories consist of where
    the run's did."""
    model = checkpoint.untrained if name == "untrained" else checkpoint.recommender
    assert model is not None
    return GenerativeRecommender(
        name, model, checkpoint.tokenizer, book.token_ids, checkpoint.prompt, search, candidates=candidates, items=items
    )


def judge_shared(task: Task, recommender: Recommender, world: World, progress: Callable[[int, int], None]) -> Ranks:
    """Ranks of all users under both protocols, the users shared out over the ranks. Collective."""
    mine = world.blocks(len(task.users), BLOCK)
    part = replace(
        task,
        users=[task.users[user] for user in mine],
        histories=[task.histories[user] for user in mine],
        targets=task.targets[mine],
    )
    done = 0

    def advance(now: int, total: int) -> None:
        progress(done + now, len(PROTOCOLS) * total)

    found: dict[Scope, np.ndarray] = {}
    for protocol in PROTOCOLS:
        found[protocol] = judge(part, recommender, protocol, block=BLOCK, progress=advance)
        done += len(mine)
    collected: Ranks = {}
    parts = world.gather((mine, found))
    for protocol in PROTOCOLS:
        ranks_N = np.full(len(task.users), np.nan)
        for users, ranks in parts:
            assert np.isnan(ranks_N[users]).all(), "a user was judged twice"
            ranks_N[users] = ranks[protocol]
        assert not np.isnan(ranks_N).any(), "a user was not judged"
        collected[protocol] = ranks_N
    return collected


def judge_baselines(task: Task, baselines: list[Recommender], world: World) -> dict[str, Ranks]:
    """Ranks of the baselines, each computed on one rank. Collective."""
    mine: dict[str, Ranks] = {
        baseline.name: {protocol: judge(task, baseline, protocol) for protocol in PROTOCOLS}
        for baseline in baselines[world.rank :: world.size]
    }
    return {name: ranks for part in world.gather(mine) for name, ranks in part.items()}


def browsable_users(task: Task, book: Book, recommender: GenerativeRecommender, count: int) -> list[dict[str, Any]]:
    """The first `count` users with history, top ten, target and rank, as IDs, for the report (protocol `all`)."""
    part = replace(task, users=task.users[:count], histories=task.histories[:count], targets=task.targets[:count])
    ranking = recommender.rank(part.histories, exclude_history=False)
    ranks_N = judge(part, recommender, "all")
    assert ranking.items_NK is not None
    return [
        {
            "user": user,
            "history": [book.texts[row] for row in part.histories[index]],
            "target": book.texts[part.targets[index]],
            "list": [
                [book.texts[row], float(score)]
                for row, score in zip(ranking.items_NK[index, :10], ranking.scores_NK[index, :10], strict=True)
                if row >= 0
            ],
            "rank": float(ranks_N[index]),
        }
        for index, user in enumerate(part.users)
    ]
