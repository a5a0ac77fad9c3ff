import pytest
from hypothesis import given
from hypothesis import strategies as st

from shards.build.catalogue import allocate
from shards.registry import rows

SIZES = st.dictionaries(st.sampled_from("abcdefgh"), st.integers(1, 1000), min_size=1)


@given(SIZES, st.integers(1, 500), st.integers(8, 3000), st.sampled_from([0.0, 0.5, 1.0]))
def test_nobody_gives_more_than_it_has_and_the_total_is_met(sizes, cap, total, exponent):
    try:
        given_users = allocate(sizes, cap, total, exponent)
    except ValueError:
        assert total < 1000 * len(sizes)
        return
    caps = {name: min(users, cap) for name, users in sizes.items()}
    assert list(given_users) == list(sizes)
    assert all(1 <= given_users[name] <= caps[name] for name in sizes)
    assert sum(given_users.values()) == min(total, sum(caps.values()))


def test_the_papers_rule_gives_what_the_registry_says():
    sizes = {row.category: row.expected.users for row in rows("2014") if row.role == "train" and row.expected}
    users = allocate(sizes, 30_000, None, 1.0)
    assert len(users) == 19 and users["Books"] == 30_000 and users["Automotive"] == 2_928
    assert sum(users.values()) != 183_918, "the paper's total does not follow from its rule"


def test_mixtures():
    sizes = {"large": 9_000, "middle": 900, "small": 100}
    assert allocate(sizes, None, 1_000, 1.0) == {"large": 900, "middle": 90, "small": 10}
    assert allocate(sizes, None, 300, 0.0) == {"large": 100, "middle": 100, "small": 100}
    # Evenly would be 334 each: the small one gives its 100, the others share the rest.
    assert allocate(sizes, None, 1_000, 0.0) == {"large": 450, "middle": 450, "small": 100}
    tempered = allocate(sizes, None, 1_000, 0.5)
    assert tempered == {"large": 703, "middle": 223, "small": 74}
    with pytest.raises(ValueError, match="total_users 2 leaves no user for"):
        allocate(sizes, None, 2, 1.0)
