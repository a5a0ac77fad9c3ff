"""The alternation (section 2.5) as a pure state machine: no torch, no files, no clock.

Enters: the schedule's configuration and the sizes of the data. Leaves: a plan, a tuple of phases, and for every state
the next one, the learning rate, and whether to refresh IDs, validate or stop. Must hold: the state is a few numbers
that survive JSON, so that a run can be taken up again anywhere and stops where the run never interrupted stops.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

from pretrain.config.run import Kind, ScheduleConfig


@dataclass(frozen=True)
class Phase:
    """A stretch of optimiser steps of one objective. `refresh_ids`: the ID book is made anew before its first step.
    `validate`: the recommender is judged after its last step."""

    name: str
    kind: Kind
    steps: int
    refresh_ids: bool
    validate: bool


@dataclass(frozen=True)
class State:
    """Phase index and steps done in it. The run is over when `phase == len(plan)`.

    `best`: the best NDCG@10 seen so far. `as_good`: from which on another one is as good, given who was asked.
    `stale`: validations in a row that were not better. `left_undone`: planned steps that an early stop has cut off.
    """

    phase: int = 0
    step: int = 0
    best: float | None = None
    as_good: float | None = None
    stale: int = 0
    left_undone: int = 0


def make_plan(
    config: ScheduleConfig, samples: int, items: int, batch_size: int, from_scratch: bool
) -> tuple[Phase, ...]:
    """Phases in order; one without steps is left out. Raises ValueError where none is left.

    A generator from scratch is taught first, a pretrained one where `teaching_steps` asks for it; then comes an
    optional recommender warm-up; then `rounds` times a generator phase and a recommender phase. The book is made before
    the first phase that needs IDs and, unless `refresh_ids` says never, after every phase that changed the generator.
    """

    def steps(fixed: int | None, epochs: float, size: int) -> int:
        return math.ceil(epochs * size / batch_size) if fixed is None else fixed

    teaching = steps(config.teaching_steps, config.teaching_epochs, items)
    warmup = steps(config.warmup_steps, config.warmup_epochs, samples)
    generator = steps(config.generator_steps, config.generator_epochs, samples)
    recommender = steps(config.recommender_steps, config.recommender_epochs, samples)
    drafts: list[tuple[str, Kind, int]] = []
    if from_scratch or config.teaching_steps:
        drafts.append(("teach generator", "teaching", teaching))
    drafts.append(("warm-up recommender", "recommender", warmup))
    for number in range(1, config.rounds + 1):
        drafts.append((f"round {number} generator", "generator", generator))
        drafts.append((f"round {number} recommender", "recommender", recommender))
    drafts = [draft for draft in drafts if draft[2] > 0]
    if not drafts:
        raise ValueError("the schedule has no phase with a step; raise its epochs or steps")
    phases, stale, made = [], True, False
    for name, kind, count in drafts:
        refresh = kind != "teaching" and stale and not (made and config.refresh_ids == "never")
        phases.append(Phase(name, kind, count, refresh, validate=kind == "recommender"))
        made = made or refresh
        stale = (stale and not refresh) or kind != "recommender"
    return tuple(phases)


def advance(plan: tuple[Phase, ...], state: State) -> State:
    """The state after one more optimiser step."""
    step = state.step + 1
    ended = step == plan[state.phase].steps
    return dataclasses.replace(state, phase=state.phase + ended, step=0 if ended else step)


def validation_due(config: ScheduleConfig, plan: tuple[Phase, ...], state: State) -> bool:
    """Whether to validate now, between two steps of a phase. (`Phase.validate` says it for the end of a phase.)"""
    every = config.validation_steps
    if every is None or state.phase == len(plan) or state.step == 0:
        return False
    return plan[state.phase].validate and state.step % every == 0


def judged(config: ScheduleConfig, plan: tuple[Phase, ...], state: State, ndcg: float, error: float) -> State:
    """The state after a validation, `ndcg` its NDCG@10 and `error` the standard error of it. With no patience left the
    run is over.

    What is within one standard error of the best is as good (Breiman et al., 1984: the one-standard-error rule).
    """
    if state.best is None or ndcg > state.best:
        state = dataclasses.replace(state, best=ndcg, as_good=ndcg - error, stale=0)
    else:
        state = dataclasses.replace(state, stale=state.stale + 1)
    if config.patience is None or state.stale < config.patience or state.phase == len(plan):
        return state
    left = sum(phase.steps for phase in plan[state.phase :]) - state.step
    return dataclasses.replace(state, phase=len(plan), step=0, left_undone=left)


def global_step(plan: tuple[Phase, ...], state: State) -> int:
    """Optimiser steps done since the start of the run, all phases together."""
    return sum(phase.steps for phase in plan[: state.phase]) + state.step - state.left_undone


def learning_rate(plan: tuple[Phase, ...], state: State, peak: float, warmup_share: float) -> float:
    """One schedule per objective over all its phases: linear warm-up, then linear decay to zero after the last step."""
    kind = plan[state.phase].kind
    total = sum(phase.steps for phase in plan if phase.kind == kind)
    done = sum(phase.steps for phase in plan[: state.phase] if phase.kind == kind) + state.step
    warmup = max(1, round(total * warmup_share))
    if done < warmup:
        return peak * (done + 1) / warmup
    return peak * (total - done) / max(1, total - warmup)
