"""Results and ranks: round trips, refusals, and everything made again from the stored ranks."""

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from zeroshot.judge.calibration import calibration, calibration_error, first_right
from zeroshot.judge.ranks import load_ranks, save_ranks, user_facts
from zeroshot.judge.rows import comparisons_from_ranks, coverage, coverage_of_groups, novelty, rows_from_ranks
from zeroshot.judge.segments import conditions, segments_from_ranks
from zeroshot.report import results
from zeroshot.report.shown_users import title, titles
from zeroshot.tasks.task import Task


def test_results_survive_a_round_trip(found: dict[str, Any], tmp_path: Path) -> None:
    results.save(found, tmp_path / "results.json")
    assert results.load(tmp_path / "results.json") == json.loads(json.dumps(found))
    assert found["users"]["Beauty"][2]["rank"] is None


def test_unknown_versions_and_missing_parts_are_refused(found: dict[str, Any], tmp_path: Path) -> None:
    for version in (1, 2, "3", None):
        with pytest.raises(ValueError, match="this program reads version 3"):
            results.validate(found | {"version": version})
    for key in results.REQUIRED:
        with pytest.raises(ValueError, match=f"`{key}`|version None"):
            results.validate({name: value for name, value in found.items() if name != key})
    broken = copy.deepcopy(found)
    del broken["rows"][0]["metrics"]["MRR@10"]
    with pytest.raises(ValueError, match="lacks MRR@10"):
        results.validate(broken)
    for part, key in (("comparisons", "p_holm"), ("segments", "bin"), ("sweeps", "value"), ("audit", "verdict")):
        broken = copy.deepcopy(found)
        del broken[part][0][key]
        with pytest.raises(ValueError, match=f"lacks {key}"):
            results.validate(broken)
    broken = copy.deepcopy(found)
    broken["audit"][0]["verdict"] = "fine"
    with pytest.raises(ValueError, match="verdict 'fine'"):
        results.validate(broken)
    with pytest.raises(ValueError, match="no results"):
        results.load(tmp_path / "nothing.json")


def test_ranks_are_written_once_per_user(ranks: pl.DataFrame, tmp_path: Path) -> None:
    save_ranks(ranks, tmp_path / "ranks.parquet")
    assert load_ranks(tmp_path / "ranks.parquet").equals(ranks)
    with pytest.raises(ValueError, match="two ranks"):
        save_ranks(pl.concat([ranks, ranks.head(1)]), tmp_path / "twice.parquet")
    with pytest.raises(ValueError, match="target_is_new"):
        save_ranks(ranks.drop("target_is_new"), tmp_path / "lacking.parquet")
    with pytest.raises(ValueError, match="missing"):
        load_ranks(tmp_path / "nothing.parquet")


def test_everything_comes_again_from_the_stored_ranks_in_any_order_of_users(
    ranks: pl.DataFrame, found: dict[str, Any], kinds: dict[str, str], tmp_path: Path
) -> None:
    save_ranks(ranks.sample(fraction=1, shuffle=True, seed=3), tmp_path / "ranks.parquet")
    results.save(found, tmp_path / "results.json")
    stored, told = load_ranks(tmp_path / "ranks.parquet"), results.load(tmp_path / "results.json")
    keys = ("task", "recommender", "protocol", "users")
    coverages = {tuple(row[key] for key in keys): row["coverage@10"] for row in told["rows"]}

    def ordered(entries: list[dict[str, Any]]) -> list[str]:
        return sorted(json.dumps(entry, sort_keys=True) for entry in entries)

    assert ordered(rows_from_ranks(stored, kinds, coverages)) == ordered(told["rows"])
    assert ordered(comparisons_from_ranks(stored, kinds)) == ordered(told["comparisons"])
    assert ordered(segments_from_ranks(stored, kinds)) == ordered(told["segments"])


def test_rows_and_comparisons_say_what_the_ranks_say(ranks: pl.DataFrame, found: dict[str, Any]) -> None:
    def value(recommender: str, users: str = "all") -> float:
        wanted = {"task": "Yelp", "recommender": recommender, "protocol": "all", "users": users}
        (row,) = [row for row in found["rows"] if wanted.items() <= row.items()]
        low, high = row["intervals"]["HR@10"]
        assert low <= row["metrics"]["HR@10"] <= high
        return row["metrics"]["HR@10"]

    own = ranks.filter(task="Yelp", protocol="all", recommender="idgenrec")
    assert value("idgenrec") == pytest.approx((own["rank"] <= 10).mean())
    assert value("idgenrec", "new_target") == pytest.approx((own.filter("target_is_new")["rank"] <= 10).mean())
    wanted = {"task": "Yelp", "protocol": "all", "users": "all", "baseline": "repeat", "metric": "HR@10"}
    (comparison,) = [
        entry for entry in found["comparisons"] if (wanted | {"recommender": "idgenrec"}).items() <= entry.items()
    ]
    assert comparison["difference"] == pytest.approx(value("idgenrec") - value("repeat"))
    assert comparison["p"] <= comparison["p_holm"] <= 1
    kinds = {row["recommender"]: row["kind"] for row in found["rows"]}
    pairs = {(kinds[entry["recommender"]], kinds[entry["baseline"]]) for entry in found["comparisons"]}
    assert pairs == {("model", "control"), ("model", "baseline"), ("model", "supervised")} | {
        ("control", "baseline"),
        ("control", "supervised"),
    }


def test_holm_is_over_tasks_and_baselines_of_one_model_metric_group_and_protocol(found: dict[str, Any]) -> None:
    family = [
        entry
        for entry in found["comparisons"]
        if (entry["recommender"], entry["metric"], entry["users"], entry["protocol"])
        == ("idgenrec", "HR@10", "all", "all")
    ]
    assert len(family) == 2 * 7, "two tasks, seven opponents"
    smallest = min(family, key=lambda entry: entry["p"])
    assert smallest["p_holm"] == pytest.approx(min(1.0, 14 * smallest["p"]))


def test_a_model_on_a_sample_is_compared_on_its_users_alone(ranks: pl.DataFrame, kinds: dict[str, str]) -> None:
    table = ranks.filter(task="Beauty", protocol="all").filter(pl.col("recommender").is_in(["idgenrec", "popularity"]))
    chosen = [f"Beauty-{number}" for number in range(0, 400, 4)]
    sampled = table.filter((pl.col("recommender") == "popularity") | pl.col("user").is_in(chosen))
    (found, _) = [entry for entry in comparisons_from_ranks(sampled, kinds) if entry["users"] == "all"]
    assert found["num_users"] == 100
    assert comparisons_from_ranks(table.filter(pl.col("user").is_in(chosen)), kinds)[0] == found
    lacking = table.filter((pl.col("recommender") == "idgenrec") | pl.col("user").is_in(chosen))
    with pytest.raises(ValueError, match="popularity was not judged on every user of idgenrec"):
        comparisons_from_ranks(lacking, kinds)


def test_segments_part_the_users(ranks: pl.DataFrame, found: dict[str, Any]) -> None:
    own = ranks.filter(task="Yelp", protocol="all", recommender="idgenrec")
    for segment in dict.fromkeys(segment for segment, _, _ in conditions()):
        parts = [own.filter(condition) for name, _, condition in conditions() if name == segment]
        assert sum(part.height for part in parts) == own.height, segment
    wanted = {"task": "Yelp", "protocol": "all", "recommender": "idgenrec", "segment": "target_count", "bin": "3-5"}
    (row,) = [row for row in found["segments"] if wanted.items() <= row.items()]
    inside = own.filter((pl.col("target_count") >= 3) & (pl.col("target_count") <= 5))
    assert row["num_users"] == inside.height
    assert row["metrics"]["HR@10"] == pytest.approx((inside["rank"] <= 10).mean())
    repeats = [row for row in found["segments"] if row["segment"] == "repeat_target" and row["bin"] == "yes"]
    assert {row["task"] for row in repeats} == {"Yelp"}, "nobody in the other set buys again"


def test_facts_of_users_are_counted_without_held_out_items() -> None:
    task = Task(
        "T", ["u", "v"], ["title: a b", "title: c", "x"], ["i0", "i1", "i2"],
        histories=[np.array([0, 1, 1]), np.array([1, 2])], targets=np.array([1, 0]),
        training_histories=[np.array([0, 1]), np.array([1]), np.array([2])],
    )  # fmt: skip
    facts = user_facts(task, np.array([3, 4, 5]))
    assert facts.target_is_new_N.tolist() == [False, True]
    assert facts.history_lengths_N.tolist() == [3, 2]
    assert facts.target_counts_N.tolist() == [2, 1]
    assert facts.text_words_N.tolist() == [2, 3]
    assert facts.id_tokens_N is not None and facts.id_tokens_N.tolist() == [4, 3]


def test_coverage_and_novelty_by_hand() -> None:
    top_NK = np.array([[0, 1, -1], [1, 2, -1], [-1, -1, -1]])
    assert coverage(top_NK, 6) == 0.5
    assert coverage_of_groups(top_NK, np.array([True, False, True]), 4) == {"all": 0.75, "new_target": 0.5}
    counts_I = np.array([3, 1, 0, 0])  # with one added each: 4, 2, 1, 1 of 8
    found = novelty(top_NK, counts_I)
    assert found[:2].tolist() == [(1 + 2) / 2, (2 + 3) / 2] and np.isnan(found[2])
    with pytest.raises(ValueError, match="candidate"):
        coverage(top_NK, 0)


def test_calibration_of_a_model_that_knows_how_sure_it_is() -> None:
    draw = np.random.default_rng(3)
    probability_N = draw.uniform(0.01, 0.6, 4000)
    ranks_N = np.where(draw.random(4000) < probability_N, 1.0, 4.0)
    table = pl.DataFrame({"rank": ranks_N, "top_score": np.log(probability_N).astype(np.float32)})
    bins = calibration(table)
    assert sum(one.num_users for one in bins) == 4000 and len(bins) == 10
    assert calibration_error(bins) < 0.03, "what 400 users in a bin leave to chance"
    assert sum(one.low <= one.probability <= one.high for one in bins) >= 8
    overconfident = table.with_columns(rank=pl.lit(4.0))
    assert calibration_error(calibration(overconfident)) == pytest.approx(probability_N.mean(), abs=1e-4)
    assert first_right(np.array([1.0, 1.5, 2.0, np.inf])).tolist() == [1, 0.5, 0, 0]
    assert calibration(table.with_columns(top_score=pl.lit(None, dtype=pl.Float32))) == []


def test_titles_are_the_first_field_that_says_something() -> None:
    assert title("title: argan oil; brand: x") == "argan oil"
    assert title("title: na; categories: beauty, hair") == "beauty, hair"
    assert title("plain words") == "plain words"
    assert len(title("title: " + "word " * 60)) <= 90
    users = [{"history": ["a"], "target": "b", "list": [["c", -1.0]]}]
    assert titles(users, ["a", "b", "c", "d"], ["title: A", "title: B", "title: C", "title: D"]) == {
        "a": "A",
        "b": "B",
        "c": "C",
    }
