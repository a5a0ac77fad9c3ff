import numpy as np

from shards.counters import generator, number


def draw(*key):
    return generator(*key).integers(0, 2**62, size=4).tolist()


def test_same_key_same_numbers_and_any_change_changes_them():
    keys = [
        (0, "template", 1, "a"),
        (1, "template", 1, "a"),
        (0, "tars", 1, "a"),
        (0, "template", 2, "a"),
        (0, "template", 1, "b"),
        (0, "template", "1", "a"),
        (0, "template", 1),
        (0, "template", 1, "a", 0),
        (0, "template", 11),
        (0, "template", 1, 1),
        (0, "template", "11"),
        (0, "template", "1", "1"),
    ]
    draws = [draw(*key) for key in keys]
    assert draws == [draw(*key) for key in reversed(keys)][::-1]
    assert len({tuple(numbers) for numbers in draws}) == len(keys)


def test_numpy_integers_are_the_same_counters():
    assert draw(np.int64(5), "x", np.int32(7)) == draw(5, "x", 7)


def test_numbers_stay_what_they_are():
    assert generator(0, "pinned", 1, "a").integers(0, 1000, size=4).tolist() == PINNED


def test_single_numbers_are_drawn_from_the_same_counters_over_the_whole_range():
    keys = [(seed, "key", epoch, name) for seed in (0, 1) for epoch in range(100) for name in ("1", 1, 2)]
    found = [number(*key) for key in keys]
    assert found == [number(*key) for key in keys] and len(set(found)) == len(keys)
    assert -(1 << 63) <= min(found) < -(1 << 62) < 1 << 62 < max(found) < 1 << 63
    assert number(0, "pinned", 1, "a") == PINNED_NUMBER


PINNED_NUMBER = -6055817798388306138
PINNED = [853, 324, 366, 154]
