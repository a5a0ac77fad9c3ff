"""The report is self-contained, inert, deterministic, small, and says what the numbers say."""

import copy
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import made_up
import polars as pl
import pytest

from zeroshot.report import claims, results
from zeroshot.report.markdown import render_markdown
from zeroshot.report.page import render_html, write_report


@pytest.fixture(scope="module")
def page(found: dict[str, Any], ranks: pl.DataFrame) -> str:
    return render_html(found, ranks)


@pytest.fixture(scope="module")
def beauty(found: dict[str, Any]) -> dict[str, Any]:
    """The results of one data set alone."""
    parts = {
        part: [row for row in found[part] if row["task"] == "Beauty"] for part in ("rows", "comparisons", "segments")
    }
    parts["sweeps"] = [row for row in found["sweeps"] if row["task"] == "Beauty"]
    return found | parts | {part: {"Beauty": found[part]["Beauty"]} for part in ("tasks", "ids", "users", "titles")}


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


def test_no_text_is_a_formula_in_a_spreadsheet(found: dict[str, Any], page: str) -> None:
    assert made_up.FORMULA[0] == "=" and page.count(made_up.FORMULA[:10]) > 5
    # What stands right before the formula where a cell or a line of the page begins with it: the apostrophe.
    assert not re.search(r">\s*=HYPERLINK", page)
    cells = re.findall(r"<(?:td|li|span|small)[^>]*>([^<]*)", page)
    assert not [cell for cell in cells if cell.strip().startswith(("=", "@")) or re.match(r"\s*[+-][^\d]", cell)]
    hostile = copy.deepcopy(found)
    for row in [*hostile["rows"], *hostile["segments"]]:
        row["recommender"] = row["recommender"].replace("random", "=1+1|x")
    text = render_markdown(hostile)
    assert "| '=1+1\\|x |" in text
    assert not re.search(r"\|\s*[=@]", text)


def test_a_failed_check_stands_above_everything(beauty: dict[str, Any], page: str) -> None:
    assert 'class="alarm"' not in page and "Audit" in page and "cannot be checked" in page
    failed = beauty | {"audit": made_up.audit_of(["Beauty"], failed=True)}
    alarmed = render_html(failed, None)
    assert alarmed.index('class="alarm"') < alarmed.index("<h1>") < alarmed.index("Audit</h2>")
    assert re.search(r"<b>Beauty, targets permuted</b>: lists of 3 users", alarmed)
    assert render_markdown(failed).index("Audit failed") < render_markdown(failed).index("- By HR@10")


def test_the_headline_table_sets_everything_beside_the_model(found: dict[str, Any], page: str) -> None:
    section = page[page.index('<section id="verdict">') : page.index('<section id="audit">')]
    text = re.sub(r"(\|\s*)+", "|", re.sub(r"<[^>]+>", "|", section))
    where = {"task": "Beauty", "protocol": "all", "users": "all"}
    rows = {row["recommender"]: row for row in found["rows"] if where.items() <= row.items()}
    plain = {name: row["metrics"]["HR@10"] for name, row in rows.items() if row["kind"] == "baseline"}
    best = max(plain, key=lambda name: plain[name])
    assert best.startswith("tfidf"), "the supervised one and the control are not training-free baselines"
    wanted = where | {"recommender": "idgenrec", "baseline": best, "metric": "HR@10"}
    (entry,) = [entry for entry in found["comparisons"] if wanted.items() <= entry.items()]
    line = text[text.index("Beauty|") : text.index("Yelp|")]
    for words in (
        f"|{rows['idgenrec']['metrics']['HR@10']:.4f}|", f"|{plain[best]:.4f}|{best}|",
        f"|{entry['difference']:+.4f}|".replace("-", "−"), f"p {entry['p_holm']:.4f}, d ",
        "|0.0206|0.0096|all items, leave-one-out|",
        "|0.0310|‡|0.0177|‡|all items, leave-one-out, user IDs see the target|",
        f"|{rows['sasrec']['metrics']['HR@10']:.4f}|", "sasrec, trained on the set", "|Table 4|",
    ):  # fmt: skip
        assert words in line, (words, line)
    new = text[text.index("new: ") :]
    assert "0.0310" not in new, "the paper ranks every item: it stands beside no other protocol"


def test_what_was_trained_on_the_set_is_in_no_claim(found: dict[str, Any]) -> None:
    for claim in claims.claims(found):
        against = [claim.popularity, claim.text_match, claim.strongest]
        assert {one.baseline for one in against if one} <= {"popularity", "tfidf-last", "tfidf-decayed"}
    assert "sasrec" not in " ".join([*claims.headline(found), *map(claims.sentence, claims.claims(found))])


def test_users_are_shown_with_titles(page: str) -> None:
    section = page[page.index('<section id="users">') :]
    assert "A Professional Repairing Hair Mask" in section and "not in the list" in section
    assert 'class="hit"' in section and "named by the generator" not in section


def test_users_with_ids_are_shown_with_them(beauty: dict[str, Any]) -> None:
    named = copy.deepcopy(beauty)
    for user in named["users"]["Beauty"]:
        user["user_id"] = "=hair <b>mask</b> lover"
    page = render_html(named, None)
    words = re.search(r"named by the generator <span class=\"id\">([^<]*)</span>", page)
    assert "Scores are log-probabilities." in page
    named["provenance"]["scoring"] = {"prior_weight": 0.75}
    assert "log-probabilities, less 0.75 times that of the ID without a history." in render_html(named, None)
    assert words and words[1].endswith("=hair &lt;b&gt;mask&lt;/b&gt; lover") and not words[1].startswith("=")


@pytest.mark.slow
def test_six_sets_and_sixteen_recommenders_stay_under_five_megabytes(tmp_path: Path) -> None:
    """By a page of two sets, which has no less than a third of what one of six has."""
    strength = made_up.STRENGTH | {f"further-baseline-{number}": 0.3 for number in range(8)}
    kinds = made_up.KINDS | {name: "baseline" for name in strength if name not in made_up.KINDS}
    assert len(strength) == 16
    # Few users: the size of the page depends on their number only through digits. The curves get 60 users per bin.
    table = made_up.made_up_ranks(("Beauty", "Toys"), 300, strength)
    large = made_up.made_up_results(table, kinds, failed=True, shown=20)
    html, markdown = write_report(large, table, tmp_path)
    assert 500_000 < 3 * html.stat().st_size < 5_000_000
    assert 3 * markdown.stat().st_size < 200_000


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
        comparison |= {"low": low, "high": high, "difference": (low + high) / 2, "p_holm": 0.001}
    for claim in claims.claims(changed):
        assert claims.sentence(claim).count(words) >= 2
    for comparison in changed["comparisons"]:
        comparison["p_holm"] = 0.06
    assert all("not clearly" in claims.sentence(claim) for claim in claims.claims(changed)), "the test decides too"
    for comparison in changed["comparisons"]:
        comparison["p_holm"] = 0.001
    beats = "on 2 of 2" if words == "above" else "on 0 of 2"
    assert all(sentence.count(beats) == 2 for sentence in claims.headline(changed))


def test_ids_before_and_after_training(beauty: dict[str, Any], page: str) -> None:
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
    older = copy.deepcopy(beauty)
    for book in older["ids"].values():
        del book["quality"]
        for example in book["examples"]:
            for draft in ("untrained", "trained"):
                example.pop(draft, None)
    assert "untrained generator" not in render_html(older, None), "results without drafts are shown as before"


def test_numbers_that_prove_nothing_are_marked(found: dict[str, Any], page: str) -> None:
    """Where ten items or fewer are left, every list has the target; results of before do not say."""
    marked = copy.deepcopy(found)
    for facts in marked["tasks"].values():
        facts["full_lists"] = {"all": 0.0, "new": 0.25}
    words = "(proves nothing for 25.0% of the users: their lists hold every item that is left)"
    html, markdown = render_html(marked, None), render_markdown(marked)
    lines = [line for line in markdown.splitlines() if words in line]
    captions = [line for line in lines if line.startswith("**new:")]
    assert len(lines) - len(captions) == len(marked["tasks"]) <= len(captions), "a row of the verdict, a table each"
    assert not [line for line in lines if line.startswith("**all:")]
    assert html.count(words) >= 2 * len(marked["tasks"]) and "proves nothing" not in page
    results.validate(marked)
