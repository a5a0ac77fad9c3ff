"""The report as a person opens it: headless Chromium, desktop and phone width, light and dark."""

import itertools
from pathlib import Path

import made_up
import pytest
from browser import WIDTHS, Browser
from patience import until

from zeroshot.compare.comparison import compare, load_runs
from zeroshot.compare.page import write_comparison
from zeroshot.judge.ranks import save_ranks
from zeroshot.report.page import write_report
from zeroshot.report.results import save


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A report with hostile texts and a failed audit, and a comparison of two runs."""
    root = tmp_path_factory.mktemp("pages")
    few = {"idgenrec": 0.5, "untrained": 0.1, "popularity": 0.15, "tfidf-decayed": 0.4, "sasrec": 0.6}
    kinds = {name: made_up.KINDS[name] for name in few}
    folders = []
    for seed in (0, 1):
        folder = root / f"run-{seed}"
        ranks = made_up.made_up_ranks(("Beauty", "Yelp"), 300, few, seed=5)
        found = made_up.made_up_results(ranks, kinds, failed=seed == 0, shown=20, origin=made_up.provenance(seed))
        write_report(found, ranks, folder)
        save(found, folder / "results.json")
        save_ranks(ranks, folder / "ranks.parquet")
        folders.append(str(folder))
    compared = write_comparison(compare(load_runs(folders)), root / "compared")[1]
    return {"report": Path(folders[0]) / "report.html", "comparison": compared}


@pytest.mark.parametrize(
    ("page", "width", "scheme"), itertools.product(("report", "comparison"), WIDTHS, ("light", "dark"))
)
def test_the_page_opens_without_error_request_or_overflow(
    browser: Browser, pages: dict[str, Path], page: str, width: str, scheme: str
) -> None:
    browser.open(pages[page], WIDTHS[width], scheme)
    browser.value("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    wide = browser.value("document.documentElement.scrollWidth")
    assert wide <= WIDTHS[width], f"the page is {wide} pixels wide on a screen of {WIDTHS[width]}"
    background = browser.value("getComputedStyle(document.body).backgroundColor")
    red, green, blue = (int(part) for part in background.removeprefix("rgb(").removesuffix(")").split(","))
    assert (red + green + blue < 150) == (scheme == "dark"), background
    ink = browser.value("getComputedStyle(document.querySelector('h1')).color")
    assert ink != background
    assert browser.requests() == []
    assert browser.complaints() == []


def test_a_click_on_a_head_sorts_the_table(browser: Browser, pages: dict[str, Path]) -> None:
    browser.open(pages["report"], WIDTHS["desktop"], "light")
    table = "document.querySelector('#task-1 table.sortable')"
    column = browser.value(f"[...{table}.tHead.rows[0].cells].findIndex((cell) => cell.textContent.trim() === 'HR@10')")
    assert column > 0
    shown = f"[...{table}.tBodies[0].rows].map((row) => row.cells[{column}].dataset.value)"
    before = browser.value(shown)
    for direction, falling in (("descending", True), ("ascending", False)):
        browser.value(f"{table}.tHead.rows[0].cells[{column}].querySelector('button').click()")
        after = browser.value(shown)
        numbers = [float(value) for value in after]
        assert numbers == sorted(numbers, reverse=falling) and sorted(after) == sorted(before)
        assert browser.value(f"{table}.tHead.rows[0].cells[{column}].getAttribute('aria-sort')") == direction
    mrr = f"[...{table}.tBodies[0].rows].map((row) => row.cells[5].dataset.value)"
    for _ in range(2):
        browser.value(f"{table}.tHead.rows[0].cells[5].querySelector('button').click()")
        assert browser.value(mrr)[-2:] == ["", ""], "what the paper does not have stays at the end"
    assert browser.complaints() == []


def test_users_are_turned_and_links_unfold(browser: Browser, pages: dict[str, Path]) -> None:
    browser.open(pages["report"], WIDTHS["phone"], "light")
    visible = "[...document.querySelector('.browser').querySelectorAll('.card')].findIndex((card) => !card.hidden)"
    assert browser.value(visible) == 0
    browser.value("document.querySelector('[data-turn=on]').click()")
    assert browser.value(visible) == 1
    assert browser.value("document.querySelector('.browser output').textContent") == "user 2 of 20"
    browser.value(
        "document.querySelector('[data-turn=back]').click(); document.querySelector('[data-turn=back]').click()"
    )
    assert browser.value(visible) == 19
    assert browser.value("document.querySelector('#table-4-1').open") is False
    browser.value("document.querySelector('a[href=\"#table-4-1\"]').click()")
    until(lambda: browser.value("document.querySelector('#table-4-1').open"))


def test_hostile_texts_are_inert_in_the_browser(browser: Browser, pages: dict[str, Path]) -> None:
    browser.open(pages["report"], WIDTHS["desktop"], "light")
    assert browser.value("document.images.length") == 0
    assert browser.value("document.scripts.length") == 1
    assert browser.value("document.querySelector('.card').textContent").count("<img onerror=") >= 1
    # What a person copies into a spreadsheet: no cell or list entry begins as a formula.
    texts = browser.value("[...document.querySelectorAll('td, li, .id')].map((one) => one.innerText.trim())")
    assert len(texts) > 100 and not [text for text in texts if text.startswith(("=", "@"))]
    assert browser.value("getComputedStyle(document.querySelector('.alarm')).backgroundColor") == "rgb(179, 38, 30)"
    assert browser.value("document.body.firstElementChild.className") == "alarm"
