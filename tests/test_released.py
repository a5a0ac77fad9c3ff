"""The figures of README and of both pages of results are those of the kept ranks, and nobody's data is kept."""

import json
import re

import made_up
import numpy as np
import polars as pl
import pytest

from benchmarks.results import kept
from benchmarks.results import pages as tables
from pretrain.ranking.metrics import hit_ratio
from zeroshot.judge.ranks import UserFacts, ranks_table, save_ranks
from zeroshot.report import results


def test_every_table_is_what_the_kept_ranks_give():
    for page, text in tables.pages().items():
        assert page.read_text(encoding="utf-8") == text, f"{page.name}: run python -m benchmarks.results"


def test_the_prose_says_what_the_tables_say():
    docs = tables.ROOT / "docs"
    page = (docs / "results-appendix.md").read_text(encoding="utf-8")
    first = (docs / "results.md").read_text(encoding="utf-8")
    beside = ("benchmarks/near-items.md", "benchmarks/text-popularity.md")
    assert all(f"({one})" in page for one in beside)
    text = page + "".join((docs / one).read_text(encoding="utf-8") for one in beside)
    in_tables = set(re.findall(r"0(\.\d{4})", "".join(line for line in text.splitlines(True) if line.startswith("|"))))
    prose = re.findall(r"(?<!\d)(\.\d{4})", page.split("## What worked, what did not")[1])
    assert len(prose) >= 8 and set(prose) <= in_tables
    on_first = re.findall(r"0(\.\d{4})", "".join(line for line in first.splitlines(True) if line[:1] != "|"))
    assert len(on_first) >= 5 and set(on_first) <= in_tables


def test_a_table_without_a_place_is_refused(monkeypatch):
    monkeypatch.setattr(tables, "PAGES", tables.PAGES[:1])
    with pytest.raises(ValueError, match="no page has the marks <!-- choices -->"):
        tables.pages()


def test_the_summary_in_the_readme_is_the_mean_over_seeds_of_the_ranks():
    readme = (tables.ROOT / "README.md").read_text(encoding="utf-8")
    seeds = sorted((tables.KEPT / "released").iterdir())
    rows = re.findall(r"^\| (\w+) \| ([\d.]+) \| ([\d.]+) \|", readme.split("<!-- summary -->")[1], re.MULTILINE)
    assert {row[0] for row in rows} >= {"Beauty", "Toys", "Yelp"}
    for task, *shown in rows:
        for name, value in zip(("idgenrec", "idgenrec+text+popularity"), shown, strict=True):
            hits = [
                hit_ratio(
                    kept.kept_ranks(path).filter(task=task, protocol="all", recommender=name)["rank"].to_numpy(), 10
                )
                for path in seeds
            ]
            assert value == f"{np.mean(hits):.4f}"


def test_what_is_kept_names_nobody_and_quotes_nothing():
    """Facts and columns are those of a list without texts, IDs and names; and they stay small."""
    runs = sorted(path.parent for path in tables.KEPT.rglob("facts.json"))
    files = [path for path in tables.KEPT.rglob("*") if path.is_file()]
    assert runs and {path for run in runs for path in run.iterdir()} == set(files)
    assert sum(path.stat().st_size for path in files) < 2_000_000
    for run in runs:
        facts = kept.load_facts(run)
        assert facts.keys() == {"models", "provenance"} and facts["provenance"].keys() == {"checkpoint", "scoring"}
        assert dict(pl.read_parquet_schema(run / "ranks.parquet")) == kept.SCHEMA


def test_keeping_a_report_numbers_users_by_their_place(tmp_path, monkeypatch):
    monkeypatch.setattr(kept, "KEPT", tmp_path / "kept")
    facts = UserFacts(["u2", "u10", "u1"], np.array([True, False, True]), *np.array([[4, 5, 6], [1, 2, 3], [7, 8, 9]]))
    ranks_N = np.array([3.5, np.inf, 1.0])
    tables_of = [ranks_table("Office", "idgenrec", one, facts, ranks_N) for one in ("new", "all")]
    peer = ranks_table("Office", "popularity", "all", facts, ranks_N + 1)
    others = peer.with_columns(user=pl.col("user") + "-not-judged")
    report = tmp_path / "report"
    report.mkdir()
    ranks = pl.concat([*tables_of, peer, others])
    save_ranks(ranks, report / "ranks.parquet")
    judged = made_up.made_up_results(ranks, {"idgenrec": "model", "popularity": "baseline"}, rows_alone=True)
    results.save(judged, report / "results.json")
    assert judged["titles"]["Office"] and judged["users"]["Office"]
    folder = kept.keep("some", report)
    shown = kept.kept_ranks(folder)
    assert shown.select("recommender", "protocol", "user", "rank").rows() == [
        (name, protocol, user, rank + more)
        for name, protocol, more in (("idgenrec", "new", 0), ("idgenrec", "all", 0), ("popularity", "all", 1))
        for user, rank in (("1", 1.0), ("2", np.inf), ("3", 3.5))
    ]
    assert (
        shown["text_words"].to_list() == [9, 8, 7] * 3 and shown["target_is_new"].to_list() == [True, False, True] * 3
    )
    assert json.loads((folder / "facts.json").read_text()) == {
        "models": ["idgenrec"],
        "provenance": {key: judged["provenance"][key] for key in ("checkpoint", "scoring")},
    }


@pytest.mark.parametrize("text", ["no marks", "a <!-- x -->\n\nold\n\n<!-- end of x --> b"])
def test_a_table_stands_between_its_marks(text):
    once = tables.written(text, "x", ["| new |", ""])
    assert tables.written(once, "x", ["| new |", ""]) == once
    assert once == (text if "<!--" not in text else "a <!-- x -->\n\n| new |\n\n<!-- end of x --> b")
