"""A training run: everything that lives between two optimiser steps, and how it is opened, saved and taken up again.

Enters: a PretrainConfig and the World. Leaves: models, book, plan, state and positions, either fresh or from the newest
good checkpoint of the run folder. Must hold: resuming with another configuration or other shards is refused; with
another number of ranks or another ZeRO stage it goes on.
"""

from __future__ import annotations

import gc
import math
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers.models.t5.modeling_t5 import T5ForConditionalGeneration

from pretrain.config.run import Kind, PretrainConfig
from pretrain.data.batches import BatchMaker, GeneratorBatch, TextBatch, text_batch
from pretrain.data.micro_batches import Step, interaction_steps, teaching_steps
from pretrain.data.prompts import PromptBuilder
from pretrain.data.user_ids import UserIds
from pretrain.ids.book import Book
from pretrain.ids.book_cache import shelved_book
from pretrain.ids.journal import discard
from pretrain.model.t5 import (
    DTYPES,
    build_model,
    filled,
    frozen_copy,
    load_model,
    on_device,
    outline,
    prepare,
    save_model,
)
from pretrain.runtime.interrupt import Interrupted
from pretrain.runtime.progress import Reporter
from pretrain.runtime.watchdog import beat
from pretrain.runtime.world import Agreed, World
from pretrain.tracking.tracker import Tracker
from pretrain.training import checkpoint, loss_spikes, state
from pretrain.training.checkpoint_writer import Saver
from pretrain.training.engine import Engine, StepResult
from pretrain.training.objectives import GeneratorObjective, RecommenderObjective
from pretrain.training.optimizer_state import Moments
from pretrain.training.run_identity import identity
from pretrain.training.schedule import Phase, State, advance, global_step, make_plan
from shards.files.store import local_copy
from shards.manifest import TOKENIZER_FOLDER, Manifest
from shards.records import Position
from shards.stream.stream import Stream
from shards.tables import load_items
from shards.tokenizer import EOS_ID, load_tokenizer

ID_PROGRESS = ".ids.progress"
MOST_REWINDS = 20


class Run:
    """The state of one run on one rank."""

    def __init__(self, config: PretrainConfig, world: World, reporter: Reporter) -> None:
        self.config, self.world, self.reporter = config, world, reporter
        self.folder, self.identity = Path(config.out), identity(config)
        self.manifest = Manifest.load(config.shards)
        self.tokenizer: Any = load_tokenizer(local_copy(config.shards, TOKENIZER_FOLDER))
        beat("reading the items")
        self.items = load_items(config.shards, self.manifest)
        self.stream = Stream(
            config.shards,
            self.manifest,
            config.seed,
            world.rank,
            world.size,
            workers=config.stream_workers,
            length_window=config.length_window,
            prefix_run=config.prefix_run,
        )
        self.prompts = PromptBuilder(self.tokenizer, config.prompt)
        self.plan = make_plan(
            config.schedule,
            self.manifest.num_samples,
            len(self.items),
            config.batch_size,
            from_scratch=config.generator.start_from is None,
        )
        self.saver = Saver(self.folder, world, config.keep_checkpoints)
        self.engine: Engine | None = None
        self.engine_kind: Kind | None = None
        self.outline: T5ForConditionalGeneration | None = None
        self.tracker: Tracker | None = None
        self.tracked_as: str | None = None
        self.left_out: list[tuple[str, int, int]] = []
        self.changed: list[str] = []
        self._open()

    def _open(self) -> None:
        """Take up the newest good checkpoint, or begin. Collective."""
        self.state = State()
        self.positions = {kind: self.stream.start() for kind in ("teaching", "recommender", "generator")}
        self.engine_steps: dict[str, int] = {}
        self.recent_losses: deque[float] = deque(maxlen=loss_spikes.LEAST)  # of the phase
        self.book: Book | None = None
        self.writer: T5ForConditionalGeneration | None = None  # of users' IDs: the generator that wrote the book
        self.validation: dict[str, float] | None = None  # of this very state
        self.last_checkpoint = self.world.main_says(lambda: checkpoint.newest_good(self.folder, self.reporter))
        if self.last_checkpoint is None:
            self._begin()
        else:
            state.put_back(self, self.last_checkpoint)
        for model in filter(None, (*self.models.values(), self.writer)):
            on_device(model, self.world.device)

    def _begin(self) -> None:
        config = self.config
        self.models = {
            "recommender": build_model(config.recommender, self.tokenizer, config.seed * 2),
            "generator": build_model(config.generator, self.tokenizer, config.seed * 2 + 1),
        }
        if self.world.is_main:  # the judge's controls: both models before training
            for name, model in self.models.items():
                save_model(model, self.tokenizer, self.folder / "untrained" / name)

    @property
    def phase(self) -> Phase:
        return self.plan[self.state.phase]

    @property
    def finished(self) -> bool:
        return self.state.phase == len(self.plan)

    @property
    def run_id(self) -> str | None:
        """MLflow's name of the run, as far as it is known."""
        return self.tracker.run_id if self.tracker is not None else self.tracked_as

    def refresh_ids(self, asked: Callable[[], int]) -> dict[str, float]:
        """Make the ID book of the Fusion with the generator as it is now, or take it from `config.books`. Returns
        figures about it.

        `asked`: see `make_book`.
        """
        book, report = shelved_book(
            Path(self.config.books) if self.config.books else None, self.models["generator"], self.tokenizer,
            self.items, self.config.ids, self.world, self.reporter, journal=self.folder / ID_PROGRESS, asked=asked,
        )  # fmt: skip
        self.reporter.line(f"  {book.describe()}{'' if report else ': taken from ' + str(self.config.books)}")
        figures = book.summary()
        if report is not None:
            figures |= {"waves": report.waves, "collisions": report.collisions, "seconds": report.seconds}
        if self.book is not None:
            figures["share_changed"] = book.difference(self.book).share_changed
        self.book = book
        if self.config.prompt.user_id != "none":
            self.writer = frozen_copy(self.models["generator"])
        return figures

    @staticmethod
    def trains(kind: str) -> str:
        """The model that a phase of this kind trains."""
        return "recommender" if kind == "recommender" else "generator"

    def start_engine(self) -> Engine:
        """The engine of the current phase, with the optimiser state of that objective where a checkpoint holds one."""
        kind = self.phase.kind
        model = self.models[self.trains(kind)]
        self.outline = outline(model)
        if kind == "generator":
            frozen = frozen_copy(self.models["recommender"])
            torch.nn.Module.to(frozen, DTYPES[self.config.engine.precision])  # soft IDs come at that precision
            objective = GeneratorObjective(model, frozen, self.config.soft_ids, self.config.dropout)
        else:
            objective = RecommenderObjective(model, self.config.dropout)
        prepare(model, self.config.engine)
        objective.train()
        before = self._weights_before()
        self.world.barrier()  # rank 0 may have read a model alone
        self.engine, self.engine_kind = Engine(objective, self.config, self.world, before), kind
        if self.last_checkpoint and (self.last_checkpoint / "engines" / kind).is_dir():
            saved = Moments(self.last_checkpoint / "engines" / kind)
            self.engine.load(saved.tensor, self.engine_steps[kind], self._filler(kind))
        return self.engine

    def _weights_before(self) -> dict[str, Tensor] | None:
        """On rank 0 in the middle of a phase: the weights at its start, while their checkpoint is there."""
        if self.state.step == 0 or not self.world.is_main:
            return None
        first = self.state.phase == 0
        start = self.folder / "untrained" if first else checkpoint.phase_start(self.folder, self.state.phase)
        if start is None:
            return None
        model = load_model(str(start / self.trains(self.phase.kind)), self.tokenizer)
        return {f"model.{name}": parameter.detach() for name, parameter in model.named_parameters()}

    def stop_engine(self) -> None:
        """Take the trained weights out of the engine, as a checkpoint would give them, and free it. Collective."""
        engine, kind, outlined = self.engine, self.engine_kind, self.outline
        assert engine is not None and kind is not None and outlined is not None
        weights = {name.removeprefix("model."): weight.clone() for name, weight in engine.weights()}
        engine.close()
        self.models[self.trains(kind)] = filled(outlined, weights)
        del engine
        self.engine = self.engine_kind = self.outline = None
        gc.collect()  # DeepSpeed's engine and optimiser refer to each other

    @property
    def shapes(self) -> tuple[object, object]:
        """The T5 configurations of the model that reads prompts, and of the generator."""
        return self.models[self.trains(self.phase.kind)].config, self.models["generator"].config

    def steps(self) -> Iterator[Step]:
        """Micro-batches of the current phase from the current position on."""
        kind, position = self.phase.kind, self.positions[self.phase.kind]
        if kind == "teaching":
            return teaching_steps(self.tokenizer, self.items, position, self.config, self.world)
        return interaction_steps(kind, self.stream, self._maker(), position, self.config, self.world)

    def _maker(self) -> BatchMaker:
        assert self.book is not None, "the plan makes the ID book before the first phase that needs it"
        config = self.config
        tokens, writer = config.ids.item_text_tokens, self.writer
        users = None if writer is None else UserIds(writer, self.tokenizer, self.items, config.prompt).write
        return BatchMaker(self.prompts, self.book, self.items, tokens, config.seed, config.history_dropout, users)

    def _filler(self, kind: Kind) -> TextBatch | GeneratorBatch:
        """A batch without targets."""
        if kind == "teaching":
            return text_batch([[]], [[]], EOS_ID, [0])
        maker = self._maker()
        return maker.generator_batch([None], 0) if kind == "generator" else maker.recommender_batch([None], 0)

    def advance(self, position: Position, result: StepResult | None) -> None:
        """Stand behind one more step. The score of the state before is not this one's, losses are of one phase."""
        self.positions[self.phase.kind] = position
        self.state, self.validation = advance(self.plan, self.state), None
        if self.state.step == 0:
            self.recent_losses.clear()
        elif result is not None and result.num_targets and math.isfinite(result.loss):
            self.recent_losses.append(result.loss)  # of a step without weight too: else the median would never move

    def save(self, write: state.Write | None = None) -> None:
        """Write a checkpoint between two steps: of the engine as it is, or as it was when `write` was taken (finish the
        checkpoint before that first). Collective."""
        self.finish_save()
        copied = write or state.take(self)
        taken = state.state_of(self)
        self.saver.begin(global_step(self.plan, self.state), lambda folder: copied(folder, taken))
        if not self.config.checkpoint_in_background:
            self.finish_save()

    def finish_save(self) -> None:
        """Wait for the checkpoint that is being written, if one is. Collective."""
        done = self.saver.finish()
        if done is not None:
            self.last_checkpoint = done
            # The checkpoint holds the book. No rank begins the journal of the next one before this one is gone.
            self.world.main_says(lambda: discard(self.folder / ID_PROGRESS))

    @contextmanager
    def saving(self) -> Iterator[None]:
        """Whatever ends the block, a checkpoint that began in it is finished, where all ranks end alike, or undone."""
        try:
            yield
        except BaseException as end:
            if isinstance(end, Interrupted | Agreed) or (self.world.size == 1 and isinstance(end, Exception)):
                try:
                    self.finish_save()
                except Agreed:
                    self.reporter.line(str(end))  # what is raised now says why nothing is saved
                    raise
            else:
                self.saver.undo()
            raise
        self.finish_save()

    def rewind(self, bad: loss_spikes.BadStep) -> None:
        """Go back to the last checkpoint and leave the batch of the bad step out. Collective."""
        assert self.engine is not None
        if len(self.left_out) == MOST_REWINDS:
            raise Agreed(
                f"{MOST_REWINDS} batches were left out already, and {bad}; lower the learning rate and start anew"
            )
        self.finish_save()
        self.engine.close()
        self.engine = self.engine_kind = self.outline = None
        self.left_out.append(bad.place)
        if self.tracker is not None:
            self.tracker.rewound()
        self.reporter.line(f"{bad}: going back to the last checkpoint and leaving that batch out")
        self._open()
