"""The next item in order of item ids: what a data set gives away whose histories are sorted by id.

Enters: item names. Leaves: dense scores. What must hold: only names and the history count, no text and no other user.
In the reference's Sports and Toys every history is sorted by ASIN, so the target's ASIN is the largest of all. This is
the simplest guess that knows it; in true order of time it has nothing to go by but that like items have like numbers.
"""

from collections.abc import Sequence

import numpy as np

from zeroshot.protocol.recommender import ProtocolName, Ranking


class ItemOrder:
    """The item whose id comes next after the largest id of the history in the sorted catalogue, then the one after it,
    and so on round the end of the catalogue."""

    name = "item-order"

    def __init__(self, items: list[str]) -> None:
        self.place_I = np.empty(len(items), dtype=np.int64)
        self.place_I[sorted(range(len(items)), key=items.__getitem__)] = np.arange(len(items))

    def rank(self, histories: list[np.ndarray], protocols: Sequence[ProtocolName]) -> Ranking:
        """Dense scores: minus the steps from the item with the largest id, 1 to the size of the catalogue."""
        largest_N = np.array([self.place_I[history].max() for history in histories], dtype=np.int64)
        steps_NI = (self.place_I[None, :] - largest_N[:, None] - 1) % len(self.place_I) + 1
        return Ranking(-steps_NI.astype(np.float64))
