"""The hypotheses of a beam search over the trie, and what one pass of the decoder computes of them.

Enters: where hypotheses stand. Leaves: tokens to feed. Pure values: no model here.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from pretrain.decoding.lists import Lists
from pretrain.decoding.trie import NO_NODE

NEVER = float("-inf")


@dataclass(frozen=True)
class Beam:
    """R hypotheses per prompt: where they stand in the trie, their last token, which is not fed yet, their partial sum
    (-inf: none), and the hypothesis of the step before that each continues."""

    nodes_BR: Tensor
    tokens_BR: Tensor
    scores_BR: Tensor
    parents_BR: Tensor

    @property
    def batch(self) -> int:
        return self.scores_BR.shape[0]

    @property
    def rows(self) -> int:
        return self.scores_BR.shape[1]

    @property
    def live_BR(self) -> Tensor:
        return self.scores_BR > NEVER

    def select(self, index_N: Tensor) -> Beam:
        """The beams of the prompts `index_N`."""
        return Beam(*(getattr(self, column.name)[index_N] for column in fields(self)))

    def without(self, gone_BR: Tensor) -> Beam:
        """The beam less the hypotheses marked."""
        return replace(self, scores_BR=self.scores_BR.masked_fill(gone_BR, NEVER))

    def widened(self, rows: int) -> Beam:
        """The beam with empty hypotheses up to `rows`."""
        missing = (0, rows - self.rows)
        return Beam(
            F.pad(self.nodes_BR, missing, value=NO_NODE), F.pad(self.tokens_BR, missing),
            F.pad(self.scores_BR, missing, value=NEVER), F.pad(self.parents_BR, missing),
        )  # fmt: skip

    def where(self, stepped_B1: Tensor, waiting: Beam) -> Beam:
        """This beam for the prompts that stepped; the others wait as they were, each hypothesis its own parent."""
        itself_BR = torch.arange(self.rows, device=stepped_B1.device).expand_as(self.parents_BR)
        itself_BR = itself_BR.clamp(max=waiting.rows - 1)  # at the root there is one hypothesis only
        waiting = replace(waiting.widened(self.rows), parents_BR=itself_BR)
        pairs = ((getattr(self, column.name), getattr(waiting, column.name)) for column in fields(self))
        return Beam(*(torch.where(stepped_B1, mine, theirs) for mine, theirs in pairs))


@dataclass(frozen=True)
class Plan:
    """What one pass computes: `stepping_BR` feed their last token and branch, `closing_BR` feed that and their tail."""

    stepping_BR: Tensor
    closing_BR: Tensor

    @classmethod
    def make(cls, beam: Beam, lists: Lists, static: bool) -> Plan:
        """Prompts of which something branches step. Of the others, the tails are closed that the list still has places
        for, the most probable first; when it has none, all that can still enter. Static passes step as long as any
        prompt does, and then close everything."""
        branching_B1 = (beam.live_BR & (beam.nodes_BR >= 0)).any(1, keepdim=True)
        if static:
            branching_B1 = branching_B1.any().expand_as(branching_B1)
        closing_BR = beam.live_BR & ~branching_B1
        if not static:
            free_B1 = (lists.scores_BK == NEVER).sum(1, keepdim=True)
            order_BR = torch.argsort(beam.scores_BR, dim=1, descending=True, stable=True)
            closing_BR = closing_BR & ((torch.argsort(order_BR, dim=1) < free_B1) | (free_B1 == 0))
        return cls(beam.live_BR & branching_B1, closing_BR)


@dataclass(frozen=True)
class Slots:
    """The tokens of one pass, Q places per prompt: the token fed, the one that must follow it in a tail, its hypothesis
    and its place after it; `used_BQ` marks places that hold a token, `tail_BQ` those of closing tails."""

    token_BQ: Tensor
    target_BQ: Tensor
    row_BQ: Tensor
    place_BQ: Tensor
    used_BQ: Tensor
    tail_BQ: Tensor

    @classmethod
    def make(cls, beam: Beam, plan: Plan, target_BRL: Tensor, number_BR: Tensor) -> Slots:
        """Of each hypothesis that steps its last token; of one that closes that and its tail (`target_BRL`, of
        `number_BR` tokens) but for EOS, which is only looked up."""
        token_BRL = torch.cat([beam.tokens_BR[:, :, None], target_BRL[:, :, :-1]], dim=2)
        place_BRL = torch.arange(token_BRL.shape[2], device=token_BRL.device).expand_as(token_BRL)
        row_BRL = torch.arange(beam.rows, device=token_BRL.device)[None, :, None].expand_as(token_BRL)
        tail_BRL = place_BRL < number_BR[:, :, None]
        used_BRL = tail_BRL | (plan.stepping_BR[:, :, None] & (place_BRL == 0))
        columns = (token_BRL, target_BRL, row_BRL, place_BRL, used_BRL, tail_BRL)
        return cls(*(column_BRL.flatten(1) for column_BRL in columns))

    def packed(self) -> Slots:
        """The same with the used places first and the rest cut off."""
        width = max(1, int(self.used_BQ.sum(1).max()))
        order_BQ = torch.sort(self.used_BQ.to(torch.int8), dim=1, descending=True, stable=True).indices[:, :width]
        return Slots(*(getattr(self, column.name).gather(1, order_BQ) for column in fields(self)))


def by_row(chosen_N: Tensor, row_N: Tensor, values_N: Tensor, rows: int, fill: float | int) -> Tensor:
    """Values in the places of their rows, [rows]; of those not chosen nothing is kept, and `fill` where none is."""
    return values_N.new_full((rows + 1,), fill).scatter_(0, torch.where(chosen_N, row_N, rows), values_N)[:rows]
