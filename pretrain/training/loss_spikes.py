"""What is a bad step: a loss that is not finite, or far above the last ones.

Enters: the losses of one phase's steps, in order. Leaves: a reason, or none. Must hold: the verdict is a function of
the losses alone, so that all ranks, and a run taken up again, come to the same.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

Place = tuple[str, int, int]
"""Of a batch: phase kind, epoch, and the slot after it."""
WINDOW = 50
LEAST = 2 * WINDOW
"""Losses of a phase before one is judged: while it begins, losses are as high as they are. (So llm-foundry.)"""


def reason(loss: float, recent: Sequence[float], spike_factor: float | None) -> str | None:
    """Why this loss is bad. `recent`: the finite losses of the phase's last steps, bad ones too, at least `LEAST` where
    it has so many."""
    if not math.isfinite(loss):
        return f"the loss is {loss}"
    if spike_factor is not None and len(recent) >= LEAST:
        usual = statistics.median(list(recent)[-WINDOW:])
        if loss > spike_factor * usual:
            return f"the loss is {loss:.3g}, above {spike_factor:g} times the median of the last steps, {usual:.3g}"
    return None


class BadStep(Exception):
    """A step that must not be taken; `place` names its batch."""

    def __init__(self, why: str, place: Place) -> None:
        super().__init__(why)
        self.place = place
