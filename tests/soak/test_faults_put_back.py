"""Each fault of docs/faults.md that an edit can put back turns a test of CI red: tried in a copy of the checkout."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from faults import FAULTS

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_fault_that_is_put_back_is_found(fault, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(".git", ".venv*", "runs", "build", "__pycache__"))
    path = copy / fault.path
    text = path.read_text()
    assert text.count(fault.now) == 1
    path.write_text(text.replace(fault.now, fault.then))
    words = [sys.executable, "-m", "pytest", "-q", "-x", *(f"tests/{test}" for test in fault.tests)]
    variables = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    done = subprocess.run(words, cwd=copy, env=variables | {"PYTHONPATH": str(copy)}, capture_output=True, text=True)
    assert done.returncode == 1 and " failed" in done.stdout, done.stdout[-4000:]
