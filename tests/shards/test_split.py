import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shards.build.sequences import (
    HISTORY,
    TEST,
    UNUSED,
    VALID,
    ascending,
    check_not_sorted_by_id,
    leave_one_out,
    split_at,
)

SEQUENCES = st.lists(st.lists(st.integers(0, 20), min_size=3, max_size=8).map(sorted), min_size=1, max_size=6)


def laid_out(sequences):
    return np.cumsum([0, *map(len, sequences)]), np.array([value for one in sequences for value in one], np.int64)


@given(SEQUENCES)
def test_leave_one_out(sequences):
    offsets, _ = laid_out(sequences)
    parts = leave_one_out(offsets)
    for start, stop in zip(offsets[:-1], offsets[1:], strict=True):
        assert parts[start:stop].tolist() == [HISTORY] * (stop - start - 2) + [VALID, TEST]


@given(SEQUENCES, st.integers(0, 21))
def test_a_split_in_time_uses_nothing_from_after_the_moment(sequences, moment):
    offsets, times = laid_out(sequences)
    parts = split_at(offsets, times, moment)
    for start, stop in zip(offsets[:-1], offsets[1:], strict=True):
        mine, when = parts[start:stop].tolist(), times[start:stop]
        before = int((when < moment).sum())
        if before >= 2 and before < stop - start:
            assert mine == [HISTORY] * (before - 1) + [VALID, TEST] + [UNUSED] * (stop - start - before - 1)
            assert when[before] >= moment, "the target is the first item from the moment on"
        else:
            assert mine == [HISTORY] * before + [UNUSED] * (stop - start - before)


def test_ascending_says_which_users_say_something():
    offsets, ranks = laid_out([[0, 1, 2], [2, 0, 1], [1, 1, 1], [0, 0, 3]])
    in_order, says = ascending(offsets, ranks)
    assert in_order.tolist() == [True, False, False, True] and says.tolist() == [True, True, False, True]


def test_sorted_sequences_are_refused():
    check_not_sorted_by_id("Sports", 0.94, allow=False)
    check_not_sorted_by_id("Sports", 1.0, allow=True)
    with pytest.raises(ValueError, match=r"Sports: 99.0% of the users .* allow_sorted_by_id"):
        check_not_sorted_by_id("Sports", 0.99, allow=False)
