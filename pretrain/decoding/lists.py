"""Ranked lists of a batch of prompts, and choosing the best of scores so that a tie has one answer.

Enters: scores of finished hypotheses. Leaves: per prompt the best K. Must hold: ties go to what came first, so that
neither padding nor the other prompts of a batch decide.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Lists:
    """Ranked items per prompt: `items_BK` (row, or -1 where the list ends) and `scores_BK` (-inf there)."""

    items_BK: Tensor
    scores_BK: Tensor

    @classmethod
    def empty(cls, batch: int, length: int, like: Tensor) -> Lists:
        """B lists of `length` free places, scores of the type and on the device of `like`."""
        scores_BK = like.new_full((batch, length), float("-inf"))
        return cls(torch.full_like(scores_BK, -1, dtype=torch.long), scores_BK)

    @property
    def worst_B1(self) -> Tensor:
        """Score of the last place: what does not exceed it cannot enter."""
        return self.scores_BK[:, -1:]

    def select(self, index_N: Tensor) -> Lists:
        """The lists of the prompts `index_N`."""
        return Lists(self.items_BK[index_N], self.scores_BK[index_N])

    def put(self, index_N: Tensor, lists: Lists) -> Lists:
        """These lists with those of the prompts `index_N` exchanged."""
        return Lists(
            self.items_BK.index_copy(0, index_N, lists.items_BK),
            self.scores_BK.index_copy(0, index_N, lists.scores_BK),
        )

    def merge(self, items_BN: Tensor, scores_BN: Tensor) -> Lists:
        """The lists with more items (-inf: none), cut to their length."""
        scores_BA = torch.cat([self.scores_BK, scores_BN], dim=1)
        items_BA = torch.cat([self.items_BK, items_BN.masked_fill(scores_BN == float("-inf"), -1)], dim=1)
        best_BA = torch.sort(scores_BA, dim=1, descending=True, stable=True)
        index_BK = best_BA.indices[:, : self.items_BK.shape[1]]
        return Lists(items_BA.gather(1, index_BK), scores_BA.gather(1, index_BK))


def top_stable(scores_BC: Tensor, count: int) -> Tensor:
    """Places of the `count` best of each row (all, where there are fewer) by falling score; of equals, the first.

    `topk` finds the limit, a running count decides among those that stand at it: far cheaper than sorting a row of
    thousands, of which twenty are wanted.
    """
    count = min(count, scores_BC.shape[1])
    limit_B1 = torch.topk(scores_BC, count, dim=1).values[:, -1:]
    above_BC, level_BC = scores_BC > limit_B1, scores_BC == limit_B1
    free_B1 = count - above_BC.sum(1, keepdim=True)
    taken_BC = above_BC | (level_BC & (level_BC.cumsum(1) <= free_B1))
    # Exactly `count` are taken in each row: their places, in order, then by falling score.
    place_BK = torch.topk(taken_BC.to(torch.int8), count, dim=1).indices.sort(1).values
    order_BK = torch.sort(scores_BC.gather(1, place_BK), dim=1, descending=True, stable=True).indices
    return place_BK.gather(1, order_BK)
