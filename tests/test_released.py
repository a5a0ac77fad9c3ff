"""The figures of README and docs/results.md are those of the kept ranks, and nobody's data is kept."""

import json
import re

import numpy as np
import polars as pl
import pytest

from benchmarks.results import kept
from benchmarks.results import pages as tables
from pretrain.ranking.metrics import hit_ratio
from zeroshot.judge.ranks import load_ranks, save_ranks
from zeroshot.report import results


def test_every_table_is_what_the_kept_ranks_give():
    for page, text in tables.pages().items():
        assert page.read_text(encoding="utf-8") == text, f"{page.name}: run python -m benchmarks.results"


def test_the_prose_says_what_the_tables_say():
    docs = tables.ROOT / "docs"
    page = (docs / "results.md").read_text(encoding="utf-8")
    beside = ("benchmarks/near-items.md", "benchmarks/text-popularity.md")
    assert all(f"({one})" in page for one in beside)
    text = page + "".join((docs / one).read_text(encoding="utf-8") for one in beside)
    in_tables = set(re.findall(r"0(\.\d{4})", "".join(line for line in text.splitlines(True) if line.startswith("|"))))
    prose = re.findall(r"(?<!\d)(\.\d{4})", page.split("## What worked, what did not")[1])
    assert len(prose) >= 8 and set(prose) <= in_tables


def test_a_table_without_a_place_is_refused(monkeypatch):
    monkeypatch.setattr(tables, "PAGES", tables.PAGES[:1])
    with pytest.raises(ValueError, match="no page has the marks <!-- choices -->"):
        tables.pages()


def test_the_summary_in_the_readme_is_the_mean_over_seeds_of_the_ranks():
    readme = (tables.ROOT / "README.md").read_text(encoding="utf-8")
    seeds = sorted((tables.KEPT / "released").glob("*/ranks.parquet"))
    rows = re.findall(r"^\| (\w+) \| ([\d.]+) \| ([\d.]+) \|", readme.split("<!-- summary -->")[1], re.MULTILINE)
    assert {row[0] for row in rows} >= {"Beauty", "Toys", "Yelp"}
    for task, *shown in rows:
        for name, value in zip(("idgenrec", "idgenrec+text+popularity"), shown, strict=True):
            hits = [
                hit_ratio(load_ranks(path).filter(task=task, protocol="all", recommender=name)["rank"].to_numpy(), 10)
                for path in seeds
            ]
            assert value == f"{np.mean(hits):.4f}"


def test_what_is_kept_names_nobody_and_quotes_nothing():
    files = sorted(tables.KEPT.rglob("results.json"))
    assert files
    for path in files:
        found = results.load(path)
        assert not any(found["users"].values()) and not any(found["titles"].values())
        assert not any(book["examples"] for book in found["ids"].values())
        users = load_ranks(path.with_name("ranks.parquet"))["user"]
        assert users.str.contains(r"^\d+$").all()


def test_keeping_a_report_numbers_users_by_their_place(tmp_path, monkeypatch):
    monkeypatch.setattr(kept, "KEPT", tmp_path / "kept")
    source = sorted((tables.ROOT / "docs" / "results" / "choices").iterdir())[0]
    ranks = load_ranks(source / "ranks.parquet").with_columns(user=pl.lit("u") + pl.col("user").str.zfill(6))
    others = ranks.filter(recommender="popularity").with_columns(user=pl.col("user") + "-not-judged")
    found = json.loads((source / "results.json").read_text())
    found["titles"] = {task: {"an id": "a title"} for task in found["tasks"]}
    report = tmp_path / "report"
    report.mkdir()
    save_ranks(pl.concat([ranks, others]), report / "ranks.parquet")
    results.save(found, report / "results.json")
    folder = kept.keep("some", report)
    assert load_ranks(folder / "ranks.parquet").equals(load_ranks(source / "ranks.parquet"))
    assert "a title" not in (folder / "results.json").read_text()


@pytest.mark.parametrize("text", ["no marks", "a <!-- x -->\n\nold\n\n<!-- end of x --> b"])
def test_a_table_stands_between_its_marks(text):
    once = tables.written(text, "x", ["| new |", ""])
    assert tables.written(once, "x", ["| new |", ""]) == once
    assert once == (text if "<!--" not in text else "a <!-- x -->\n\n| new |\n\n<!-- end of x --> b")
