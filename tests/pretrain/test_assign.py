"""Proposals and answers over any number of ranks end as Algorithm 1 does, run serially over the final lists."""

from hypothesis import given, settings
from hypothesis import strategies as st

from pretrain.ids.assign import Acceptors, Proposers, candidate_of, owner_of, sequential, tokens_of

candidate = st.integers(0, 8).map(lambda n: candidate_of((n, n % 3)))
markets = st.lists(st.lists(candidate, max_size=7, unique=True), min_size=1, max_size=9)


class Ranks:
    """Several ranks in one process: the same functions, messages carried by hand and in any order."""

    def __init__(self, size, items, random):
        self.size, self.random = size, random
        self.proposers = [Proposers(range(rank, items, size)) for rank in range(size)]
        self.acceptors = [Acceptors() for _ in range(size)]

    def add(self, row, candidates):
        self.proposers[row % self.size].add(row, candidates)

    def settle(self):
        """Until nobody proposes; a rank may be slow, so that only some of the messages arrive in a round."""
        post = []
        while True:
            post += [proposal for proposers in self.proposers for proposal in proposers.proposals()]
            if not post:
                break
            self.random.shuffle(post)
            number = self.random.randint(1, len(post))
            arrived, post = post[:number], post[number:]
            for rank, acceptors in enumerate(self.acceptors):
                for row in acceptors.decide(p for p in arrived if owner_of(p[1], self.size) == rank):
                    self.proposers[row % self.size].rejected([row])
        return {row: held.candidate for proposers in self.proposers for row, held in proposers.held().items()}

    def exhausted(self):
        return sorted(row for proposers in self.proposers for row in proposers.exhausted())


def expected(lists):
    return {row: lists[row][c] for row, c in enumerate(sequential(lists)) if c is not None}


def test_algorithm_1_as_printed():
    a, b, c = map(candidate_of, ((1,), (2,), (3,)))
    assert sequential([[a, b], [a, b], [b, a], [c]]) == [0, 1, None, 0]
    assert sequential([[], [a]]) == [None, 0]


@settings(max_examples=200)
@given(markets, st.integers(1, 5), st.randoms(use_true_random=False))
def test_any_order_of_messages_over_any_number_of_ranks(lists, size, random):
    ranks = Ranks(size, len(lists), random)
    rows = list(range(len(lists)))
    random.shuffle(rows)
    for row in rows:
        ranks.add(row, lists[row])
    held = ranks.settle()
    assert held == expected(lists)
    assert ranks.exhausted() == sorted(set(range(len(lists))) - set(held))
    places = [lists[row].index(held[row]) if row in held else len(lists[row]) for row in range(len(lists))]
    assert sum(proposers.rejections for proposers in ranks.proposers) == sum(places), (
        "the number of rejections has no order"
    )


@settings(max_examples=200)
@given(markets, st.integers(1, 4), st.randoms(use_true_random=False))
def test_lists_that_grow_when_they_run_out(lists, size, random):
    ranks, given_out = Ranks(size, len(lists), random), [0] * len(lists)
    parts = []
    for candidates in lists:
        cuts = sorted(random.choices(range(len(candidates) + 1), k=3))
        bounds = [0, *cuts, len(candidates)]
        # A wave may find again what stands in the list already; it is skipped.
        found = [candidates[a:b] for a, b in zip(bounds, bounds[1:], strict=False)]
        parts.append([part + candidates[:a] for part, a in zip(found, bounds, strict=False)])
    active, held = list(range(len(lists))), {}
    while active:
        for row in active:
            ranks.add(row, parts[row][given_out[row]])
            given_out[row] += 1
        held = ranks.settle()
        active = [row for row in ranks.exhausted() if given_out[row] < len(parts[row])]
    final = {row: found for proposers in ranks.proposers for row, found in proposers.lists.items()}
    assert all(len(set(found)) == len(found) for found in final.values()), "no candidate stands in a list twice"
    # Whoever holds something would take the same with the rest of its list at hand.
    assert held == expected([final[row] for row in range(len(lists))]) == expected(lists)


def test_a_holder_keeps_its_candidate_when_its_list_grows():
    one, two, three = map(candidate_of, ((1,), (2,), (3,)))
    proposers, acceptors = Proposers([3]), Acceptors()
    proposers.add(3, [])
    proposers.add(3, [one])
    assert acceptors.decide(proposers.proposals()) == [] and proposers.held() == {3: (one, 1)}
    proposers.add(3, [one, two])
    assert proposers.proposals() == [] and proposers.held() == {3: (one, 1)} and proposers.attempts(3) == 3
    proposers.rejected([3])
    assert proposers.proposals() == [(3, two)] and proposers.held() == {3: (two, 2)}
    assert list(proposers.passed_over()) == [(3, one)] and proposers.exhausted() == []
    proposers.rejected([3])
    assert proposers.exhausted() == [3] and proposers.held() == {}
    proposers.add(3, [three])
    assert proposers.proposals() == [(3, three)]


def test_an_item_of_an_older_book_is_never_bumped():
    held = candidate_of((1, 2))
    acceptors = Acceptors()
    assert acceptors.decide([(-5, held)]) == []
    assert acceptors.decide([(0, held), (7, held)]) == [0, 7] and acceptors.holder == {held: -5}


def test_candidates_are_token_ids():
    assert tokens_of(candidate_of([5, 32_000])).tolist() == [5, 32_000]
    assert candidate_of([5]) != candidate_of([5, 0]) and len(candidate_of([1, 2, 3])) == 12


def test_owners_are_the_same_in_every_process_and_spread():
    owners = [owner_of(candidate_of((a, b)), 8) for a in range(60) for b in range(60)]
    assert owner_of(candidate_of((5, 7)), 8) == 4, "a hash that no process salts"
    assert min(owners.count(rank) for rank in range(8)) > 3600 / 8 * 0.7
