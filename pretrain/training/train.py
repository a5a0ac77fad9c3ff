"""The training loop: phases of the alternation, one optimiser step after the other.

Enters: a PretrainConfig and the World of this rank. Leaves: checkpoints, metrics and the path of the last checkpoint.
Must hold: a run that is interrupted and started again ends as if it had not been.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

from pretrain.config.run import PretrainConfig
from pretrain.runtime.interrupt import Interrupt, Interrupted
from pretrain.runtime.progress import Reporter
from pretrain.runtime.watchdog import Watchdog
from pretrain.runtime.world import Agreed, World
from pretrain.tracking.node_metrics import NodeMetrics
from pretrain.tracking.throughput import Watch
from pretrain.tracking.tracker import Tracker
from pretrain.training import state
from pretrain.training.loss_spikes import BadStep, reason
from pretrain.training.run import Run
from pretrain.training.run_record import open_tracker, record_models
from pretrain.training.schedule import Phase, global_step, judged, learning_rate, validation_due
from pretrain.training.validation import validate

HARDLY = 0.01
"""Below this share of moved weights a phase has done next to nothing, and we say so."""


def train(config: PretrainConfig, world: World, reporter: Reporter) -> Path:
    """Run all phases that are still to be done and return the last checkpoint. Collective.

    Raises Interrupted, after a checkpoint, when the job is asked to stop (`interrupt.SIGNALS`).
    """
    limit = config.hang_minutes * 60
    with (
        Watchdog(Path(config.out), world.rank, world.size, limit, reporter) as watchdog,
        Interrupt(world) as interrupt,
    ):
        run = Run(config, world, watchdog)
        if run.finished:
            assert run.last_checkpoint is not None
            reporter.line(f"{run.last_checkpoint} is finished; nothing to do")
            return run.last_checkpoint
        tracker = open_tracker(run)
        with tracker or nullcontext():
            with run.saving():
                while not run.finished:
                    try:
                        train_phase(run, tracker, interrupt)
                    except BadStep as bad:
                        if config.on_bad_step == "stop":  # the last checkpoint is from before
                            raise Agreed(f"{bad}; the run has stopped before that step (on_bad_step: stop)") from bad
                        run.rewind(bad)
            if tracker is not None:
                record_models(run, tracker)
    assert run.last_checkpoint is not None
    return run.last_checkpoint


def train_phase(run: Run, tracker: Tracker | None, interrupt: Interrupt) -> None:
    """From the current step of the current phase to its end, or to a validation inside it. Raises BadStep when the
    policy says so."""
    phase, config, first = run.phase, run.config, run.state.step
    run.finish_save()  # it reads what the engine changes; the engine takes up what it holds
    if phase.refresh_ids and first == 0:
        log(run, tracker, "ids", run.refresh_ids(interrupt.agreed))
    engine, started = run.start_engine(), time.monotonic()
    watch, nodes = Watch(run.world, config.peak_tflops, run.shapes), NodeMetrics(run.world)
    for position, micro_batches in watch.waiting(run.steps()):
        rate = learning_rate(run.plan, run.state, peak_rate(config, phase.kind), config.warmup_share)
        place = (phase.kind, position.epoch, position.slot)
        result = None if place in run.left_out else engine.step(micro_batches, rate, judge(run, place))
        if result is not None and result.grad_norm is not None and not math.isfinite(result.grad_norm):
            raise BadStep(f"{phase.name}, step {run.state.step + 1:,}: the gradient norm is {result.grad_norm}", place)
        run.advance(position, result)
        watch.count(micro_batches)
        done = run.state.step or phase.steps
        if result is not None and result.taken:
            speed = config.batch_size * (done - first) / (time.monotonic() - started)
            note = f"loss {result.loss:.3f}, {speed:,.0f} samples/s"
            run.reporter.progress(phase.name, done, phase.steps, "steps", note)
            if done % config.log_steps == 0 or done == phase.steps:
                figures = {"loss": result.loss, "lr": rate, "samples_per_second": speed}
                figures |= {} if result.grad_norm is None else {"grad_norm": result.grad_norm}
                log(run, tracker, phase.kind, figures | watch.report())
                log(run, tracker, "system", nodes.report())
        if done == phase.steps or validation_due(config.schedule, run.plan, run.state):
            break  # the rest of the phase goes on as a resumed run does
        asked = interrupt.agreed()
        if asked or done % config.checkpoint_steps == 0:
            run.save()
        if asked:
            run.finish_save()
            raise Interrupted(asked, f"{run.last_checkpoint} is saved")
    finish_phase(run, phase, tracker)


def judge(run: Run, place: tuple[str, int, int]) -> Callable[[float], bool]:
    """What the engine asks before it changes weights; `place` names the batch."""

    def accept(loss: float) -> bool:
        why = reason(loss, run.recent_losses, run.config.spike_factor)
        if why is None:
            return True
        where = f"{run.phase.name}, step {run.state.step + 1:,}: {why}"
        if run.config.on_bad_step != "skip":
            raise BadStep(where, place)
        run.reporter.line(f"  {where}; the step is given no weight")
        return False

    return accept


def finish_phase(run: Run, phase: Phase, tracker: Tracker | None) -> None:
    """What follows the last step, or the one before a validation: how much has moved, validation, a checkpoint, the end
    of the engine."""
    engine, kind = run.engine, run.engine_kind
    assert engine is not None and kind is not None
    moved = run.world.gather(engine.share_moved())[0]
    log(run, tracker, kind, {"share_of_weights_moved": moved})
    if moved < HARDLY:
        rate, precision = peak_rate(run.config, kind), run.config.engine.precision
        run.reporter.line(
            f"  {phase.name}: only {moved:.2%} of the weights have moved; at {precision} the learning rate {rate:g} is "
            "too small for the others"
        )
    run.finish_save()
    write = state.take(run)
    run.stop_engine()
    if phase.validate:
        assert run.book is not None
        run.validation = validate(
            run.models["recommender"], run.tokenizer, run.book, run.manifest, run.config, run.world, run.writer
        )
        log(run, tracker, "validation", run.validation)
        run.reporter.line("validation: " + ", ".join(f"{name} {value:.4f}" for name, value in run.validation.items()))
        ndcg, error = run.validation["NDCG@10"], run.validation["NDCG@10_stderr"]
        run.state = judged(run.config.schedule, run.plan, run.state, ndcg, error)
        if run.state.left_undone:
            run.reporter.line(
                f"early stop: {run.state.stale} validations were no better than NDCG@10 {run.state.best:.4f}; "
                f"{run.state.left_undone:,} planned steps are left undone"
            )
    run.save(write)


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
