"""How much more users to learn from are worth on a category held out, for docs/results-appendix.md.

Enters: kept runs by number of pretraining users, `docs/results/curve/USERS`, one epoch each. Leaves: a table, and the
exponent of HR@10 in the number of users. Must hold: all runs judged the same users; the exponent's interval is over
them.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks.results.kept import hits_of, kept_ranks, step_of
from benchmarks.tables import table
from zeroshot.judge.significance import DRAWS, LEVEL, bootstrap_interval
from zeroshot.report.formatting import signed_text


def exponent(users_K: np.ndarray, hits_KN: np.ndarray) -> float:
    """b of HR@10 = a * users^b by least squares on logarithms, of K numbers of users and the hits (0 or 1) of N judged
    ones; half a user is a hit more, so that none has 0."""
    share_K = (hits_KN.sum(axis=1) + 0.5) / (hits_KN.shape[1] + 1.0)
    return float(np.polyfit(np.log(users_K), np.log(share_K), 1)[0])


def exponent_interval(users_K: np.ndarray, hits_KN: np.ndarray, seed: int = 0) -> tuple[float, float]:
    """95% percentile interval of the exponent over judged users, who are drawn together for all runs."""
    draw, num_users = np.random.default_rng(seed), hits_KN.shape[1]
    found = [exponent(users_K, hits_KN[:, draw.integers(0, num_users, num_users)]) for _ in range(DRAWS)]
    low, high = np.quantile(found, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def curve(folder: Path, protocols: tuple[str, ...] = ("all", "new")) -> list[str]:
    """A line for each number of users, with the step of the checkpoint that was judged, and the exponent under both
    protocols. ValueError for runs that judged other users."""
    runs = {int(path.parent.name): kept_ranks(path.parent) for path in folder.glob("*/ranks.parquet")}
    [task] = set(next(iter(runs.values()))["task"])
    users_K = np.array(sorted(runs))
    rows, last = [[f"{users:,}", step_of(folder / str(users))] for users in users_K], ["exponent", ""]
    for protocol in protocols:
        hits_KN = hits_of([(runs[users], "idgenrec") for users in users_K], task, protocol)
        for row, hits_N in zip(rows, hits_KN, strict=True):
            low, high = bootstrap_interval(hits_N, 0)
            row.append(f"{hits_N.mean():.4f} ({low:.4f} to {high:.4f})")
        low, high = exponent_interval(users_K, hits_KN)
        last.append(f"{signed_text(exponent(users_K, hits_KN))} ({signed_text(low)} to {signed_text(high)})")
    judged = f"{hits_KN.shape[1]:,} users judged"
    return table([f"users of a category ({judged})", "step", *protocols], [*rows, last])
