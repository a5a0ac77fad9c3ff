"""The documentation as a person opens it: headless Chromium, desktop and phone width, light and dark."""

import itertools
import subprocess
import sys
import urllib.parse
from pathlib import Path

import pytest
from browser import WIDTHS, Browser

ROOT = Path(__file__).resolve().parents[2]
PAGES = ("docs/contents.html", "README.html", "docs/configuration.html", "docs/faq.html", "docs/faults.html")


@pytest.fixture(scope="module")
def docs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As `make docs` makes it, beside the checkout."""
    folder = tmp_path_factory.mktemp("docs")
    words = ["-q", "-W", "-d", folder / "doctrees", "-c", ROOT / "docs", ROOT, folder / "html"]
    done = subprocess.run([sys.executable, "-m", "sphinx", *map(str, words)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder / "html"


@pytest.mark.parametrize(("page", "width", "scheme"), itertools.product(PAGES, WIDTHS, ("light", "dark")))
def test_the_page_opens_without_error_request_or_overflow(
    browser: Browser, docs: Path, page: str, width: str, scheme: str
) -> None:
    browser.open(docs / page, WIDTHS[width], scheme)
    wide = browser.value("document.documentElement.scrollWidth")
    assert wide <= WIDTHS[width], f"the page is {wide} pixels wide on a screen of {WIDTHS[width]}"
    background = browser.value("getComputedStyle(document.body).backgroundColor")
    red, green, blue = (int(part) for part in background.removeprefix("rgb(").removesuffix(")").split(","))
    assert (red + green + blue < 150) == (scheme == "dark"), background
    assert browser.value("getComputedStyle(document.querySelector('h1')).color") != background
    assert [address for address in browser.requests() if not address.startswith("file:")] == []
    assert browser.complaints() == []


def test_what_is_wide_scrolls_inside_itself(browser: Browser, docs: Path) -> None:
    browser.open(docs / "docs/faults.html", WIDTHS["phone"], "light")
    inside = (
        "(() => { const one = document.querySelector('.table-wrapper'); return one.scrollWidth - one.clientWidth; })()"
    )
    assert browser.value(inside) > 0
    assert browser.value("getComputedStyle(document.querySelector('.table-wrapper')).overflowX") == "auto"
    assert browser.value("getComputedStyle(document.querySelector('article td')).verticalAlign") == "top"


def test_the_folder_leads_to_the_first_page(browser: Browser, docs: Path) -> None:
    browser.open(docs / "index.html", WIDTHS["desktop"], "light")
    # The page goes on by itself: a second page is loaded.
    while [event.get("method") for event in browser.events].count("Page.loadEventFired") < 2:
        browser.events.append(browser.read())
    page = Path(urllib.parse.unquote(browser.value("location.pathname")))
    assert page.is_file() and page.parent == docs / "docs"
    links = browser.value("[...document.querySelectorAll('article li a')].map((one) => one.getAttribute('href'))")
    assert len(links) > 15
    for one in links:
        assert page.parent.joinpath(one.partition("#")[0]).resolve().is_file(), one
