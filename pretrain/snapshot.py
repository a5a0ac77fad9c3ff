"""What a checkpoint holds: copied out of a running engine first, written afterwards.

Enters: a run between two steps. Leaves: a call that writes this rank's files from copies, so that it may run in a
thread while training goes on. Must hold: the folder is a complete state of the run, whatever ranks and ZeRO stage take
it up; weights are the float32 masters.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from pretrain import moments
from pretrain.models import filled, save_model

if TYPE_CHECKING:
    from pretrain.run import Run


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
    book, outline, tokenizer = run.book, run.outline, run.tokenizer
    assert outline is not None

    def write(folder: Path, state: dict[str, Any]) -> None:
        moments.write(folder / "engines" / kind, world.rank, world.size, mine)
        if not world.is_main:
            return
        for other in still:
            if before is not None and (before / "engines" / other).is_dir():
                shutil.copytree(before / "engines" / other, folder / "engines" / other)
        save_model(filled(outline, weights), tokenizer, folder / run.trains(kind))
        for name, model in models.items():
            save_model(model, tokenizer, folder / name)
        if book is not None:
            book.save(folder / "book.arrow")
        (folder / "state.json").write_text(json.dumps(state, indent=1))

    return write


def state_of(run: Run) -> dict[str, Any]:
    """What `state.json` says."""
    return {
        "version": 2,
        "state": dataclasses.asdict(run.state),
        "positions": {name: position.to_json() for name, position in run.positions.items()},
        "engine_steps": run.engine_steps,
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
