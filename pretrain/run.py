"""A training run: everything that lives between two optimiser steps, and how it is opened, saved and taken up again.

Enters: a PretrainConfig and the World. Leaves: models, book, plan, state and positions, either fresh or from the newest
complete checkpoint of the run folder. Must hold: resuming with another configuration or other shards is refused.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from transformers import T5ForConditionalGeneration

from pretrain import checkpoint
from pretrain.batches import BatchMaker
from pretrain.config import PretrainConfig
from pretrain.engine import Engine
from pretrain.feed import Step, interaction_steps, teaching_steps
from pretrain.identity import identity
from pretrain.ids.book import Book
from pretrain.ids.job import make_book
from pretrain.ids.journal import discard
from pretrain.models import build_model, frozen_copy, load_model, on_device, save_model
from pretrain.objectives import GeneratorObjective, RecommenderObjective
from pretrain.prompts import PromptBuilder
from pretrain.reporter import Reporter
from pretrain.schedule import Phase, State, global_step, make_plan
from pretrain.tracking import Tracker, default_uri
from pretrain.world import World
from shards.manifest import TOKENIZER_FOLDER, Manifest
from shards.records import Position
from shards.store import local_copy
from shards.stream import Stream
from shards.tables import load_items
from shards.tokenizer import load_tokenizer

ID_PROGRESS = ".ids.progress"


class Run:
    """The state of one run on one rank."""

    def __init__(self, config: PretrainConfig, world: World, reporter: Reporter) -> None:
        self.config, self.world, self.reporter = config, world, reporter
        self.folder = Path(config.out)
        self.manifest = Manifest.load(config.shards)
        self.tokenizer: Any = load_tokenizer(local_copy(config.shards, TOKENIZER_FOLDER))
        self.items = load_items(config.shards, self.manifest)
        self.stream = Stream(
            config.shards,
            self.manifest,
            config.seed,
            world.rank,
            world.size,
            workers=config.stream_workers,
            length_window=config.length_window,
        )
        self.prompts = PromptBuilder(self.tokenizer, config.prompt)
        self.plan = make_plan(
            config.schedule,
            self.manifest.num_samples,
            len(self.items),
            config.batch_size,
            from_scratch=config.generator.start_from is None,
        )
        self.state = State()
        self.positions = {kind: self.stream.start() for kind in ("teaching", "recommender", "generator")}
        self.book: Book | None = None
        self.validation: dict[str, float] | None = None
        self.run_id: str | None = None
        self.engine: Engine | None = None
        self.last_checkpoint = checkpoint.newest(self.folder)
        if self.last_checkpoint is None:
            self.recommender = build_model(config.recommender, self.tokenizer, config.seed * 2)
            self.generator = build_model(config.generator, self.tokenizer, config.seed * 2 + 1)
            if world.is_main:  # the judge's controls: both models before training
                save_model(self.recommender, self.tokenizer, self.folder / "untrained" / "recommender")
                save_model(self.generator, self.tokenizer, self.folder / "untrained" / "generator")
        else:
            self._resume(self.last_checkpoint)
        for model in (self.recommender, self.generator):
            on_device(model, world.device)

    def _resume(self, folder: Path) -> None:
        saved = checkpoint.verify(folder)
        for name, ours in (("config", self._identity()), ("manifest_sha256", self.manifest.sha256())):
            if saved[name] != ours:
                raise ValueError(f"{folder} was made with another {name}; give another --out, or the one of that run")
        self.state = State(**saved["state"])
        self.positions = {kind: Position.from_json(value) for kind, value in saved["positions"].items()}
        self.validation, self.run_id = saved["validation"], saved["run_id"]
        self.recommender = load_model(str(folder / "recommender"), self.tokenizer)
        self.generator = load_model(str(folder / "generator"), self.tokenizer)
        if (folder / "book.arrow").is_file():
            self.book = Book.load(folder / "book.arrow", self.tokenizer)
        self.reporter.line(f"resuming from {folder}")

    def _identity(self) -> dict[str, Any]:
        """What must not change between the parts of one run."""
        return identity(self.config)

    @property
    def phase(self) -> Phase:
        return self.plan[self.state.phase]

    @property
    def finished(self) -> bool:
        return self.state.phase == len(self.plan)

    def open_tracker(self) -> Tracker | None:
        """MLflow and JSON lines, on rank 0; takes up the run id of the checkpoint."""
        if not self.world.is_main:
            return None
        uri = self.config.tracking_uri or default_uri(self.folder.parent)
        tracker = Tracker(self.folder, uri, self.config.experiment, self.folder.name, self.run_id)
        if self.run_id is None:
            tracker.parameters(self._identity() | {"shards": self.config.shards, "world_size": self.world.size})
        self.run_id = tracker.run_id
        return tracker

    def refresh_ids(self) -> dict[str, float]:
        """Make the ID book of the Fusion with the generator as it is now. Returns figures about it."""
        book, report = make_book(
            self.generator, self.tokenizer, self.items, self.config.ids, self.world, self.reporter,
            journal=self.folder / ID_PROGRESS,
        )  # fmt: skip
        self.reporter.line(f"  {book.describe()}")
        figures = book.summary() | {"waves": report.waves, "collisions": report.collisions, "seconds": report.seconds}
        if self.book is not None:
            figures["share_changed"] = book.difference(self.book).share_changed
        self.book = book
        return figures

    def start_engine(self) -> Engine:
        """The engine of the current phase, with the optimiser state of that objective where a checkpoint holds one."""
        kind = self.phase.kind
        if kind == "generator":
            objective = GeneratorObjective(self.generator, frozen_copy(self.recommender))
        else:
            objective = RecommenderObjective(self.generator if kind == "teaching" else self.recommender)
        self.engine = Engine(objective, self.config, self.world)
        if self.last_checkpoint and (self.last_checkpoint / "engines" / kind).is_dir():
            self.engine.load(self.last_checkpoint / "engines" / kind)
        return self.engine

    def steps(self) -> Iterator[Step]:
        """Micro-batches of the current phase from the current position on."""
        kind, position = self.phase.kind, self.positions[self.phase.kind]
        if kind == "teaching":
            return teaching_steps(self.tokenizer, self.items, position, self.config, self.world)
        assert self.book is not None, "the plan makes the ID book before the first phase that needs it"
        maker = BatchMaker(self.prompts, self.book, self.items, self.config.ids.item_text_tokens, self.config.seed)
        return interaction_steps(kind, self.stream, maker, position, self.config, self.world)

    def save(self, kind: str) -> None:
        """Write a checkpoint. `kind` is the objective of the engine that ran last. Collective."""
        engine, before = self.engine, self.last_checkpoint
        assert engine is not None

        def write_all(folder: Path) -> None:
            engine.save(folder / "engines" / kind)

        def write_main(folder: Path) -> None:
            if before is not None:
                for other in (before / "engines").iterdir():
                    if other.name != kind:
                        shutil.copytree(other, folder / "engines" / other.name)
            save_model(self.recommender, self.tokenizer, folder / "recommender")
            save_model(self.generator, self.tokenizer, folder / "generator")
            if self.book is not None:
                self.book.save(folder / "book.arrow")
            state = {
                "version": 1,
                "state": dataclasses.asdict(self.state),
                "positions": {name: position.to_json() for name, position in self.positions.items()},
                "validation": self.validation,
                "run_id": self.run_id,
                "config": self._identity(),
                "manifest_sha256": self.manifest.sha256(),
                "book_sha256": self.book.sha256 if self.book else None,
                "world_size": self.world.size,
                "finished": self.finished,
            }
            (folder / "state.json").write_text(json.dumps(state, indent=1))

        step = global_step(self.plan, self.state)
        keep = self.config.keep_checkpoints
        self.last_checkpoint = checkpoint.save(self.folder, step, self.world, write_main, write_all, keep)
        if self.world.is_main:  # the checkpoint holds the book
            discard(self.folder / ID_PROGRESS)

    def model_of(self, kind: str) -> T5ForConditionalGeneration:
        """The model that a phase of this kind trains."""
        return self.recommender if kind == "recommender" else self.generator
