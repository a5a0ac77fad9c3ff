"""The exponent of the curve over pretraining users: known laws come back, with an interval over judged users."""

import json

import numpy as np
import polars as pl
import pytest

from benchmarks.results.curve import curve, exponent, exponent_interval
from benchmarks.results.kept import hits_of, kept_ranks, save_ranks
from zeroshot.judge.ranks import UserFacts, ranks_table

USERS_K = np.array([75, 150, 300, 600])


def drawn(power, num_users=4_000, seed=0):
    """Hits of users under HR@10 = 0.04 * (users / 75) ** power: who is hit once is hit by all better runs."""
    luck_N = np.random.default_rng(seed).random(num_users)
    return (luck_N < 0.04 * (USERS_K[:, None] / 75) ** power).astype(float)


@pytest.mark.parametrize("power", [-0.3, 0.0, 0.5])
def test_a_known_law_lies_in_the_interval(power):
    hits_KN = drawn(power)
    low, high = exponent_interval(USERS_K, hits_KN)
    assert low <= exponent(USERS_K, hits_KN) <= high and low <= power <= high
    assert exponent_interval(USERS_K, hits_KN) == (low, high), "one seed, one interval"


def test_fewer_judged_users_say_less_and_none_hit_is_no_fault():
    few, many = (exponent_interval(USERS_K, drawn(0.5, num_users)) for num_users in (400, 4_000))
    assert few[1] - few[0] > many[1] - many[0]
    assert exponent(USERS_K, np.zeros((4, 50))) == pytest.approx(0.0)


def test_the_table_has_a_line_for_each_run_in_the_order_of_their_users(tmp_path):
    rng = np.random.default_rng(1)
    names, ones_N = [f"{user:02}" for user in range(40)], np.ones(40, dtype=np.int64)
    facts = UserFacts(names, ones_N.astype(bool), ones_N, ones_N, ones_N)
    for users in (150, 75):
        ranks = [ranks_table("T", "idgenrec", one, facts, rng.integers(1, 30, 40) + 0.0) for one in ("all", "new")]
        (tmp_path / str(users)).mkdir()
        save_ranks(pl.concat(ranks).sample(fraction=1.0, shuffle=True, seed=2), tmp_path / str(users) / "ranks.parquet")
        checkpoint = {"provenance": {"checkpoint": f"step-{users:07}"}}
        (tmp_path / str(users) / "facts.json").write_text(json.dumps(checkpoint))
    lines = curve(tmp_path)
    assert [line.split("|")[2].strip() for line in lines[2:5]] == ["75", "150", ""]
    assert [line.split("|")[1].strip() for line in lines[2:5]] == ["75", "150", "exponent"]
    hits_N = hits_of([(kept_ranks(tmp_path / "75"), "idgenrec")], "T", "new")[0]
    assert f"| {hits_N.mean():.4f} (" in lines[2] and "40 users judged" in lines[0]
    other = kept_ranks(tmp_path / "75").with_columns(user=pl.lit("1") + pl.col("user"))
    save_ranks(other, tmp_path / "75" / "ranks.parquet")
    with pytest.raises(ValueError, match="not the same users of T; keep one sample of it"):
        curve(tmp_path)
