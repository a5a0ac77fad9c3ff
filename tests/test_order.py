"""The order of tests: random, the same again for the same seed; a file stays together, and long files begin first."""

import subprocess
import sys
from itertools import groupby
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LONG, SHORT = "tests/shards/test_stream.py", ["tests/test_imports.py", "tests/shards/test_counters.py"]


def collected(seed):
    words = ["--collect-only", f"--randomly-seed={seed}", "-p", "no:cacheprovider", *SHORT, LONG]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *words], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert f"--randomly-seed={seed}" in done.stdout, "how to have the order again is printed"
    return [line for line in done.stdout.splitlines() if "::" in line]


@pytest.mark.slow
@pytest.mark.processes
def test_a_seed_is_an_order_in_which_files_stay_together_and_long_ones_begin():
    orders = [collected(seed) for seed in (1, 2)]
    assert orders[0] != orders[1] == collected(2) and sorted(orders[0]) == sorted(orders[1])
    for order in orders:
        files = [file for file, _ in groupby(line.split("::")[0] for line in order)]
        assert files[0] == LONG and sorted(files[1:]) == sorted(SHORT)
