"""The training loop: phases of the alternation, one optimiser step after the other.

Enters: a PretrainConfig and the World of this rank. Leaves: checkpoints, metrics and the path of the last checkpoint.
Must hold: a run that is interrupted and started again ends as if it had not been.
"""

from __future__ import annotations

import time
from contextlib import nullcontext
from pathlib import Path

from pretrain.config import PretrainConfig
from pretrain.reporter import Reporter
from pretrain.run import Run
from pretrain.schedule import advance, global_step, judged, learning_rate, validation_due
from pretrain.tracking import Tracker
from pretrain.validation import validate
from pretrain.world import World


def train(config: PretrainConfig, world: World, reporter: Reporter) -> Path:
    """Run all phases that are still to be done and return the last checkpoint. Collective."""
    run = Run(config, world, reporter)
    if run.finished:
        assert run.last_checkpoint is not None
        reporter.line(f"{run.last_checkpoint} is finished; nothing to do")
        return run.last_checkpoint
    tracker = run.open_tracker()
    run.run_id = world.gather(run.run_id)[0]
    with tracker or nullcontext():
        while not run.finished:
            train_phase(run, tracker)
    assert run.last_checkpoint is not None
    return run.last_checkpoint


def train_phase(run: Run, tracker: Tracker | None) -> None:
    """From the current step of the current phase to its end, or to a validation inside it."""
    phase, config, first = run.phase, run.config, run.state.step
    if phase.refresh_ids and first == 0:
        log(run, tracker, "ids", run.refresh_ids())
    engine, started = run.start_engine(), time.monotonic()
    run.model_of(phase.kind).train()
    for position, micro_batches in run.steps():
        rate = learning_rate(run.plan, run.state, peak_rate(config, phase.kind), config.warmup_share)
        result = engine.step(micro_batches, rate)
        run.state, run.positions[phase.kind] = advance(run.plan, run.state), position
        done = run.state.step or phase.steps
        speed = config.batch_size * (done - first) / (time.monotonic() - started)
        if result.num_targets and (done % config.log_steps == 0 or done == phase.steps):
            figures = {"loss": result.loss, "lr": rate, "samples_per_second": speed}
            if result.grad_norm is not None:
                figures["grad_norm"] = result.grad_norm
            log(run, tracker, phase.kind, figures)
        run.reporter.progress(phase.name, done, phase.steps, "steps", f"loss {result.loss:.3f}, {speed:,.0f} samples/s")
        if done == phase.steps or validation_due(config.schedule, run.plan, run.state):
            break  # the rest of the phase goes on as a resumed run does
        if done % config.checkpoint_steps == 0:
            run.save(phase.kind)
    run.model_of(phase.kind).eval()
    log(run, tracker, phase.kind, {"share_of_weights_moved": engine.share_moved()})
    run.validation = None
    if phase.validate:
        assert run.book is not None
        run.validation = validate(run.recommender, run.tokenizer, run.book, run.manifest, config, run.world)
        log(run, tracker, "validation", run.validation)
        run.reporter.line("validation: " + ", ".join(f"{name} {value:.4f}" for name, value in run.validation.items()))
        run.state = judged(config.schedule, run.plan, run.state, run.validation["NDCG@10"])
        if run.state.left_undone:
            run.reporter.line(
                f"early stop: {run.state.stale} validations were no better than NDCG@10 {run.state.best:.4f}; "
                f"{run.state.left_undone:,} planned steps are left undone"
            )
    run.save(phase.kind)
    engine.close()


def peak_rate(config: PretrainConfig, kind: str) -> float:
    """The peak learning rate of a phase kind."""
    return {
        "teaching": config.teaching_lr,
        "recommender": config.recommender_lr,
        "generator": config.generator_lr,
    }[kind]


def log(run: Run, tracker: Tracker | None, group: str, figures: dict[str, float]) -> None:
    """Send figures to the tracker under `<group>/<name>`, at the global step."""
    if tracker is not None:
        step = global_step(run.plan, run.state)
        named = {f"{group}/{name.replace('@', '_at_')}": float(value) for name, value in figures.items()}
        tracker.metrics(named, step, group=group)
