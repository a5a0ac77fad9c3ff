"""The training loop: phases of the alternation, one optimiser step after the other.

Enters: a PretrainConfig and the World of this rank. Leaves: checkpoints, metrics and the path of the last checkpoint.
Must hold: a run that is interrupted and started again ends as if it had not been.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from pretrain.config.run import PretrainConfig
from pretrain.data.micro_batches import MicroBatches
from pretrain.runtime.interrupt import Interrupt, Interrupted
from pretrain.runtime.progress import Reporter
from pretrain.runtime.watchdog import Watchdog
from pretrain.runtime.world import Agreed, World
from pretrain.tracking.node_metrics import NodeMetrics
from pretrain.tracking.throughput import Throughput
from pretrain.training.engine import Engine, StepResult
from pretrain.training.loss_spikes import BadStep, Place, reason
from pretrain.training.run import Run
from pretrain.training.run_record import open_tracker, record_models
from pretrain.training.schedule import Phase, global_step, judged, learning_rate, validation_due
from pretrain.training.validation import validate
from shards.records import Position

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
            assert run.state.last_checkpoint is not None
            reporter.line(f"{run.state.last_checkpoint} is finished; nothing to do")
            return run.state.last_checkpoint
        run.tracker = open_tracker(config, run.manifest, world, run.reporter, run.run_id, run.changed)
        with run.tracker or nullcontext():
            with run.saving():
                while not run.finished:
                    try:
                        train_phase(run, interrupt)
                    except BadStep as bad:
                        if config.on_bad_step == "stop":  # the last checkpoint is from before
                            raise Agreed(f"{bad}; the run has stopped before that step (on_bad_step: stop)") from bad
                        run.rewind(bad)
            if run.tracker is not None:
                record_models(config, run.tracker)
    assert run.state.last_checkpoint is not None
    return run.state.last_checkpoint


@dataclass
class PhaseUnderWay:
    """What lasts as long as a phase, or as its part from one validation or start of the job to the next."""

    phase: Phase
    engine: Engine
    throughput: Throughput
    nodes: NodeMetrics
    first: int
    """Steps of the phase that were done before."""
    started: float

    def done(self, run: Run) -> int:
        """Steps of the phase that are done now."""
        return run.state.schedule.step or self.phase.steps


def train_phase(run: Run, interrupt: Interrupt) -> None:
    """From the current step of the current phase to its end, or to a validation inside it. Raises BadStep when the
    policy says so."""
    current = begin_phase(run, interrupt)
    for position, micro_batches in current.throughput.waiting(run.steps()):
        rate, result = take_step(run, current, position, micro_batches)
        run.advance(position, result)
        current.throughput.count(micro_batches)
        if result is not None and result.taken:
            report_step(run, current, result, rate)
        done = current.done(run)
        if done == current.phase.steps or validation_due(run.config.schedule, run.plan, run.state.schedule):
            break  # the rest of the phase goes on as a resumed run does
        asked = interrupt.agreed()
        if asked or done % run.config.checkpoint_steps == 0:
            run.save()
        if asked:
            run.finish_save()
            raise Interrupted(asked, f"{run.state.last_checkpoint} is saved")
    finish_phase(run, current.phase)


def begin_phase(run: Run, interrupt: Interrupt) -> PhaseUnderWay:
    """All that is a phase's own begins here: the ID book, the engine, throughput and clock. Losses of the phase before
    have left the state with its last step (`RunState.advanced`). Collective."""
    phase, first = run.phase, run.state.schedule.step
    run.finish_save()  # it reads what the engine changes; the engine takes up what it holds
    if phase.refresh_ids and first == 0:
        log(run, "ids", run.refresh_ids(interrupt.agreed))
    engine, started = run.start_engine(), time.monotonic()
    throughput = Throughput(run.world, run.config.peak_tflops, run.shapes)
    return PhaseUnderWay(phase, engine, throughput, NodeMetrics(run.world), first, started)


def take_step(
    run: Run, current: PhaseUnderWay, position: Position, micro_batches: MicroBatches
) -> tuple[float, StepResult | None]:
    """One optimiser step behind `position`: its learning rate, and its result, None where its batch is left out. Raises
    BadStep, before weights change, for a bad loss and, afterwards, for a gradient that is not finite. Collective."""
    config, phase = run.config, current.phase
    rate = learning_rate(run.plan, run.state.schedule, peak_rate(config, phase.kind), config.warmup_share)
    place = (phase.kind, position.epoch, position.slot)
    if place in run.state.left_out:
        return rate, None
    result = current.engine.step(micro_batches, rate, acceptance(run, place))
    if result.grad_norm is not None and not math.isfinite(result.grad_norm):
        step = run.state.schedule.step + 1
        raise BadStep(f"{phase.name}, step {step:,}: the gradient norm is {result.grad_norm}", place)
    return rate, result


def acceptance(run: Run, place: Place) -> Callable[[float], bool]:
    """What the engine asks before it changes weights; `place` names the batch."""

    def accept(loss: float) -> bool:
        why = reason(loss, run.state.recent_losses, run.config.spike_factor)
        if why is None:
            return True
        where = f"{run.phase.name}, step {run.state.schedule.step + 1:,}: {why}"
        if run.config.on_bad_step != "skip":
            raise BadStep(where, place)
        run.reporter.line(f"  {where}; the step is given no weight")
        return False

    return accept


def report_step(run: Run, current: PhaseUnderWay, result: StepResult, rate: float) -> None:
    """Progress after every step, figures at the log interval and at the end of the phase."""
    phase, done = current.phase, current.done(run)
    speed = run.config.batch_size * (done - current.first) / (time.monotonic() - current.started)
    note = f"loss {result.loss:.3f}, {speed:,.0f} samples/s"
    run.reporter.progress(phase.name, done, phase.steps, "steps", note)
    if done % run.config.log_steps == 0 or done == phase.steps:
        figures = {"loss": result.loss, "lr": rate, "samples_per_second": speed}
        figures |= {} if result.grad_norm is None else {"grad_norm": result.grad_norm}
        log(run, phase.kind, figures | current.throughput.report())
        log(run, "system", current.nodes.report())


def finish_phase(run: Run, phase: Phase) -> None:
    """What follows the last step, or the one before a validation: how much has moved, validation, a checkpoint, the end
    of the engine."""
    engine, kind = run.engine, run.engine_kind
    assert engine is not None and kind is not None
    moved = run.world.gather(engine.share_moved())[0]
    log(run, kind, {"share_of_weights_moved": moved})
    if moved < HARDLY:
        rate, precision = peak_rate(run.config, kind), run.config.engine.precision
        run.reporter.line(
            f"  {phase.name}: only {moved:.2%} of the weights have moved; at {precision} the learning rate {rate:g} is "
            "too small for the others"
        )
    run.finish_save()
    run.stop_engine()
    if phase.validate:
        validate_run(run)
    run.save()


def validate_run(run: Run) -> None:
    """Score the recommender, and stop the run early where the schedule says so. Collective."""
    state = run.state
    assert state.book is not None
    scores = validate(
        state.models["recommender"], run.tokenizer, state.book, run.manifest, run.config, run.world, state.writer
    )
    log(run, "validation", scores)
    run.reporter.line("validation: " + ", ".join(f"{name} {value:.4f}" for name, value in scores.items()))
    schedule = judged(run.config.schedule, run.plan, state.schedule, scores["NDCG@10"], scores["NDCG@10_stderr"])
    if schedule.left_undone:
        run.reporter.line(
            f"early stop: {schedule.stale} validations were no better than NDCG@10 {schedule.best:.4f}; "
            f"{schedule.left_undone:,} planned steps are left undone"
        )
    run.state = dataclasses.replace(state, schedule=schedule, validation=scores)


def peak_rate(config: PretrainConfig, kind: str) -> float:
    """The peak learning rate of a phase kind."""
    return {
        "teaching": config.teaching_lr,
        "recommender": config.recommender_lr,
        "generator": config.generator_lr,
    }[kind]


def log(run: Run, group: str, figures: dict[str, float]) -> None:
    """Send figures to the tracker, where this rank has one, under `<group>/<name>`, at the global step."""
    if run.tracker is not None:
        step = global_step(run.plan, run.state.schedule)
        named = {f"{group}/{name.replace('@', '_at_')}": float(value) for name, value in figures.items()}
        run.tracker.metrics(named, step, group=group)
