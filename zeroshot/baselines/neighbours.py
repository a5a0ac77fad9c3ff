"""The last item's neighbours in other users' histories: a first-order Markov chain, counted and not trained.

Enters: the training histories (sequence[:-2]) of all users. Leaves: dense scores. What must hold: it gives the
"first-order Markov" rows measured for five data sets to the fourth digit (tests/system/test_anchors.py).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import sparse

from zeroshot.protocol.recommender import ProtocolName, Ranking

BEFORE = 0.5
"""Weight of an item that came right before, where one that came right after counts 1."""


class Neighbours:
    """How often an item came right after the user's last item, plus half of how often it came right before it.

    Equal sums go by popularity, so behind the neighbours stand all other items by popularity. A repeat right after
    itself counts both ways.
    """

    name = "neighbours"

    def __init__(self, training_histories: list[np.ndarray], num_items: int) -> None:
        steps = [history for history in training_histories if len(history) > 1] or [np.zeros(0, dtype=np.int64)]
        one, next_one = np.concatenate([step[:-1] for step in steps]), np.concatenate([step[1:] for step in steps])
        after: Any = sparse.csr_matrix((np.ones(len(one)), (one, next_one)), shape=(num_items, num_items))
        self.counts: Any = (after + BEFORE * after.T).tocsr()
        popularity_I = np.bincount(np.concatenate(training_histories or steps), minlength=num_items)
        # Sums are multiples of a half, so less than a half only decides between equal ones.
        self.popularity_I = popularity_I / (2.0 * (popularity_I.max(initial=0) + 1))

    def rank(self, histories: list[np.ndarray], protocols: Sequence[ProtocolName]) -> Ranking:
        """Dense scores: the row of the last item."""
        last_N = np.array([history[-1] for history in histories], dtype=np.int64)
        return Ranking(self.counts[last_N].toarray() + self.popularity_I)
