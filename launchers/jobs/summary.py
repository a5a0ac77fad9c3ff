"""The few lines that end an evaluation on the command line.

Enters: `results.json`. Leaves: a table of HR@10 per unseen data set, the differences to popularity with their
intervals, and what the audit found wrong.
"""

from __future__ import annotations

import json
from pathlib import Path


def headline_lines(path: Path) -> list[str]:
    """HR@10 under protocol `all`, a row per recommender, a column per data set."""
    results = json.loads(path.read_text())
    tasks = list(results["tasks"])
    rows = [row for row in results["rows"] if row["protocol"] == "all" and row["users"] == "all"]
    names = list(dict.fromkeys(row["recommender"] for row in rows))
    value = {(row["recommender"], row["task"]): row["metrics"]["HR@10"] for row in rows}
    lines = ["", f"{'HR@10, all items':<18}" + "".join(f"{task:>14}" for task in tasks)]
    for name in names:
        cells = "".join(f"{value[name, task]:>14.4f}" if (name, task) in value else f"{'-':>14}" for task in tasks)
        lines.append(f"{name:<18}{cells}")
    lines.append("")
    for row in results["comparisons"]:
        wanted = (row["recommender"], row["baseline"], row["metric"]) == ("idgenrec", "popularity", "HR@10")
        if wanted and (row["protocol"], row["users"]) == ("all", "all"):
            interval = f"{row['low']:+.4f} to {row['high']:+.4f}"
            lines.append(f"{row['task']}: idgenrec minus popularity {row['difference']:+.4f} (95% interval {interval})")
    return lines


def failed_checks(path: Path) -> list[str]:
    """One line for each check of the audit that failed."""
    failed = [one for one in json.loads(path.read_text())["audit"] if one["verdict"] == "failed"]
    return [f"audit failed: {one['task']}, {one['check']}: {one['words']}" for one in failed]
