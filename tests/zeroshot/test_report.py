"""Results round trip; the report is self-contained, inert, deterministic, and says what the numbers say."""

import copy
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from zeroshot import claims, results
from zeroshot.report import render_html, write_report


@pytest.fixture(scope="module")
def page(found: dict[str, Any], ranks: pl.DataFrame) -> str:
    return render_html(found, ranks)


class Elements(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def elements(page: str) -> list[tuple[str, dict[str, str | None]]]:
    parser = Elements()
    parser.feed(page)
    return parser.tags


def test_results_survive_a_round_trip(found: dict[str, Any], tmp_path: Path) -> None:
    results.save(found, tmp_path / "results.json")
    assert results.load(tmp_path / "results.json") == json.loads(json.dumps(found))
    assert found["users"]["Beauty"][2]["rank"] is None


def test_unknown_versions_and_missing_parts_are_refused(found: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="version 2"):
        results.validate(found | {"version": 2})
    with pytest.raises(ValueError, match="`rows`"):
        results.validate({key: value for key, value in found.items() if key != "rows"})
    broken = copy.deepcopy(found)
    del broken["rows"][0]["metrics"]["HR@10"]
    with pytest.raises(ValueError, match=r"lacks HR@10"):
        results.validate(broken)
    with pytest.raises(ValueError, match="no results"):
        results.load(tmp_path / "nothing.json")


def test_ranks_are_written_once_per_user(ranks: pl.DataFrame, tmp_path: Path) -> None:
    results.save_ranks(ranks, tmp_path / "ranks.parquet")
    assert pl.read_parquet(tmp_path / "ranks.parquet").equals(ranks)
    with pytest.raises(ValueError, match="two ranks"):
        results.save_ranks(pl.concat([ranks, ranks.head(1)]), tmp_path / "twice.parquet")
    with pytest.raises(ValueError, match="target_is_new"):
        results.save_ranks(ranks.drop("target_is_new"), tmp_path / "lacking.parquet")


def test_rows_and_comparisons_come_from_the_ranks(
    ranks: pl.DataFrame, found: dict[str, Any], kinds: dict[str, str]
) -> None:
    def value(recommender: str, users: str = "all") -> float:
        wanted = {"task": "Yelp", "recommender": recommender, "protocol": "all", "users": users}
        (row,) = [row for row in found["rows"] if wanted.items() <= row.items()]
        low, high = row["intervals"]["HR@10"]
        assert low <= row["metrics"]["HR@10"] <= high
        return row["metrics"]["HR@10"]

    own = ranks.filter(
        (pl.col("task") == "Yelp") & (pl.col("protocol") == "all") & (pl.col("recommender") == "idgenrec")
    )
    assert value("idgenrec") == pytest.approx((own["rank"] <= 10).mean())
    assert value("idgenrec", "new_target") == pytest.approx((own.filter("target_is_new")["rank"] <= 10).mean())
    wanted = {"task": "Yelp", "protocol": "all", "users": "all", "baseline": "repeat", "metric": "HR@10"}
    (comparison,) = [entry for entry in found["comparisons"] if wanted.items() <= entry.items()]
    assert comparison["difference"] == pytest.approx(value("idgenrec") - value("repeat"))
    shuffled = ranks.sample(fraction=1, shuffle=True, seed=3)
    order = ["task", "protocol", "users", "baseline", "metric"]
    again = results.comparisons_from_ranks(shuffled, kinds)
    assert pl.DataFrame(again).sort(order).equals(pl.DataFrame(found["comparisons"]).sort(order))


def test_the_page_asks_the_network_for_nothing(page: str) -> None:
    for tag, attributes in elements(page):
        assert tag not in ("iframe", "object", "embed", "base", "form")
        assert not (tag == "script" and "src" in attributes)
        for name in ("src", "href", "xlink:href", "action", "srcset"):
            target = attributes.get(name)
            assert target is None or target.startswith("#") or target == "data:,", (tag, target)
    assert not re.search(r"https?://|wss?://", page)
    assert not re.search(r"@import|url\((?!#)", page)


def test_hostile_text_stays_text(page: str) -> None:
    assert "<img" not in page
    assert page.count("<script>") == page.count("</script>") == 1
    assert not any(name.startswith("on") for _, attributes in elements(page) for name in attributes)
    assert "&lt;img onerror=" in page
    assert "{{ 7*7 }}" in page


def test_ids_are_unique_and_links_lead_somewhere(page: str) -> None:
    found_ids = [attributes["id"] for _, attributes in elements(page) if "id" in attributes]
    assert len(found_ids) == len(set(found_ids))
    links = {value for _, attributes in elements(page) for name, value in attributes.items() if name.endswith("href")}
    assert {link[1:] for link in links if link and link.startswith("#")} <= set(found_ids)
    assert set(re.findall(r"url\(#([^)]+)\)", page)) <= set(found_ids)


def test_the_same_results_give_the_same_bytes(found: dict[str, Any], ranks: pl.DataFrame, page: str) -> None:
    assert render_html(found, ranks) == page


def test_files_are_written_without_ranks_and_without_a_model(found: dict[str, Any], tmp_path: Path) -> None:
    rows = [row for row in found["rows"] if row["kind"] == "baseline" and row["task"] == "Beauty"]
    bare = results.build(found["provenance"], {"Beauty": found["tasks"]["Beauty"]}, rows, [])
    html, markdown = write_report(bare, None, tmp_path / "out")
    assert "No trained model was judged" in html.read_text(encoding="utf-8")
    text = markdown.read_text(encoding="utf-8")
    assert "| popularity |" in text
    assert "UniSRec" in text


@pytest.mark.parametrize(
    ("low", "high", "words"), [(0.01, 0.03, "above"), (-0.03, -0.01, "below"), (-0.01, 0.01, "not clearly")]
)
def test_the_wording_follows_the_interval(found: dict[str, Any], low: float, high: float, words: str) -> None:
    changed = copy.deepcopy(found)
    for comparison in changed["comparisons"]:
        comparison |= {"low": low, "high": high, "difference": (low + high) / 2}
    for claim in claims.claims(changed):
        assert claims.sentence(claim).count(words) >= 2
    beats = "on 2 of 2" if words == "above" else "on 0 of 2"
    assert all(sentence.count(beats) == 2 for sentence in claims.headline(changed))


def test_ids_before_and_after_training(found: dict[str, Any], ranks: pl.DataFrame, page: str) -> None:
    section = page[page.index('<section id="ids">') :]
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", "|", section))
    for row in (
        "share of||untrained generator||trained generator|",
        "items with an ID no earlier item has||25.00%||87.65%|",
        "words that stand in the item’s brand||0.00%||25.00%|",
        "items with a number in their first field whose ID has it||–||12.50%|",
        "IDs with the field name “title”||30.00%||0.00%|",
        "|untrained generator||trained generator||ID in the book||item text|",
        "|(nothing)|",
        "|title argan oil||argan oil shampoo||argan oil shampoo|",
    ):
        assert row in text.replace("| |", "||"), row
    assert "field name “na”" not in text, "what leaked nowhere is not listed"
    older = copy.deepcopy(found)
    for book in older["ids"].values():
        del book["quality"]
        for example in book["examples"]:
            for draft in ("untrained", "trained"):
                example.pop(draft, None)
    assert "untrained generator" not in render_html(older, ranks), "results without drafts are shown as before"
