"""What the judge asks of a recommender, and what it gets back.

Enters: histories, each the item rows before the target, oldest first. Leaves: a `Ranking`, either dense (one score
per item of the catalogue) or a list (the best items by falling score). What must hold: the target is never passed.
"""

from typing import Protocol

import numpy as np

from pretrain.metrics import Ranking

__all__ = ["Ranking", "Recommender"]


class Recommender(Protocol):
    """Anything that ranks a catalogue for a block of users."""

    name: str

    def rank(self, histories: list[np.ndarray], exclude_history: bool) -> Ranking:
        """Ranks the items for each history (item rows, oldest first); may leave the history out of its lists."""
        ...
