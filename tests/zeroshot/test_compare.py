"""Runs side by side: what is compared, what is pooled, what is refused."""

import copy
import json
import shutil
from pathlib import Path
from typing import Any

import made_up
import numpy as np
import polars as pl
import pytest

from pretrain.ranking.metrics import hit_ratio
from zeroshot.compare.comparison import compare, load_runs, recipes, short_names
from zeroshot.compare.page import console_lines, render_html, render_markdown, write_comparison
from zeroshot.judge.ranks import save_ranks
from zeroshot.judge.significance import permutation_test, two_way_bootstrap_interval
from zeroshot.report import results

FEW = {"idgenrec": 0.5, "popularity": 0.15, "tfidf-last": 0.55}


def report(
    folder: Path, training_seed: int, recipe: str, hits: float, keep: pl.Expr | None = None
) -> str:  # fmt: skip
    """A report folder; every run has the same users, and ranks of its own for the model."""
    table = made_up.made_up_ranks(("Beauty", "Yelp"), 300, FEW)
    draw = np.random.default_rng([training_seed, int(hits * 100)])
    fresh = np.where(draw.random(table.height) < hits, draw.integers(1, 15, table.height), np.inf)
    own = pl.col("recommender") == "idgenrec"
    table = table.with_columns(rank=pl.when(own).then(pl.Series(fresh)).otherwise(pl.col("rank")))
    table = table if keep is None else table.filter(keep)
    kinds = {name: made_up.KINDS[name] for name in FEW}
    found = made_up.made_up_results(table, kinds, origin=made_up.provenance(training_seed, recipe), rows_alone=True)
    folder.mkdir(parents=True)
    save_ranks(table, folder / "ranks.parquet")
    results.save(found, folder / "results.json")
    return str(folder)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    root = tmp_path_factory.mktemp("runs")
    wanted = (("small-0", 0, "cd", 0.1), ("small-1", 1, "cd", 0.12), ("large", 0, "ef", 0.3))
    return [report(root / name / "report", seed, recipe, hits) for name, seed, recipe, hits in wanted]


@pytest.fixture(scope="module")
def comparison(folders: list[str]) -> dict[str, Any]:
    return compare(load_runs(folders))


def test_every_pair_is_tested_and_corrected_together(comparison: dict[str, Any]) -> None:
    assert [run["run"] for run in comparison["runs"]] == ["small-0", "small-1", "large"]
    family = [
        entry
        for entry in comparison["comparisons"]
        if (entry["metric"], entry["users"], entry["protocol"]) == ("HR@10", "all", "all")
    ]
    assert len(family) == 3 * 2, "three pairs on two tasks"
    smallest = min(family, key=lambda entry: entry["p"])
    assert smallest["p_holm"] == pytest.approx(6 * smallest["p"])
    assert {smallest["run"], smallest["other"]} & {"large"}
    where = {"task": "Beauty", "run": "small-0", "other": "large"}
    (entry,) = [entry for entry in family if where.items() <= entry.items()]
    rows = {row["run"]: row for row in comparison["rows"] if (row["task"], row["protocol"]) == ("Beauty", "all")}
    assert entry["difference"] == pytest.approx(rows["small-0"]["metrics"]["HR@10"] - rows["large"]["metrics"]["HR@10"])
    assert entry["p_holm"] < 0.05 and entry["high"] < 0


def test_seeds_are_shown_apart_and_pooled(comparison: dict[str, Any], folders: list[str]) -> None:
    assert {run["run"]: run["recipe"] for run in comparison["runs"]} == {
        "small-0": "small-0",
        "small-1": "small-0",
        "large": "large",
    }
    pooled = [entry for entry in comparison["pooled"] if (entry["task"], entry["protocol"]) == ("Beauty", "all")]
    (entry,) = [entry for entry in pooled if entry["users"] == "all"]
    assert entry["runs"] == ["small-0", "small-1"] and entry["num_seeds"] == 2 and entry["num_users"] == 300
    means = [
        float(
            hit_ratio(
                pl.read_parquet(Path(folder) / "ranks.parquet")
                .filter(task="Beauty", protocol="all", recommender="idgenrec")["rank"]
                .to_numpy(),
                10,
            ).mean()
        )
        for folder in folders[:2]
    ]
    assert entry["metrics"]["HR@10"] == pytest.approx(np.mean(means))
    assert entry["deviations"]["HR@10"] == pytest.approx(np.std(means, ddof=1))
    low, high = entry["intervals"]["HR@10"]
    assert low <= min(means) + 0.02 and high >= max(means) - 0.02


def test_the_seeds_together_stand_against_everyone_beside_them(
    comparison: dict[str, Any], folders: list[str], tmp_path: Path
) -> None:
    family = [
        entry
        for entry in comparison["against"]
        if (entry["metric"], entry["users"], entry["protocol"]) == ("HR@10", "all", "all")
    ]
    assert {(entry["task"], entry["other"]) for entry in family} == {
        (task, other) for task in ("Beauty", "Yelp") for other in ("popularity", "tfidf-last")
    }
    entry = next(entry for entry in family if (entry["task"], entry["other"]) == ("Beauty", "popularity"))

    def hits(folder: str, name: str) -> np.ndarray:
        table = pl.read_parquet(Path(folder) / "ranks.parquet")
        return hit_ratio(
            table.filter(task="Beauty", protocol="all", recommender=name).sort("user")["rank"].to_numpy(), 10
        )

    differences_SN = np.stack([hits(folder, "idgenrec") - hits(folder, "popularity") for folder in folders[:2]])
    assert entry["difference"] == pytest.approx(differences_SN.mean())
    assert (entry["low"], entry["high"]) == two_way_bootstrap_interval(differences_SN, 0)
    mine_N, other_N = (
        np.mean([hits(folder, name) for folder in folders[:2]], axis=0) for name in ("idgenrec", "popularity")
    )
    assert entry["p"] == permutation_test(mine_N, other_N, 0)
    smallest = min(family, key=lambda entry: entry["p"])
    assert smallest["p_holm"] == pytest.approx(min(1.0, len(family) * smallest["p"]))

    # A peer that judged fewer users is left out; one that stands in one seed's report alone stands beside both.
    ranks = pl.read_parquet(Path(folders[1]) / "ranks.parquet")
    popular, place = pl.col("recommender") == "popularity", pl.col("user").rank("dense").over("task")
    other = tmp_path / "seed" / "report"
    shutil.copytree(folders[1], other)
    save_ranks(ranks.filter(~popular | (place > 5)), other / "ranks.parquet")
    fewer = compare(load_runs([folders[0], str(other)]))["against"]
    assert {entry["other"] for entry in fewer} == {"tfidf-last"}
    save_ranks(ranks.filter(~popular), other / "ranks.parquet")
    once = compare(load_runs([folders[0], str(other)]))["against"]
    found = next(one for one in once if all(one[key] == entry[key] for key in ("task", "protocol", "users", "metric",
                                                                               "other")))  # fmt: skip
    beside_SN = np.stack([hits(folder, "idgenrec") - hits(folders[0], "popularity") for folder in folders[:2]])
    assert found["difference"] == pytest.approx(beside_SN.mean())
    assert found["p"] == permutation_test(mine_N, hits(folders[0], "popularity"), 0)


def test_page_markdown_and_console_say_the_same(comparison: dict[str, Any], tmp_path: Path) -> None:
    paths = write_comparison(comparison, tmp_path / "out")
    assert [path.name for path in paths] == ["compare.json", "compare.html", "compare.md"]
    html, markdown, lines = render_html(comparison), render_markdown(comparison), "\n".join(console_lines(comparison))
    for row in comparison["rows"]:
        if row["users"] == "all":
            assert all(f"{row['metrics']['HR@10']:.4f}" in text for text in (html, markdown, lines))
    assert "small-0, all seeds" in html and "small-0, all seeds" in markdown
    assert "<script src" not in html and "http" not in html.replace("http-equiv", "")
    assert html == render_html(comparison)
    assert "not clear" not in lines and lines.count("no clear difference") >= 2 and lines.count(", below") >= 2


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"data_sha256": "aa"}, "Beauty: small-0 and other were judged on other data: data_sha256"),
        ({"order": "released"}, "order is chronological and released"),
        ({"candidates": 5}, "candidates is None and 5"),
    ],
)
def test_other_data_are_refused(folders: list[str], tmp_path: Path, changed: dict[str, Any], words: str) -> None:
    shutil.copytree(folders[1], tmp_path / "other" / "report")
    other = str(tmp_path / "other" / "report")
    judged = json.loads((tmp_path / "other" / "report" / "results.json").read_text())
    for task in judged["tasks"].values():
        task |= changed
    (tmp_path / "other" / "report" / "results.json").write_text(json.dumps(judged))
    with pytest.raises(ValueError, match=words) as refusal:
        compare(load_runs([folders[0], other]))
    assert "\n" not in str(refusal.value)


def test_other_protocols_and_other_users_are_refused(folders: list[str], tmp_path: Path) -> None:
    protocols = report(tmp_path / "protocols" / "report", 1, "cd", 0.1, keep=pl.col("protocol") == "all")
    with pytest.raises(ValueError, match="other protocols: all, new and all"):
        compare(load_runs([folders[0], protocols]))
    half = report(tmp_path / "half" / "report", 1, "cd", 0.1, keep=pl.col("user").str.ends_with("7"))
    found = compare(load_runs([folders[0], half]))
    assert {entry["num_users"] for entry in found["comparisons"] if entry["users"] == "all"} == {30}
    rest = report(tmp_path / "rest" / "report", 1, "cd", 0.1, keep=~pl.col("user").str.ends_with("7"))
    with pytest.raises(ValueError, match="no common user"):
        compare(load_runs([half, rest]))
    task = report(tmp_path / "task" / "report", 1, "cd", 0.1, keep=pl.col("task") == "Yelp")
    only = report(tmp_path / "only" / "report", 1, "cd", 0.1, keep=pl.col("task") == "Beauty")
    with pytest.raises(ValueError, match="no task in common"):
        compare(load_runs([task, only]))


def test_a_fact_about_a_user_that_differs_is_refused(folders: list[str]) -> None:
    judged = load_runs(folders[:2])
    moved = copy.copy(judged[1])
    object.__setattr__(moved, "ranks", moved.ranks.with_columns(target_count=pl.col("target_count") + 1))
    with pytest.raises(ValueError, match="target_count of a common user differs"):
        compare([judged[0], moved])


def test_one_seed_judged_twice_is_not_pooled(folders: list[str], tmp_path: Path) -> None:
    again = report(tmp_path / "again" / "report", 0, "cd", 0.11)
    assert compare(load_runs([folders[0], again]))["pooled"] == []


def test_folders_are_checked(folders: list[str], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least two"):
        load_runs(folders[:1])
    with pytest.raises(ValueError, match="named twice"):
        load_runs([folders[0], folders[0]])
    with pytest.raises(ValueError, match="no results"):
        load_runs([folders[0], str(tmp_path)])
    assert short_names([Path("/a/x/report"), Path("/a/y/report")]) == ["x", "y"]
    assert short_names([Path("/a/x/out"), Path("/b/x/out")]) == ["a/x/out", "b/x/out"]


def test_another_scoring_is_another_recipe(folders: list[str], tmp_path: Path) -> None:
    one, two = (Path(shutil.copytree(folder, tmp_path / name)) for folder, name in zip(folders[:2], "ab", strict=True))
    assert [len(part) for part in recipes(load_runs([str(one), str(two)])).values()] == [2]
    found = json.loads((two / "results.json").read_text())
    found["provenance"]["scoring"]["prior_weight"] = 0.5
    (two / "results.json").write_text(json.dumps(found))
    assert [len(part) for part in recipes(load_runs([str(one), str(two)])).values()] == [1, 1]


def test_a_blend_is_compared_beside_the_model(folders: list[str], tmp_path: Path) -> None:
    one, two = (Path(shutil.copytree(folder, tmp_path / name)) for folder, name in zip(folders[:2], "ab", strict=True))
    found = json.loads((one / "results.json").read_text())
    for row in found["rows"]:
        if row["recommender"] == "tfidf-last":
            row["kind"] = "blend"
    (one / "results.json").write_text(json.dumps(found))
    assert [run.name for run in load_runs([str(one), str(two)])] == ["a/idgenrec", "a/tfidf-last", "b"]
