from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shards.build import k_core as module
from shards.build.k_core import k_core


def peeled_by_hand(pairs, k):
    """One user or item at a time, in another order than ours: the core does not depend on it."""
    pairs = list(pairs)
    while True:
        users, items = Counter(u for u, _ in pairs), Counter(i for _, i in pairs)
        few_items = [i for i, n in items.items() if n < k]
        few_users = [u for u, n in users.items() if n < k]
        if few_items:
            pairs = [pair for pair in pairs if pair[1] != few_items[-1]]
        elif few_users:
            pairs = [pair for pair in pairs if pair[0] != few_users[-1]]
        else:
            return pairs


@settings(max_examples=200)
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=80), st.integers(1, 5))
def test_the_core_is_the_largest_one(pairs, k):
    users, items = np.array([p[0] for p in pairs], np.int32), np.array([p[1] for p in pairs], np.int32)
    users_stay, items_stay, _, left = k_core(users, items, k)
    kept = [(u, i) for u, i in pairs if users_stay[u] and items_stay[i]]
    assert kept == peeled_by_hand(pairs, k), "repeats count and the order stays"
    assert left == len(kept)
    assert set(np.flatnonzero(users_stay)) == {u for u, _ in kept}
    assert set(np.flatnonzero(items_stay)) == {i for _, i in kept}


def chain(links, k):
    """User n holds item n and item n + 1, `k` times in all; the last item is one short, so each link falls in turn."""
    pairs = []
    for n in range(links):
        pairs += [(n, n)] * (k - 1) + [(n, n + 1)]
    return pairs


@pytest.mark.parametrize("chunk", [1 << 23, 3])
def test_a_chain_needs_a_peel_for_each_link(monkeypatch, chunk):
    monkeypatch.setattr(module, "CHUNK", chunk)
    pairs = np.array(chain(12, 5), np.int32)
    before = pairs.copy()
    users_stay, items_stay, peels, _ = k_core(pairs[:, 0], pairs[:, 1], 5)
    assert peels >= 12 and not users_stay.any() and not items_stay.any()
    assert (pairs == before).all(), "arrays that are not given away stay as they are"


def test_nothing_to_remove_is_no_peel():
    square = np.array([(u, i) for u in range(5) for i in range(5)], np.int32)
    users_stay, items_stay, peels, _ = k_core(square[:, 0].copy(), square[:, 1].copy(), 5, owned=True)
    assert peels == 0 and users_stay.all() and items_stay.all()
