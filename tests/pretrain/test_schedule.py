"""The alternation as values: order of phases, when IDs are made, learning rates, steps."""

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pretrain.config import ScheduleConfig
from pretrain.schedule import State, advance, global_step, learning_rate, make_plan

epochs = st.sampled_from([0.0, 0.25, 1.0, 2.0])
plans = st.builds(
    lambda scratch, samples, items, batch, **values: make_plan(
        ScheduleConfig(**values), samples, items, batch, from_scratch=scratch
    ),
    scratch=st.booleans(),
    samples=st.integers(1, 40),
    items=st.integers(1, 30),
    batch=st.integers(1, 12),
    teaching_epochs=epochs,
    warmup_epochs=epochs,
    rounds=st.integers(1, 3),
    generator_epochs=epochs,
    recommender_epochs=st.sampled_from([0.25, 1.0]),
)


def test_clean_order():
    config = ScheduleConfig(teaching_epochs=2.0, warmup_epochs=0.5, rounds=2)
    plan = make_plan(config, samples=100, items=30, batch_size=8, from_scratch=True)
    shown = [(phase.name, phase.kind, phase.steps, phase.refresh_ids, phase.validate) for phase in plan]
    assert shown == [
        ("teach generator", "teaching", 8, False, False),
        ("warm-up recommender", "recommender", 7, True, True),
        ("round 1 generator", "generator", 13, False, False),
        ("round 1 recommender", "recommender", 13, True, True),
        ("round 2 generator", "generator", 13, False, False),
        ("round 2 recommender", "recommender", 13, True, True),
    ]


def test_the_papers_order_without_warm_up():
    config = ScheduleConfig(warmup_epochs=0.0, rounds=3, generator_epochs=1.0, recommender_epochs=10.0)
    plan = make_plan(config, samples=64, items=30, batch_size=64, from_scratch=False)
    assert [(phase.kind, phase.steps, phase.refresh_ids) for phase in plan] == [
        ("generator", 1, True),
        ("recommender", 10, True),
    ] + [("generator", 1, False), ("recommender", 10, True)] * 2


def test_a_pretrained_generator_is_not_taught():
    plan = make_plan(ScheduleConfig(), 10, 10, 2, from_scratch=False)
    assert [phase.kind for phase in plan] == ["recommender", "generator", "recommender"]
    assert make_plan(ScheduleConfig(), 10, 10, 2, from_scratch=True)[0].kind == "teaching"


@settings(max_examples=200, deadline=None)
@given(plans)
def test_ids_are_current_whenever_they_are_read(plan):
    """`fresh`: the book is of the generator as it is. A recommender phase reads a fresh book."""
    made = fresh = False
    for phase in plan:
        assert phase.steps > 0
        if phase.refresh_ids:
            assert not fresh, "nothing to refresh"
            made = fresh = True
        if phase.kind in ("recommender", "generator"):
            assert made
        if phase.kind == "recommender":
            assert fresh and phase.validate
        else:
            fresh = False
            assert not phase.validate


@settings(max_examples=60, deadline=None)
@given(plans, st.sampled_from([0.0, 0.05, 0.5]))
def test_every_step_is_visited_once_and_the_rate_rises_then_falls(plan, warmup_share):
    state, visited, rates = State(), [], {}
    while state.phase < len(plan):
        visited.append(global_step(plan, state))
        assert state == State(**dataclasses.asdict(state)), "two integers say everything"
        rates.setdefault(plan[state.phase].kind, []).append(learning_rate(plan, state, 2.0, warmup_share))
        state = advance(plan, state)
    total = sum(phase.steps for phase in plan)
    assert visited == list(range(total)) and state == State(len(plan), 0) and global_step(plan, state) == total
    for series in rates.values():
        warmup = max(1, round(len(series) * warmup_share))
        assert max(series) == pytest.approx(2.0) and min(series) > 0
        assert series[:warmup] == pytest.approx([2.0 * (n + 1) / warmup for n in range(warmup)])
        falling = series[warmup:]
        assert all(a > b for a, b in zip(falling, falling[1:], strict=False))
        if falling:
            assert falling[-1] == pytest.approx(2.0 / (len(series) - warmup))


def test_one_rate_schedule_over_all_phases_of_a_kind():
    plan = make_plan(ScheduleConfig(warmup_epochs=1.0, generator_epochs=1.0), 40, 10, 4, from_scratch=False)
    first, second = (index for index, phase in enumerate(plan) if phase.kind == "recommender")
    last_of_first = learning_rate(plan, State(first, plan[first].steps - 1), 1.0, 0.05)
    first_of_second = learning_rate(plan, State(second, 0), 1.0, 0.05)
    assert first_of_second < last_of_first < 1.0, "the second phase goes on where the first stopped"
    assert learning_rate(plan, State(1, 0), 1.0, 0.05) == 1.0, "another kind has its own"


def test_at_least_one_round():
    with pytest.raises(ValueError, match="rounds is 0"):
        ScheduleConfig(rounds=0)
