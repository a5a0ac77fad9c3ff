"""A checkpoint as the judge and a person's own catalogue need it: its models, its ID books, its recommender.

Enters: a verified checkpoint or an export. Leaves: a `Checkpoint`; from it the ID book of an unseen catalogue and the
recommender over that book. Must hold: the shards that are judged have the tokenizer that the models were trained with;
IDs are always made by the given generator, so no stale file can win.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers.models.t5.modeling_t5 import T5ForConditionalGeneration

from pretrain.config.ids import IdConfig
from pretrain.config.prompt import PromptConfig
from pretrain.config.run import Precision
from pretrain.config.serialization import from_dict
from pretrain.data.user_ids import UserIds
from pretrain.decoding.config import SearchConfig
from pretrain.ids.book import Book
from pretrain.ids.book_cache import shelved_book
from pretrain.ids.journal import discard
from pretrain.model.t5 import DTYPES, load_model, on_device
from pretrain.ranking.generate import EVALUATION_TEMPLATE, GenerativeRecommender, Worth
from pretrain.runtime.progress import Reporter
from pretrain.runtime.world import World
from shards.files.store import local_copy
from shards.manifest import TOKENIZER_FOLDER
from shards.tables import ItemTable
from shards.tokenizer import fingerprint, load_tokenizer
from zeroshot.judge.judge import BLOCK
from zeroshot.judge.user_blocks import FOLDER
from zeroshot.protocol.config import EvaluateConfig


@dataclass(frozen=True)
class Checkpoint:
    """Both models and what they were before training (None: not kept or not asked for), the tokenizer, and how the run
    made IDs and prompts and searched."""

    recommender: T5ForConditionalGeneration
    generator: T5ForConditionalGeneration
    tokenizer: Any
    ids: IdConfig
    prompt: PromptConfig
    search: SearchConfig
    untrained: T5ForConditionalGeneration | None = None
    untrained_generator: T5ForConditionalGeneration | None = None

    def searching(self, prior_weight: float | None) -> Checkpoint:
        """The same with another share of the prior taken off the scores; None = as the run searched."""
        return self if prior_weight is None else replace(self, search=replace(self.search, prior_weight=prior_weight))


def read_model(
    folder: Path, part: str, tokenizer: Any, device: torch.device, precision: Precision = "fp32"
) -> T5ForConditionalGeneration:
    """The model in the subfolder `part`, a recommender in the given precision, a generator in float32."""
    model = on_device(load_model(str(folder / part), tokenizer), device)
    torch.nn.Module.to(model, DTYPES[precision] if part == "recommender" else torch.float32)
    return model


def read_checkpoint(
    folder: Path, config: dict[str, Any], tokenizer: Any, device: torch.device, precision: Precision = "fp32"
) -> Checkpoint:
    """The trained models of a checkpoint or an export; `config`: the run's, with `ids`, `prompt` and `search`."""
    return Checkpoint(
        recommender=read_model(folder, "recommender", tokenizer, device, precision),
        generator=read_model(folder, "generator", tokenizer, device),
        tokenizer=tokenizer,
        ids=from_dict(IdConfig, config["ids"]),
        prompt=from_dict(PromptConfig, config["prompt"]),
        search=from_dict(SearchConfig, config["search"]),
    )


def load_checkpoint(folder: Path, run: Path, state: dict[str, Any], config: EvaluateConfig, world: World) -> Checkpoint:
    """The models of a checkpoint for an evaluation, and those they started from where a control needs them.

    Raises:
        ValueError: the shards have another tokenizer, or the run kept no model that a control needs.
    """
    tokenizer = load_tokenizer(local_copy(config.shards, TOKENIZER_FOLDER))
    if fingerprint(load_tokenizer(folder / "recommender")) != fingerprint(tokenizer):
        raise ValueError(f"{config.shards} was built with another tokenizer than {folder}; build it with --tokenizer")

    def before(part: str, control: str) -> T5ForConditionalGeneration | None:
        if (run / "untrained" / part).is_dir():
            return read_model(run / "untrained", part, tokenizer, world.device, config.precision)
        if control in config.controls:
            raise ValueError(f"{run} kept no {part} from before training; leave {control} out of --controls")
        return None

    return replace(
        read_checkpoint(folder, state["config"], tokenizer, world.device, config.precision),
        untrained=before("recommender", "untrained"),
        untrained_generator=before("generator", "untrained-ids"),
    )


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
    book, report = shelved_book(
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
