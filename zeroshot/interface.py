"""What the judge asks of a recommender, and what it gets back.

Enters: histories, each the item rows before the target, oldest first. Leaves: a `Ranking`, either dense (one score
per item of the catalogue) or a list (the best items by falling score). What must hold: the target is never passed.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np


@dataclass(frozen=True)
class Ranking:
    """Scores of a block of N users.

    Attributes:
        scores_NK: float scores. Lists: by falling score. Dense (`items_NK` is None): column = item row, K = number of
            items, and -inf says that the item is not in the list.
        items_NK: int item rows of the lists, -1 where a list is short, or None when the scores are dense.
    """

    scores_NK: np.ndarray
    items_NK: np.ndarray | None = None


class Recommender(Protocol):
    """Anything that ranks a catalogue for a block of users."""

    name: str

    def rank(self, histories: list[np.ndarray], exclude_history: bool) -> Ranking:
        """Ranks the items for each history (item rows, oldest first); may leave the history out of its lists."""
        ...
