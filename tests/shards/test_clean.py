import polars as pl
import pytest
from raw_folders import write_raw

from shards.build import BuildConfig, build
from shards.clean import check_not_sorted_by_id, k_core, leave_one_out, sequences, share_sorted_by_id


def frame(*histories):
    return pl.DataFrame({"user": [f"u{n}" for n in range(len(histories))], "items": list(histories)})


def test_sequences_are_chronological_and_ties_keep_the_source_order():
    rows = [("u2", "z", 5), ("u1", "b", 9), ("u2", "a", 5), ("u1", "c", 1), ("u2", "m", 2)]
    interactions = pl.DataFrame(rows, schema=["user", "item", "position"], orient="row")
    assert sequences(interactions).rows() == [("u2", ["m", "z", "a"]), ("u1", ["c", "b"])]


def test_leave_one_out_takes_the_last_two():
    split = leave_one_out(frame(["a", "b", "c", "d"], ["x", "y", "z"]))
    assert split.rows() == [("u0", ["a", "b"], "c", "d"), ("u1", ["x"], "y", "z")]
    with pytest.raises(ValueError, match="'u0' has 2 items"):
        leave_one_out(frame(["a", "b"]))


def test_share_sorted_by_id():
    assert share_sorted_by_id(frame(["B1", "B2", "B3"], ["B3", "B1", "B2"], ["B1", "B1", "B2"])) == pytest.approx(2 / 3)
    assert share_sorted_by_id(frame(["9", "10", "11"])) == 1.0, "numbers sort as numbers"
    assert share_sorted_by_id(frame(["a", "a", "a"])) == 0.0, "one item tells nothing"


def test_check_refuses_only_sorted_data():
    check_not_sorted_by_id("Toys", 0.94)
    check_not_sorted_by_id("Toys", 1.0, allow=True)
    with pytest.raises(ValueError, match="Toys.*not chronological.*allow_sorted_by_id"):
        check_not_sorted_by_id("Toys", 0.95)


@pytest.mark.parametrize("role", ["train", "test"])
def test_a_build_refuses_asin_sorted_sequences(raw, tmp_path, role):
    """Fault 2 of the reference: Sports and Toys sorted by ASIN instead of by time."""
    items = [f"B{n:09d}" for n in range(12)]
    lines = [f"u{n} " + " ".join(sorted({items[(n * 5 + step * step) % 12] for step in range(5)})) for n in range(20)]
    texts = "\n".join(f"{item} title: thing number {n}" for n, item in enumerate(items))
    folder = str(write_raw(tmp_path / "Sorted", "\n".join(lines), texts))
    settings = {"train": (str(raw / "Garden"),), "test": (), "out": str(tmp_path / "out"), "vocab_size": 300}
    settings[role] = (*settings[role], folder)
    with pytest.raises(ValueError, match="Sorted: 100.0% of the users .* not chronological"):
        build(BuildConfig(**settings))
    assert not list(tmp_path.glob("*out*")), "a failed build leaves nothing"
    manifest = build(BuildConfig(**settings, allow_sorted_by_id=True))
    assert manifest.member("Sorted").share_sorted_by_id == 1.0


def test_k_core_runs_to_the_fixpoint():
    rows = [("a", "x"), ("a", "y"), ("b", "x"), ("b", "y"), ("c", "y"), ("c", "z"), ("d", "z")]
    interactions = pl.DataFrame(rows, schema=["user", "item"], orient="row")
    assert k_core(interactions, 2).rows() == rows[:4], "d falls, then z, then c"
