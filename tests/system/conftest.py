"""Where the real data lie: the folder of IDGENREC_SHARED, or `shared` beside the repository.

Without it the tests are skipped on a developer's machine and fail where CI is set.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from slurm_cluster import slurm  # noqa: F401
from slurm_runs import runs, whole  # noqa: F401
from wheels import installed, packed  # noqa: F401

REPOSITORY = Path(__file__).resolve().parents[2]


LONGEST = (
    "test_slurm.py", "test_slurm_pipeline.py", "test_demo.py", "test_wheel.py", "test_real_data.py", "test_machine.py",
    "test_ids.py", "test_anchors.py",
)  # fmt: skip


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The groups that take longest begin first: what begins last ends alone."""
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with `data/<data set>/` in the plain layout and `t5/`, a tokenizer and packed pretrained weights."""
    folder = Path(os.environ.get("IDGENREC_SHARED", REPOSITORY.parent / "shared"))
    if not (folder / "data").is_dir():
        reason = f"no real data in {folder / 'data'}; set IDGENREC_SHARED to the folder that holds data/ and t5/"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return folder.resolve()


@pytest.fixture(scope="session")
def pretrained(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Hugging Face folder of a real pretrained T5."""
    folder = tmp_path_factory.mktemp("t5") / "flan-t5-small-title"
    subprocess.run([sys.executable, shared / "t5" / "unpack.py", folder], check=True, capture_output=True)
    return folder


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory):
    """Headless Chromium with one page."""
    from browser import Browser, chromium

    browser = Browser(chromium(), tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()
