"""The alternation (section 2.5) as a pure state machine: no torch, no files, no clock.

Enters: the schedule's configuration and the sizes of the data. Leaves: a plan, a tuple of phases, and for every state
the
next one, the learning rate and whether to refresh IDs or validate. Must hold: the state is two integers, so that a run
can be taken up again anywhere.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from pretrain.config import ScheduleConfig

Kind = Literal["teaching", "recommender", "generator"]


@dataclass(frozen=True)
class Phase:
    """A stretch of optimiser steps of one objective. `refresh_ids`: the ID book is made anew before its first step."""

    name: str
    kind: Kind
    steps: int
    refresh_ids: bool
    validate: bool


@dataclass(frozen=True)
class State:
    """Phase index and steps done in it. The run is over when `phase == len(plan)`."""

    phase: int = 0
    step: int = 0


def make_plan(
    config: ScheduleConfig, samples: int, items: int, batch_size: int, from_scratch: bool
) -> tuple[Phase, ...]:
    """Phases in order.

    A generator from scratch is taught first; then comes an optional recommender warm-up; then `rounds` times a
    generator phase and a recommender phase. The book is made before the first phase that needs IDs and after every
    phase that changed the generator.
    """

    def steps(epochs: float, size: int) -> int:
        return math.ceil(epochs * size / batch_size)

    drafts: list[tuple[str, Kind, int]] = []
    if from_scratch:
        drafts.append(("teach generator", "teaching", steps(config.teaching_epochs, items)))
    drafts.append(("warm-up recommender", "recommender", steps(config.warmup_epochs, samples)))
    for number in range(1, config.rounds + 1):
        drafts.append((f"round {number} generator", "generator", steps(config.generator_epochs, samples)))
        drafts.append((f"round {number} recommender", "recommender", steps(config.recommender_epochs, samples)))
    drafts = [draft for draft in drafts if draft[2] > 0]
    phases, stale = [], True
    for name, kind, count in drafts:
        refresh = stale and kind != "teaching"
        phases.append(Phase(name, kind, count, refresh, validate=kind == "recommender"))
        stale = (stale and not refresh) or kind != "recommender"
    return tuple(phases)


def advance(plan: tuple[Phase, ...], state: State) -> State:
    """The state after one more optimiser step."""
    step = state.step + 1
    return State(state.phase + 1, 0) if step == plan[state.phase].steps else State(state.phase, step)


def global_step(plan: tuple[Phase, ...], state: State) -> int:
    """Optimiser steps done since the start of the run, all phases together."""
    return sum(phase.steps for phase in plan[: state.phase]) + state.step


def learning_rate(plan: tuple[Phase, ...], state: State, peak: float, warmup_share: float) -> float:
    """One schedule per objective over all its phases: linear warm-up, then linear decay to zero after the last step."""
    kind = plan[state.phase].kind
    total = sum(phase.steps for phase in plan if phase.kind == kind)
    done = sum(phase.steps for phase in plan[: state.phase] if phase.kind == kind) + state.step
    warmup = max(1, round(total * warmup_share))
    if done < warmup:
        return peak * (done + 1) / warmup
    return peak * (total - done) / max(1, total - warmup)
