"""What a checkpoint holds: copied out of a running engine, written afterwards, and put back into a run.

Enters: a run between two steps. Leaves: a call that writes this rank's files, in a thread while the phase goes on.
Must hold: it reads copies of what the phase changes; the rest, the other model among it, stays as it is until the next
phase, which waits for the call (`train_phase`). The folder is a complete state of the run, whatever ranks and ZeRO
stage take it up; weights are the float32 masters.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from pretrain.ids.book import Book
from pretrain.model.t5 import filled, load_model, save_model
from pretrain.training import checkpoint, optimizer_state
from pretrain.training.run_identity import VERSION, refuse_another
from pretrain.training.schedule import State
from shards.records import Position

if TYPE_CHECKING:
    from pretrain.training.run import Run


WRITER = "user-id-writer"
Write = Callable[[Path, dict[str, Any]], None]


def take(run: Run) -> Write:
    """Copy what the engine changes; returns `write(folder, state)`. Collective."""
    world, kind, engine = run.world, run.engine_kind, run.engine
    assert engine is not None and kind is not None
    run.engine_steps[kind] = engine.num_steps
    weights: dict[str, Tensor] = {}
    mine: dict[tuple[str, str], Tensor] = {}
    for index, (name, tensors) in enumerate(engine.state()):
        for key, tensor in tensors.items():
            if key == "weight":
                if world.is_main:
                    weights[name.removeprefix("model.")] = tensor.to("cpu", copy=True)
            elif index % world.size == world.rank:
                mine[name, key] = tensor.to("cpu", copy=True)
    before = run.last_checkpoint
    still = {phase.kind for phase in run.plan[run.state.phase :]} - {kind}
    models = {name: run.models[name] for name in ("recommender", "generator") if name != run.trains(kind)}
    book, writer, outline, tokenizer = run.book, run.writer, run.outline, run.tokenizer
    assert outline is not None

    def write(folder: Path, state: dict[str, Any]) -> None:
        optimizer_state.write(folder / "engines" / kind, world.rank, world.size, mine)
        if not world.is_main:
            return
        for other in still:
            if before is not None and (before / "engines" / other).is_dir():
                shutil.copytree(before / "engines" / other, folder / "engines" / other)
        save_model(filled(outline, weights), tokenizer, folder / run.trains(kind))
        for name, model in models.items():
            save_model(model, tokenizer, folder / name)
        if writer is not None:
            save_model(writer, tokenizer, folder / WRITER)
        if book is not None:
            book.save(folder / "book.arrow")
        (folder / "state.json").write_text(json.dumps(state, indent=1))

    return write


def state_of(run: Run) -> dict[str, Any]:
    """What `state.json` says."""
    return {
        "version": VERSION,
        "state": dataclasses.asdict(run.state),
        "positions": {name: position.to_json() for name, position in run.positions.items()},
        "engine_steps": dict(run.engine_steps),
        "left_out": [list(place) for place in run.left_out],
        "recent_losses": list(run.recent_losses),
        "validation": run.validation,
        "run_id": run.run_id,
        "config": run.identity,
        "manifest_sha256": run.manifest.sha256(),
        "book_sha256": run.book.sha256 if run.book else None,
        "world_size": run.world.size,
        "zero_stage": run.config.engine.zero_stage,
        "finished": run.finished,
    }


def put_back(run: Run, folder: Path) -> None:
    """Bring a run into the state of a checkpoint, whose files have been verified; moments go into the engine when it is
    made. Raises ValueError where it is a checkpoint of another run."""
    saved = checkpoint.read_state(folder)
    allowed = run.config.allow_changed
    run.changed = refuse_another(folder, saved, run.identity, run.manifest.sha256(), allowed)
    if run.changed:
        run.reporter.line(f"from here on with other values: {'; '.join(run.changed)}")
    run.state = State(**saved["state"])
    run.positions = {kind: Position.from_json(value) for kind, value in saved["positions"].items()}
    run.engine_steps = saved["engine_steps"]
    losses = saved["recent_losses"]  # of version 2 those of the phase before too
    run.recent_losses.extend(losses[max(0, len(losses) - run.state.step) :])
    run.left_out = run.left_out or [tuple(place) for place in saved["left_out"]]
    run.validation, run.tracked_as = saved["validation"], saved["run_id"]
    run.models = {name: load_model(str(folder / name), run.tokenizer) for name in ("recommender", "generator")}
    if (folder / WRITER).is_dir():
        run.writer = load_model(str(folder / WRITER), run.tokenizer)
    if (folder / "book.arrow").is_file():
        run.book = Book.load(folder / "book.arrow", run.tokenizer)
    ranks, stage = run.world.size, run.config.engine.zero_stage
    elsewhere = (saved["world_size"], saved["zero_stage"]) != (ranks, stage)
    was = f", written by {saved['world_size']} ranks at ZeRO stage {saved['zero_stage']}" if elsewhere else ""
    run.reporter.line(f"resuming from {folder}{was}")
