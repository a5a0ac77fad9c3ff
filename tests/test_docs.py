"""The pages beside the code: the reference is the one of the code, nothing is left out, no link leads nowhere."""

import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([*(ROOT / "docs").rglob("*.md"), *ROOT.glob("*.md"), *(ROOT / ".github").rglob("*.md")])


def test_the_configuration_reference_is_current():
    path = ROOT / "docs" / "configuration.py"
    spec = importlib.util.spec_from_file_location("configuration", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    written = path.with_suffix(".md").read_text(encoding="utf-8")
    assert module.page() == written, "an option changed: python docs/configuration.py"
    for option in ("`schedule.warmup_epochs` | `1.0`", "`engine.zero_stage` | `1`", "`max_users` | `30000`"):
        assert option in written


def test_every_page_is_in_the_navigation():
    contents = (ROOT / "docs" / "contents.md").read_text(encoding="utf-8")
    named = {line.strip() for line in contents.splitlines()}
    for page in (ROOT / "docs").glob("*.md"):
        assert page.stem in named | {"contents"}, f"{page.name} is not in docs/contents.md"
    assert {"../README", "../CONTRIBUTING", "../CHANGELOG", "benchmarks/*"} <= named


def anchor(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith(("http://", "https://")):
            continue
        name, _, wanted = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        assert file.exists(), f"{page.name}: {target}"
        if wanted:
            headings = re.findall(r"^#+ (.*)$", file.read_text(encoding="utf-8"), re.MULTILINE)
            assert wanted in {anchor(heading) for heading in headings}, f"{page.name}: {target}"
