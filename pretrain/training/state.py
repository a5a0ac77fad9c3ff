"""The state of a run between two optimiser steps, as a value, and the files of a checkpoint that hold it.

Enters: a RunState, with copies of what an engine changes (`taken`). Leaves: this rank's files of a checkpoint, written
from that value alone, in a thread while the phase goes on; or a RunState that is read from them. Must hold: nothing
that goes on training is reachable from the value; the models between two phases are not copied, and the next phase
waits until they are written (`train.begin_phase`). The folder is a complete state of the run, whatever ranks and ZeRO
stage take it up; weights are the float32 masters.
"""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import Tensor
from transformers.models.t5.modeling_t5 import T5ForConditionalGeneration

from pretrain.config.run import Kind, PretrainConfig
from pretrain.ids.book import Book
from pretrain.model.t5 import build_model, filled, load_model, save_model
from pretrain.runtime.progress import Reporter
from pretrain.runtime.world import World
from pretrain.training import checkpoint, loss_spikes, optimizer_state
from pretrain.training.engine import Engine
from pretrain.training.run_identity import VERSION, identity, refuse_another
from pretrain.training.schedule import Phase, State, advance
from shards.records import Position

MODELS = ("recommender", "generator")
UNTRAINED = "untrained"
WRITER = "user-id-writer"
BOOK = "book.arrow"


def trained_model(kind: str) -> str:
    """The model that a phase of this kind trains."""
    return "recommender" if kind == "recommender" else "generator"


@dataclass(frozen=True)
class RunState:
    """What a run is between two steps.

    `positions`: of the stream, by phase kind. `models`: the one that an engine trains is an outline without weights,
    until they are `taken`. `engine_steps`: optimiser steps by phase kind, as of the last checkpoint. `optimizer`: the
    phase kind that was trained and this rank's share of its optimiser state, by parameter and moment, while it waits to
    be written. `last_checkpoint`: the folder with the optimiser states of the other kinds. `recent_losses`: of the
    phase. `left_out`: places of bad batches. `validation`: the score of this very state. `writer`: of users' IDs, the
    generator that wrote the book. `run_id`: MLflow's name of the run.
    """

    schedule: State
    positions: dict[str, Position]
    models: dict[str, T5ForConditionalGeneration]
    engine_steps: dict[str, int] = field(default_factory=dict)
    optimizer: tuple[Kind, dict[tuple[str, str], Tensor]] | None = None
    last_checkpoint: Path | None = None
    recent_losses: tuple[float, ...] = ()
    left_out: tuple[loss_spikes.Place, ...] = ()
    validation: dict[str, float] | None = None
    book: Book | None = None
    writer: T5ForConditionalGeneration | None = None
    run_id: str | None = None

    def advanced(self, plan: tuple[Phase, ...], position: Position, loss: float | None) -> RunState:
        """Behind one more step. The score of the state before is not this one's, losses are of one phase.

        `loss`: of a step without weight too, or the median of the losses would never move; None where there is none.
        """
        kind, losses = plan[self.schedule.phase].kind, self.recent_losses
        schedule = advance(plan, self.schedule)
        if schedule.step == 0:
            losses = ()
        elif loss is not None and math.isfinite(loss):
            losses = (*losses, loss)[-loss_spikes.LEAST :]
        positions = self.positions | {kind: position}
        return replace(self, schedule=schedule, positions=positions, recent_losses=losses, validation=None)


def taken(state: RunState, kind: Kind, engine: Engine, world: World, all_weights: bool = False) -> RunState:
    """The state with copies, on the CPU, of what the engine changes; weights on rank 0 alone unless `all_weights`.
    Collective."""
    weights: dict[str, Tensor] = {}
    moments: dict[tuple[str, str], Tensor] = {}
    for index, (name, tensors) in enumerate(engine.state()):
        for key, tensor in tensors.items():
            if key == "weight":
                if world.is_main or all_weights:
                    weights[name.removeprefix("model.")] = tensor.to("cpu", copy=True)
            elif index % world.size == world.rank:
                moments[name, key] = tensor.to("cpu", copy=True)
    models, steps = dict(state.models), state.engine_steps | {kind: engine.num_steps}
    if weights:
        models[trained_model(kind)] = filled(models[trained_model(kind)], weights)
    return replace(state, models=models, optimizer=(kind, moments), engine_steps=steps)


@dataclass(frozen=True)
class StateFiles:
    """Begins, writes and reads the states of one run on one rank; the fields are the same in all of its checkpoints."""

    config: PretrainConfig
    manifest_sha256: str
    plan: tuple[Phase, ...]
    tokenizer: Any
    world: World

    def new(self, positions: dict[str, Position]) -> RunState:
        """The state of a run that begins. Rank 0 writes both models to `untrained`, the judge's controls."""
        config = self.config
        models = {
            "recommender": build_model(config.recommender, self.tokenizer, config.seed * 2),
            "generator": build_model(config.generator, self.tokenizer, config.seed * 2 + 1),
        }
        if self.world.is_main:
            for name, model in models.items():
                save_model(model, self.tokenizer, Path(config.out) / UNTRAINED / name)
        return RunState(State(), positions, models)

    def weights_before(self, state: RunState) -> dict[str, Tensor] | None:
        """On rank 0 in the middle of a phase: the weights at its start, while their checkpoint is there."""
        phase, run = state.schedule.phase, Path(self.config.out)
        if state.schedule.step == 0 or not self.world.is_main:
            return None
        start = run / UNTRAINED if phase == 0 else checkpoint.phase_start(run, phase)
        if start is None:
            return None
        model = load_model(str(start / trained_model(self.plan[phase].kind)), self.tokenizer)
        return {f"model.{name}": parameter.detach() for name, parameter in model.named_parameters()}

    def write(self, folder: Path, state: RunState) -> None:
        """This rank's files of the checkpoint `folder`, from a state that was `taken`."""
        assert state.optimizer is not None
        kind, moments = state.optimizer
        optimizer_state.write(folder / "engines" / kind, self.world.rank, self.world.size, moments)
        if not self.world.is_main:
            return
        before = state.last_checkpoint
        for other in {phase.kind for phase in self.plan[state.schedule.phase :]} - {kind}:
            if before is not None and (before / "engines" / other).is_dir():
                shutil.copytree(before / "engines" / other, folder / "engines" / other)
        for name, model in state.models.items():
            save_model(model, self.tokenizer, folder / name)
        if state.writer is not None:
            save_model(state.writer, self.tokenizer, folder / WRITER)
        if state.book is not None:
            state.book.save(folder / BOOK)
        (folder / checkpoint.STATE).write_text(json.dumps(self.json_of(state), indent=1))

    def json_of(self, state: RunState) -> dict[str, Any]:
        """The content of `state.json` (docs/contracts.md)."""
        return {
            "version": VERSION,
            "state": dataclasses.asdict(state.schedule),
            "positions": {name: position.to_json() for name, position in state.positions.items()},
            "engine_steps": state.engine_steps,
            "left_out": [list(place) for place in state.left_out],
            "recent_losses": list(state.recent_losses),
            "validation": state.validation,
            "run_id": state.run_id,
            "config": identity(self.config),
            "manifest_sha256": self.manifest_sha256,
            "book_sha256": state.book.sha256 if state.book else None,
            "world_size": self.world.size,
            "zero_stage": self.config.engine.zero_stage,
            "finished": state.schedule.phase == len(self.plan),
        }

    def read(self, folder: Path, reporter: Reporter) -> tuple[RunState, list[str]]:
        """The state in a checkpoint whose files have been verified, and the values that the configuration changes. An
        engine reads its optimiser state itself. Raises ValueError where it is a checkpoint of another run."""
        saved, stage = checkpoint.read_state(folder), self.config.engine.zero_stage
        changed = refuse_another(folder, saved, identity(self.config), self.manifest_sha256, self.config.allow_changed)
        if changed:
            reporter.line(f"from here on with other values: {'; '.join(changed)}")
        schedule, losses = State(**saved["state"]), saved["recent_losses"]
        has_book, has_writer = (folder / BOOK).is_file(), (folder / WRITER).is_dir()
        state = RunState(
            schedule,
            positions={kind: Position.from_json(value) for kind, value in saved["positions"].items()},
            models={name: load_model(str(folder / name), self.tokenizer) for name in MODELS},
            engine_steps=saved["engine_steps"],
            last_checkpoint=folder,
            recent_losses=tuple(losses[max(0, len(losses) - schedule.step) :]),  # version 2 has the phase before too
            left_out=tuple((kind, epoch, slot) for kind, epoch, slot in saved["left_out"]),
            validation=saved["validation"],
            book=Book.load(folder / BOOK, self.tokenizer) if has_book else None,
            writer=load_model(str(folder / WRITER), self.tokenizer) if has_writer else None,
            run_id=saved["run_id"],
        )
        elsewhere = (saved["world_size"], saved["zero_stage"]) != (self.world.size, stage)
        was = f", written by {saved['world_size']} ranks at ZeRO stage {saved['zero_stage']}" if elsewhere else ""
        reporter.line(f"resuming from {folder}{was}")
        return state, changed
