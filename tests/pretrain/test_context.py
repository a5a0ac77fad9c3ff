"""The context: counted pair by pair, the same whatever the block, with a floor under what a five-core gives away."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pretrain.ranking import context as module
from pretrain.ranking.context import FLOOR, Context

NUM_ITEMS = 7
HISTORIES = st.lists(st.lists(st.integers(0, NUM_ITEMS - 1), max_size=9), max_size=12)


def as_arrays(histories):
    return [np.array(history, dtype=np.int64) for history in histories]


@given(HISTORIES)
def test_pairs_are_the_users_who_have_both(histories):
    counted = Context(as_arrays(histories), NUM_ITEMS)
    users = [{user for user, history in enumerate(histories) if item in history} for item in range(NUM_ITEMS)]
    counts = [max(len(one), FLOOR) for one in users]
    assert counted.counts_I.tolist() == counts
    dense = counted.cosines_II.toarray()
    for one, other in itertools.product(range(NUM_ITEMS), repeat=2):
        both = 0 if one == other else len(users[one] & users[other])
        assert dense[one, other] == pytest.approx(both / math.sqrt(counts[one] * counts[other]), rel=1e-6)


@pytest.mark.parametrize("block", [1, 3, NUM_ITEMS])
def test_blocks_change_no_bit(monkeypatch, block):
    draw = np.random.default_rng(0)
    histories = [draw.integers(0, NUM_ITEMS, 8) for _ in range(40)]
    whole = Context(histories, NUM_ITEMS).cosines_II
    monkeypatch.setattr(module, "BLOCK", block)
    parts = Context(histories, NUM_ITEMS).cosines_II
    for part in ("data", "indices", "indptr"):
        assert np.array_equal(getattr(parts, part), getattr(whole, part))


def test_counts_below_the_floor_are_one():
    """In a five-core, items that are seldom in the training part are those that are held out."""
    histories = as_arrays([[0, 1, 1, 1], [0], [0], [0], [0, 2], [2]])
    counted = Context(histories, 5)
    assert counted.counts_I.tolist() == [5, FLOOR, FLOOR, FLOOR, FLOOR]
    assert counted.cosines_II[[0], [1]] == pytest.approx(1 / math.sqrt(5 * FLOOR), rel=1e-6)


def test_no_user_and_no_item():
    for histories, items in (([], 3), ([[]], 3), ([], 0)):
        counted = Context(as_arrays(histories), items)
        assert counted.cosines_II.shape == (items, items) and counted.cosines_II.nnz == 0


@pytest.mark.parametrize("row", [-1, 3])
def test_an_unknown_item_is_refused(row):
    with pytest.raises(ValueError, match="names an item outside the catalogue of 3 items"):
        Context(as_arrays([[0, row]]), 3)
