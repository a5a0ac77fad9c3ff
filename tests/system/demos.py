"""The checkout's command, and a finished demo, read as a person reads it."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
UNSEEN = ("Gifts", "Places")


def idgenrec(*words: str) -> None:
    """The checkout's command."""
    done = subprocess.run(
        [sys.executable, "-m", "launchers.cli", *words], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


def load(folder: Path) -> dict:
    """`results.json` of a demo's report."""
    return json.loads((folder / "report" / "results.json").read_text())


def lower_bound(results: dict, task: str, recommender: str, baseline: str) -> float:
    """Lower end of the 95% interval of the per-user HR@10 difference, every item ranked, all users."""
    (found,) = (
        entry["low"]
        for entry in results["comparisons"]
        if (entry["task"], entry["recommender"], entry["baseline"]) == (task, recommender, baseline)
        and (entry["protocol"], entry["users"], entry["metric"]) == ("all", "all", "HR@10")
    )
    return found


def hit_ratio(results: dict, task: str, recommender: str) -> float:
    """HR@10, every item ranked, all users."""
    (found,) = (
        row["metrics"]["HR@10"]
        for row in results["rows"]
        if (row["task"], row["recommender"], row["protocol"], row["users"]) == (task, recommender, "all", "all")
    )
    return found
