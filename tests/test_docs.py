"""The pages beside the code: the reference is the one of the code, nothing is left out, no link leads nowhere."""

import importlib.util
import re
from pathlib import Path

import pytest

from launchers import cli

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([*(ROOT / "docs").rglob("*.md"), *ROOT.glob("*.md"), *(ROOT / ".github").rglob("*.md")])


@pytest.fixture(scope="module")
def reference():
    path = ROOT / "docs" / "configuration.py"
    spec = importlib.util.spec_from_file_location("configuration", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_configuration_reference_is_current(reference):
    written = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    assert reference.page() == written, "an option changed: python docs/configuration.py"
    for option in ("`schedule.warmup_epochs` | `1.0`", "`engine.zero_stage` | `1`", "`max_users` | `30000`"):
        assert option in written


def test_every_option_of_the_help_is_in_the_reference(reference, capsys):
    for command, kind in reference.COMMANDS.items():
        with pytest.raises(SystemExit):
            cli.parse([*command.split(), "--help"])
        shown = capsys.readouterr().out
        options = set(re.findall(r"^[ │]{1,4}(?:-\w(?: \w+)?, )?(--[a-z][\w.-]*)", shown, re.MULTILINE)) - {"--help"}
        rows = re.findall(r"^\| `(?:--)?([\w.-]+)` \|", "\n".join(reference.section_of(command, kind)), re.MULTILINE)
        assert {f"--{row.replace('_', '-')}" for row in rows} == options, command
    assert {"--after", "--each", "--dry-run"} <= options


def test_every_page_is_in_the_navigation():
    contents = (ROOT / "docs" / "contents.md").read_text(encoding="utf-8")
    named = {line.strip() for line in contents.splitlines()}
    for page in (ROOT / "docs").glob("*.md"):
        assert page.stem in named | {"contents"}, f"{page.name} is not in docs/contents.md"
    assert {"README <../README>", "../CONTRIBUTING", "../CHANGELOG", "benchmarks/*"} <= named


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
