"""The next item in order of item ids: what a data set gives away whose histories are sorted by id.

Enters: item names. Leaves: dense scores. What must hold: only names and the last item of a history count, no text and
no other user. In the reference's Sports and Toys every history is sorted by ASIN, so a target lies behind all of its
history; there this scores far above chance, in true order of time hardly.
"""

import numpy as np

from zeroshot.interface import Ranking


class ItemOrder:
    """The item whose id comes next after the last item's id in the sorted catalogue, then the one after it, and so on
    round the end of the catalogue to the last item itself."""

    name = "item-order"

    def __init__(self, items: list[str]) -> None:
        self.place_I = np.empty(len(items), dtype=np.int64)
        self.place_I[sorted(range(len(items)), key=items.__getitem__)] = np.arange(len(items))

    def rank(self, histories: list[np.ndarray], exclude_history: bool) -> Ranking:
        """Dense scores: minus the steps from the last item, 1 to the size of the catalogue."""
        last_N = np.array([history[-1] for history in histories], dtype=np.int64)
        steps_NI = (self.place_I[None, :] - self.place_I[last_N, None] - 1) % len(self.place_I) + 1
        return Ranking(-steps_NI.astype(np.float64))
