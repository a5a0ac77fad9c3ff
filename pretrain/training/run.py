"""A training run: everything that lives between two optimiser steps, and how it is opened, saved and taken up again.

Enters: a PretrainConfig and the World. Leaves: models, book, plan, state and positions, either fresh or from the newest
good checkpoint of the run folder. Must hold: resuming with another configuration or other shards is refused; with
another number of ranks or another ZeRO stage it goes on.
"""

from __future__ import annotations

import dataclasses
import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from pretrain.config.run import Kind, PretrainConfig
from pretrain.data.batches import BatchMaker, GeneratorBatch, TextBatch, text_batch
from pretrain.data.micro_batches import Step, interaction_steps, teaching_steps
from pretrain.data.prompts import PromptBuilder
from pretrain.data.user_ids import UserIds
from pretrain.ids.book_cache import cached_book
from pretrain.ids.journal import discard
from pretrain.model.t5 import DTYPES, frozen_copy, on_device, outline, prepare
from pretrain.runtime.interrupt import Interrupted
from pretrain.runtime.progress import Reporter
from pretrain.runtime.watchdog import beat
from pretrain.runtime.world import Agreed, World
from pretrain.tracking.tracker import Tracker
from pretrain.training import checkpoint, loss_spikes
from pretrain.training.checkpoint_writer import CheckpointWriter
from pretrain.training.engine import Engine, StepResult
from pretrain.training.objectives import GeneratorObjective, RecommenderObjective
from pretrain.training.optimizer_state import OptimizerState
from pretrain.training.schedule import Phase, global_step, make_plan
from pretrain.training.state import RunState, StateFiles, taken, trained_model
from shards.files.store import local_copy
from shards.manifest import TOKENIZER_FOLDER, Manifest
from shards.records import Position
from shards.stream.stream import Stream
from shards.tables import load_items
from shards.tokenizer import EOS_ID, load_tokenizer

ID_PROGRESS = ".ids.progress"
MOST_REWINDS = 20


class Run:
    """One run on one rank: its state, and the engine that trains while a phase is under way."""

    def __init__(self, config: PretrainConfig, world: World, reporter: Reporter) -> None:
        self.config, self.world, self.reporter = config, world, reporter
        self.folder = Path(config.out)
        self.manifest = Manifest.load(config.shards)
        self.tokenizer: Any = load_tokenizer(local_copy(config.shards, TOKENIZER_FOLDER))
        beat("reading the items")
        self.items = load_items(config.shards, self.manifest)
        self.stream = Stream(
            config.shards, self.manifest, config.seed, world.rank, world.size,
            workers=config.stream_workers, length_window=config.length_window, prefix_run=config.prefix_run,
        )  # fmt: skip
        self.prompts = PromptBuilder(self.tokenizer, config.prompt)
        samples, scratch = self.manifest.num_samples, config.generator.start_from is None
        self.plan = make_plan(config.schedule, samples, len(self.items), config.batch_size, from_scratch=scratch)
        self.writing = CheckpointWriter(self.folder, world, config.keep_checkpoints)
        self.engine: Engine | None = None
        self.engine_kind: Kind | None = None
        self.tracker: Tracker | None = None
        self.changed: list[str] = []
        self._open()

    def _open(self, left_out: tuple[loss_spikes.Place, ...] = ()) -> None:
        """Take up the newest good checkpoint, or begin; `left_out` besides. Collective."""
        newest = self.world.main_says(lambda: checkpoint.newest_good(self.folder, self.reporter))
        if newest is None:
            positions = {kind: self.stream.start() for kind in ("teaching", "recommender", "generator")}
            self.state = self.files.new(positions)
        else:
            self.state, self.changed = self.files.read(newest, self.reporter)
        self._set(left_out=left_out or self.state.left_out)
        for model in filter(None, (*self.state.models.values(), self.state.writer)):
            on_device(model, self.world.device)

    def _set(self, **changes: Any) -> None:
        self.state = dataclasses.replace(self.state, **changes)

    @property
    def files(self) -> StateFiles:
        """What reads and writes this run's states."""
        return StateFiles(self.config, self.manifest.sha256(), self.plan, self.tokenizer, self.world)

    @property
    def phase(self) -> Phase:
        return self.plan[self.state.schedule.phase]

    @property
    def finished(self) -> bool:
        return self.state.schedule.phase == len(self.plan)

    @property
    def run_id(self) -> str | None:
        """MLflow's name of the run, as far as it is known."""
        return self.tracker.run_id if self.tracker is not None else self.state.run_id

    @property
    def shapes(self) -> tuple[object, object]:
        """The T5 configurations of the model that reads prompts, and of the generator."""
        return self.state.models[trained_model(self.phase.kind)].config, self.state.models["generator"].config

    def refresh_ids(self, asked: Callable[[], int]) -> dict[str, float]:
        """Make the ID book of the Fusion with the generator as it is now, or take it from `config.books`. Returns
        figures about it.

        `asked`: see `make_book`.
        """
        config, generator = self.config, self.state.models["generator"]
        book, report = cached_book(
            Path(config.books) if config.books else None, generator, self.tokenizer, self.items, config.ids,
            self.world, self.reporter, journal=self.folder / ID_PROGRESS, asked=asked,
        )  # fmt: skip
        self.reporter.line(f"  {book.describe()}{'' if report else ': taken from ' + str(config.books)}")
        figures = book.summary()
        if report is not None:
            figures |= {"waves": report.waves, "collisions": report.collisions, "seconds": report.seconds}
        if self.state.book is not None:
            figures["share_changed"] = book.difference(self.state.book).share_changed
        self._set(book=book)
        if config.prompt.user_id != "none":
            self._set(writer=frozen_copy(generator))
        return figures

    def start_engine(self) -> Engine:
        """The engine of the current phase, with the optimiser state of that objective where a checkpoint holds one.
        The model that it trains leaves the state. Collective."""
        kind = self.phase.kind
        model, models = self.state.models[trained_model(kind)], self.state.models
        self._set(models=models | {trained_model(kind): outline(model)})
        if kind == "generator":
            frozen = frozen_copy(models["recommender"])
            torch.nn.Module.to(frozen, DTYPES[self.config.engine.precision])  # soft IDs come at that precision
            objective = GeneratorObjective(model, frozen, self.config.soft_ids, self.config.dropout)
        else:
            objective = RecommenderObjective(model, self.config.dropout)
        prepare(model, self.config.engine)
        objective.train()
        before = self.files.weights_before(self.state)
        self.world.barrier()  # rank 0 may have read a model alone
        self.engine, self.engine_kind = Engine(objective, self.config, self.world, before), kind
        last = self.state.last_checkpoint
        if last and (last / "engines" / kind).is_dir():
            saved = OptimizerState(last / "engines" / kind)
            self.engine.load(saved.tensor, self.state.engine_steps[kind], self._filler(kind))
        return self.engine

    def take(self, all_weights: bool = False) -> RunState:
        """The state as a checkpoint holds it, with the engine's weights and moments in it. Collective."""
        assert self.engine is not None and self.engine_kind is not None
        return taken(self.state, self.engine_kind, self.engine, self.world, all_weights)

    def stop_engine(self) -> None:
        """Take the trained weights and the moments into the state, as a checkpoint would give them, and free the
        engine. Collective."""
        kind, self.state = self.engine_kind, self.take(all_weights=True)
        self._close_engine()
        on_device(self.state.models[trained_model(str(kind))], self.world.device)

    def _close_engine(self) -> None:
        assert self.engine is not None
        self.engine.close()
        self.engine = self.engine_kind = None
        gc.collect()  # DeepSpeed's engine and optimiser refer to each other

    def steps(self) -> Iterator[Step]:
        """Micro-batches of the current phase from the current position on."""
        kind, position = self.phase.kind, self.state.positions[self.phase.kind]
        if kind == "teaching":
            return teaching_steps(self.tokenizer, self.items, position, self.config, self.world)
        return interaction_steps(kind, self.stream, self._maker(), position, self.config, self.world)

    def _maker(self) -> BatchMaker:
        book, writer = self.state.book, self.state.writer
        assert book is not None, "the plan makes the ID book before the first phase that needs it"
        config, tokens = self.config, self.config.ids.item_text_tokens
        users = None if writer is None else UserIds(writer, self.tokenizer, self.items, config.prompt).write
        return BatchMaker(self.prompts, book, self.items, tokens, config.seed, config.history_dropout, users)

    def _filler(self, kind: Kind) -> TextBatch | GeneratorBatch:
        """A batch without targets."""
        if kind == "teaching":
            return text_batch([[]], [[]], EOS_ID, [0])
        maker = self._maker()
        return maker.generator_batch([None], 0) if kind == "generator" else maker.recommender_batch([None], 0)

    def advance(self, position: Position, result: StepResult | None) -> None:
        """Stand behind one more step."""
        loss = result.loss if result is not None and result.num_targets else None
        self.state = self.state.advanced(self.plan, position, loss)

    def save(self) -> None:
        """Write a checkpoint between two steps, of the engine as it is or as it was when it stopped. Collective."""
        self.finish_save()
        state = self.state if self.engine is None else self.take()
        state, files = dataclasses.replace(state, run_id=self.run_id), self.files
        self._set(optimizer=None)  # the writer frees it
        self.writing.begin(global_step(self.plan, state.schedule), lambda folder: files.write(folder, state))
        if not self.config.checkpoint_in_background:
            self.finish_save()

    def finish_save(self) -> None:
        """Wait for the checkpoint that is being written, if one is. Collective."""
        done = self.writing.finish()
        if done is not None:
            self._set(last_checkpoint=done)
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
                self.writing.undo()
            raise
        self.finish_save()

    def rewind(self, bad: loss_spikes.BadStep) -> None:
        """Go back to the last checkpoint and leave the batch of the bad step out. Collective."""
        if len(self.state.left_out) == MOST_REWINDS:
            raise Agreed(
                f"{MOST_REWINDS} batches were left out already, and {bad}; lower the learning rate and start anew"
            )
        self.finish_save()
        self._close_engine()
        if self.tracker is not None:
            self.tracker.rewound()
        self.reporter.line(f"{bad}: going back to the last checkpoint and leaving that batch out")
        self._open((*self.state.left_out, bad.place))
