"""One checkpoint on one unseen task: a new ID book by its own generator, a new trie, ranks of every user.

Enters: models, a task, the World. Leaves: the book and, on every rank, what is judged of all users in the task's order.
Must hold: the users are shared out over the ranks, each judged on exactly one; IDs are always made by the given
generator, so no stale file can win; an evaluation that is killed and given again goes on where it was, on any number of
ranks, and ends with the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from transformers.models.t5.modeling_t5 import T5ForConditionalGeneration

from pretrain.config.ids import IdConfig
from pretrain.config.prompt import PromptConfig
from pretrain.data.user_ids import UserIds
from pretrain.decoding.config import SearchConfig
from pretrain.ids.book import Book
from pretrain.ids.book_cache import cached_book
from pretrain.ids.journal import discard
from pretrain.ranking.generate import EVALUATION_TEMPLATE, GenerativeRecommender, Worth
from pretrain.runtime.progress import Reporter
from pretrain.runtime.world import World
from shards.tables import ItemTable
from zeroshot.judge.judge import PROTOCOLS, Scope, judge_blocks, judge_protocols
from zeroshot.judge.user_blocks import FOLDER, Blocks, Kept, identity_of
from zeroshot.protocol.recommender import Judged, Recommender, Resumable
from zeroshot.tasks.task import Task

ByProtocol = dict[Scope, Judged]
BLOCK = {"cpu": 32, "cuda": 64}
"""Users per block by the kind of device: one call of the model. A GPU waits for launches where they are few."""


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
    checkpoint: Checkpoint, items: ItemTable, dataset: str, out: Path, world: World, reporter: Reporter,
    untrained: bool = False, books: Path | None = None,
) -> Book:  # fmt: skip
    """The ID book of an unseen catalogue, saved in the folder `out`: by the trained generator or, for the control
    "untrained-ids", by the generator before training. Collective.

    It is taken from the shelf `books`, by default that of an evaluation that was killed, where it was made by the same
    generator, with the same options and of the same texts.
    """
    generator = checkpoint.untrained_generator if untrained else checkpoint.generator
    assert generator is not None
    name = f"{dataset}-untrained" if untrained else dataset
    path, progress = out / f"book-{name}.arrow", out / f".book-{name}.progress"
    book, report = cached_book(
        books or out / FOLDER, generator, checkpoint.tokenizer, items, checkpoint.ids, world, reporter,
        what=f"{name}, IDs", journal=progress,
    )  # fmt: skip
    reporter.line(f"  {book.describe()}{'' if report else ': made before'}")
    if world.is_main:
        book.save(path)
        discard(progress)
    return book


def generative(
    checkpoint: Checkpoint, name: str, book: Book, items: ItemTable, search: SearchConfig,
    candidates: np.ndarray | None = None, template: int = EVALUATION_TEMPLATE,
    log_prior: Sequence[np.ndarray] | None = None, worth: Worth | None = None, never_repeat: bool = False,
) -> GenerativeRecommender:  # fmt: skip
    """The same model before training where the name is "untrained", else the trained one ("idgenrec"; "untrained-ids"
    over a book of the untrained generator), over a book and the texts of its items, which histories consist of where
    the run's did. Users' IDs are those of the generator that wrote the book."""
    model = model_of(checkpoint, name)
    return GenerativeRecommender(
        name, model, checkpoint.tokenizer, book.token_ids, checkpoint.prompt, search, BLOCK[model.device.type],
        candidates=candidates, items=items, template=template, log_prior=log_prior, worth=worth,
        never_repeat=never_repeat,
        generator=checkpoint.untrained_generator if name == "untrained-ids" else checkpoint.generator,
    )  # fmt: skip


def model_of(checkpoint: Checkpoint, name: str) -> T5ForConditionalGeneration:
    """The recommender that a name stands for."""
    model = checkpoint.untrained if name == "untrained" else checkpoint.recommender
    assert model is not None
    return model


def user_ids_of(checkpoint: Checkpoint, items: ItemTable, histories: list[np.ndarray]) -> list[str] | None:
    """The IDs that prompts name these users by, as text; None where they name nobody."""
    if checkpoint.prompt.user_id == "none":
        return None
    written = UserIds(checkpoint.generator, checkpoint.tokenizer, items, checkpoint.prompt).write(histories)
    return checkpoint.tokenizer.batch_decode(written)


def judge_shared(
    task: Task, recommender: Recommender, world: World, progress: Callable[[int, int], None],
    folder: Path | None = None, note: Callable[[str], None] = lambda line: None,
    protocols: tuple[Scope, ...] = PROTOCOLS,
) -> ByProtocol:  # fmt: skip
    """All users under every protocol, their blocks shared out over the ranks. Collective.

    `folder`: where finished blocks of a resumable recommender are kept (None: nowhere).
    """
    blocks = Blocks.arrange(task, recommender, BLOCK[world.device.type])
    mine = world.blocks(len(blocks), 1)[::-1]  # the longest inputs first: too much for the memory is seen at once
    kept: dict[Scope, Kept | None] = dict.fromkeys(protocols)
    if folder is not None and isinstance(recommender, Resumable):
        own = recommender.identity()
        kept |= {protocol: Kept(folder, identity_of(task, own, protocol, blocks)) for protocol in protocols}
    found: dict[Scope, dict[int, Judged]] = {protocol: {} for protocol in protocols}
    done, total = 0, len(protocols) * sum(len(blocks.users(number)) for number in mine)
    for number in mine:
        for protocol in protocols:  # in turn, so that a model reads its input once
            found[protocol] |= judge_blocks(
                task, recommender, protocol, blocks, [number], kept=kept[protocol], note=note
            )  # fmt: skip
            done += len(blocks.users(number))
            progress(done, total)
    gathered = world.gather(found)
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


def browsable_users(
    task: Task, book: Book, judged: Judged, count: int, user_ids: list[str] | None = None
) -> list[dict[str, Any]]:
    """The first `count` users with history, top ten, target and rank, as IDs, for the report (protocol `all`), and with
    their own IDs where they have some."""
    return [
        {
            "user": user,
            **({} if user_ids is None else {"user_id": user_ids[index]}),
            "history": [book.texts[row] for row in task.histories[index]],
            "target": book.texts[task.targets[index]],
            "list": [
                [book.texts[row], float(score)]
                for row, score in zip(judged.top_NK[index], judged.scores_NK[index], strict=True)
                if row >= 0
            ],
            "rank": float(judged.ranks_N[index]),
        }
        for index, user in enumerate(task.users[:count])
    ]
