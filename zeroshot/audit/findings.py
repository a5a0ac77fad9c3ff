"""The audit: may these numbers be believed?

Enters: what was looked at. Leaves: checks, each with a verdict and a sentence. Must hold: what cannot be checked is
"unknown", never passed and never 0; a failed check stops nothing, but it stands in the results and decides the exit
status. The checks are made in `data_checks.py` (a task's data), `leakage.py` (recommenders) and `exposure.py` (what
the checkpoint was trained on).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from scipy import stats

Verdict = Literal["passed", "note", "unknown", "failed"]
VERDICTS: tuple[Verdict, ...] = ("passed", "note", "unknown", "failed")
"""By weight: what is made of several verdicts is the heaviest."""
# A planted fault concerns nearly everyone, chance and nature few; six sets and a dozen checks ask for a small level.
MARGIN, LEVEL = 0.1, 1e-4


@dataclass(frozen=True)
class Check:
    """One thing that was looked at: of which task, under what name, with what outcome, and the sentence about it."""

    task: str
    check: str
    verdict: Verdict
    words: str


class AuditFailed(RuntimeError):
    """Raised when all results are written and a check failed; `checks` are the failed ones."""

    def __init__(self, checks: list[Check]) -> None:
        super().__init__("the audit failed: " + "; ".join(f"{one.task}, {one.check}: {one.words}" for one in checks))
        self.checks = checks


def failed(checks: Iterable[Check]) -> list[Check]:
    """Those that failed."""
    return [check for check in checks if check.verdict == "failed"]


def heaviest(verdicts: Iterable[Verdict]) -> Verdict:
    """The gravest of several verdicts; "passed" of none."""
    return VERDICTS[max(map(VERDICTS.index, verdicts), default=0)]


def merged(checks: Iterable[Check]) -> list[Check]:
    """The gravest of those of one task and name, which several ranks made; by name, so in the same order for any number
    of ranks."""
    gravest: dict[tuple[str, str], Check] = {}
    for check in checks:
        key = check.task, check.check
        if key not in gravest or VERDICTS.index(check.verdict) > VERDICTS.index(gravest[key].verdict):
            gravest[key] = check
    return [check for _, check in sorted(gravest.items())]


def far_above(hits: int, total: int, other_hits: int, other_total: int) -> bool:
    """Whether one share exceeds another by more than MARGIN, and not by chance (Fisher's exact test at LEVEL)."""
    if hits / total - other_hits / other_total <= MARGIN:
        return False
    table = [[hits, total - hits], [other_hits, other_total - other_hits]]
    return bool(stats.fisher_exact(table, alternative="greater").pvalue < LEVEL)  # pyright: ignore[reportAttributeAccessIssue]
