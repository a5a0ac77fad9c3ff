"""Claims in any order and any growth end as Algorithm 1 does, run serially over the final lists."""

from hypothesis import given, settings
from hypothesis import strategies as st

from pretrain.ids.assign import Claims, sequential

candidate = st.integers(0, 8).map(lambda n: (n, n % 3))
markets = st.lists(st.lists(candidate, max_size=7, unique=True), min_size=1, max_size=9)


def test_algorithm_1_as_printed():
    a, b, c = (1,), (2,), (3,)
    assert sequential([[a, b], [a, b], [b, a], [c]]) == [0, 1, None, 0]
    assert sequential([[], [a]]) == [None, 0]


def check(claims, lists, choices, left):
    taken = []
    for row, choice in enumerate(choices):
        if choice is None:
            assert row in left
        else:
            assert row not in left
            taken.append(claims.assigned(row))
            assert taken[-1] == lists[row][choice]
    assert len(set(taken)) == len(taken), "every candidate has one holder"


@settings(max_examples=150, deadline=None)
@given(markets, st.randoms(use_true_random=False))
def test_any_order_and_any_split_of_the_calls(lists, random):
    rows = list(range(len(lists)))
    random.shuffle(rows)
    claims, left = Claims(len(lists)), set()
    while rows:
        count = random.randint(1, len(rows))
        part, rows = rows[:count], rows[count:]
        # Who is displaced in a later call comes back in that call's answer.
        left |= set(claims.propose([(row, lists[row]) for row in part]))
    check(claims, lists, sequential(lists), left)


@settings(max_examples=150, deadline=None)
@given(markets, st.randoms(use_true_random=False))
def test_lists_that_grow_when_they_run_out(lists, random):
    waves = []
    for candidates in lists:
        cuts = sorted(random.choices(range(len(candidates) + 1), k=3))
        bounds = [0, *cuts, len(candidates)]
        # A wave may find again what stands in the list already; it is skipped.
        parts = [candidates[a:b] for a, b in zip(bounds, bounds[1:], strict=False)]
        waves.append([part + candidates[: random.randint(0, 2)] for part in parts[:-1]] + parts[-1:])
        waves[-1][0] = parts[0]
    claims, active, given_out = Claims(len(lists)), list(range(len(lists))), [0] * len(lists)
    left: set[int] = set()
    while active:
        random.shuffle(active)
        added = []
        for row in active:
            added.append((row, waves[row][given_out[row]]))
            given_out[row] += 1
        exhausted = claims.propose(added)
        assert exhausted == sorted(set(exhausted))
        left = (left - {row for row, _ in added}) | set(exhausted)
        active = [row for row in left if given_out[row] < len(waves[row])]
    assert all(len(set(found)) == len(found) for found in claims.lists), "no candidate stands in a list twice"
    # Whoever holds something would take the same with the rest of its list at hand.
    check(claims, claims.lists, sequential(claims.lists), left)
    assert [claims.assigned(row) if row not in left else None for row in range(len(lists))] == [
        None if choice is None else claims.lists[row][choice] for row, choice in enumerate(sequential(claims.lists))
    ]


@settings(max_examples=100, deadline=None)
@given(markets, st.randoms(use_true_random=False))
def test_who_holds_a_candidate_keeps_it_when_its_list_grows(lists, random):
    claims = Claims(len(lists))
    left = set(claims.propose(enumerate(lists)))
    held = {row: claims.assigned(row) for row in range(len(lists)) if row not in left}
    more = [(row, [(100 + row,)]) for row in held for _ in range(random.randint(1, 2))]
    assert set(claims.propose(more)) <= left
    assert {row: claims.assigned(row) for row in held} == held


def test_the_number_of_collisions_does_not_depend_on_the_order():
    lists = [[(1,), (2,)], [(1,), (2,), (3,)], [(1,), (3,), (4,)], [(3,), (4,), (5,)]]
    counts = set()
    for order in ([0, 1, 2, 3], [3, 2, 1, 0], [2, 0, 3, 1]):
        claims = Claims(4)
        assert claims.propose([(row, lists[row]) for row in order]) == []
        counts.add(claims.collisions)
    assert len(counts) == 1
