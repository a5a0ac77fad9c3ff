"""The alternation as values: order of phases, when IDs are made, learning rates, steps."""

import dataclasses
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pretrain.config.run import ScheduleConfig
from pretrain.training.schedule import State, advance, global_step, judged, learning_rate, make_plan, validation_due

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


def test_a_pretrained_generator_is_taught_where_steps_say_so():
    plan = make_plan(ScheduleConfig(), 10, 10, 2, from_scratch=False)
    assert [phase.kind for phase in plan] == ["recommender", "generator", "recommender"]
    assert make_plan(ScheduleConfig(), 10, 10, 2, from_scratch=True)[0].kind == "teaching"
    first, second, *_ = make_plan(ScheduleConfig(teaching_steps=3), 10, 10, 2, from_scratch=False)
    assert (first.kind, first.steps, first.refresh_ids, second.refresh_ids) == ("teaching", 3, False, True)
    assert make_plan(ScheduleConfig(teaching_steps=0), 10, 10, 2, from_scratch=True)[0].kind == "recommender"


@settings(max_examples=200)
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


@settings(max_examples=60)
@given(plans, st.sampled_from([0.0, 0.05, 0.5]))
def test_every_step_is_visited_once_and_the_rate_rises_then_falls(plan, warmup_share):
    state, visited, rates = State(), [], {}
    while state.phase < len(plan):
        visited.append(global_step(plan, state))
        assert state == State(**dataclasses.asdict(state)), "a few numbers say everything"
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


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"rounds": 0}, "rounds is 0"),
        ({"warmup_epochs": -1.0}, "warmup_epochs is -1.0"),
        ({"generator_epochs": float("nan")}, "generator_epochs is nan"),
        ({"recommender_steps": -3}, "recommender_steps is -3"),
        ({"validation_steps": 0}, "validation_steps is 0"),
        ({"patience": 0}, "patience is 0"),
        ({"validation_users": 0}, "validation_users is 0"),
    ],
)
def test_what_no_schedule_can_be(values, message):
    with pytest.raises(ValueError, match=message):
        ScheduleConfig(**values)


def test_a_schedule_without_steps():
    config = ScheduleConfig(warmup_epochs=0.0, generator_epochs=0.0, recommender_epochs=0.0)
    with pytest.raises(ValueError, match="no phase with a step"):
        make_plan(config, 10, 10, 2, from_scratch=False)


def test_steps_take_the_place_of_epochs():
    config = ScheduleConfig(teaching_steps=7, warmup_steps=0, rounds=2, generator_steps=3, recommender_epochs=1.0)
    plan = make_plan(config, samples=100, items=30, batch_size=8, from_scratch=True)
    assert [(phase.kind, phase.steps) for phase in plan] == [
        ("teaching", 7), ("generator", 3), ("recommender", 13), ("generator", 3), ("recommender", 13),
    ]  # fmt: skip


@settings(max_examples=60)
@given(plans, st.integers(1, 3))
def test_ids_made_once_where_they_never_change(plan, rounds):
    config = ScheduleConfig(rounds=rounds, refresh_ids="never")
    fixed = make_plan(config, 20, 10, 4, from_scratch=len(plan) % 2 == 0)
    reads = [index for index, phase in enumerate(fixed) if phase.kind != "teaching"]
    assert [index for index, phase in enumerate(fixed) if phase.refresh_ids] == reads[:1]


def test_as_good_as_the_best_is_what_lies_within_its_standard_error():
    plan = make_plan(ScheduleConfig(), 100, 10, 8, from_scratch=False)
    state, seen = State(), []
    for ndcg, error in ((0.02, 0.015), (0.01, 0.001), (0.03, 0.005)):
        state = judged(ScheduleConfig(), plan, state, ndcg, error)
        seen.append((state.best, state.as_good, state.stale))
    assert seen == [(0.02, pytest.approx(0.005), 0), (0.02, pytest.approx(0.005), 1), (0.03, pytest.approx(0.025), 0)]


ERROR = 0.01
"""Of every validation that these runs make."""


def run(config, plan, scores, state=None):
    """The machine as the loop drives it: (state at the end, steps done, global steps of the validations)."""
    state, steps, seen = state or State(), 0, []
    while state.phase < len(plan):
        phase = plan[state.phase]
        state, steps = advance(plan, state), steps + 1
        ended = state.step == 0
        if (ended and phase.validate) or validation_due(config, plan, state):
            seen.append(global_step(plan, state))
            state = judged(config, plan, state, scores(global_step(plan, state)), ERROR)
    return state, steps, seen


def test_validations_inside_recommender_phases_and_at_their_ends():
    config = ScheduleConfig(warmup_steps=5, generator_steps=6, recommender_steps=4, validation_steps=2)
    plan = make_plan(config, 100, 10, 8, from_scratch=False)
    state, steps, seen = run(config, plan, lambda step: 0.1)
    assert seen == [2, 4, 5, 13, 15] and steps == 15, "none in the generator's steps 6 to 11, none twice at an end"
    assert state == State(3, 0, best=0.1, as_good=0.1 - ERROR, stale=4)


def test_patience_ends_the_run_in_the_middle_of_a_phase():
    config = ScheduleConfig(warmup_steps=20, generator_steps=5, recommender_steps=5, validation_steps=4, patience=2)
    plan = make_plan(config, 100, 10, 8, from_scratch=False)
    scores = {4: 0.1, 8: 0.3, 12: 0.2, 16: 0.3}
    state, steps, seen = run(config, plan, scores.__getitem__)
    assert seen == [4, 8, 12, 16] and steps == 16, "as good is not better"
    assert state.phase == len(plan) and state.best == 0.3 and state.left_undone == 14
    assert global_step(plan, state) == 16, "a step that was not done does not count"


def test_patience_is_renewed_by_a_better_value_and_none_runs_to_the_end():
    config = ScheduleConfig(warmup_steps=4, generator_steps=4, recommender_steps=4, rounds=3, patience=2)
    plan = make_plan(config, 100, 10, 8, from_scratch=False)
    values = iter([0.1, 0.05, 0.2, 0.1])
    assert run(config, plan, lambda step: next(values))[1] == sum(phase.steps for phase in plan)
    patient = dataclasses.replace(config, patience=None)
    assert run(patient, plan, lambda step: -step)[1] == sum(phase.steps for phase in plan)
    assert run(config, plan, lambda step: -step)[1] == 4 + 8 + 8, "warm-up, then two rounds that are no better"


@settings(max_examples=80)
@given(plans, st.integers(1, 6), st.integers(1, 3), st.integers(0, 10**6), st.data())
def test_taken_up_anywhere_it_stops_at_the_same_step(plan, every, patience, seed, data):
    config = ScheduleConfig(validation_steps=every, patience=patience)

    def score(step):
        return ((step + 1) * 7919 + seed) % 101 / 101

    whole, steps, seen = run(config, plan, score)
    cut = data.draw(st.integers(0, max(0, steps - 1)))
    state = State()
    for _ in range(cut):  # as the loop, but the state goes through JSON after every step
        phase, state = plan[state.phase], advance(plan, state)
        if (state.step == 0 and phase.validate) or validation_due(config, plan, state):
            state = judged(config, plan, state, score(global_step(plan, state)), ERROR)
        state = State(**json.loads(json.dumps(dataclasses.asdict(state))))
    assert run(config, plan, score, state) == (whole, steps - cut, [step for step in seen if step > cut])
    assert global_step(plan, whole) == steps
