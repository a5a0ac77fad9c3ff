"""What a search has fed to a decoder: keys and values in one pool, and which of them each hypothesis has.

Enters: tokens, each with the hypothesis that it continues. Leaves: who sees whom, and how far apart. Must hold: a
token's keys and values stay where they were written. A hypothesis is the set of places of its tokens (its lineage), and
attention sees a place or does not: hypotheses share what they have in common, and nothing is copied when beams move.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass
class DecodeState:
    """A batch of B inputs and the tokens fed so far, in P places.

    `cross`: keys and values of each layer, [B, H, S, D]; `mask_B11S` is added to attention over the input. `own`: keys
    and values of the tokens fed, [B, H, at least P, D]; `position_BP`: how many tokens of its hypothesis come before
    each. `lineage_BRP`: the places of each of the R hypotheses; `length_B`: how many tokens they have.
    """

    cross: list[tuple[Tensor, Tensor]]
    mask_B11S: Tensor
    position_BP: Tensor
    lineage_BRP: Tensor
    length_B: Tensor
    own: list[tuple[Tensor, Tensor]] = field(default_factory=list)

    def select(self, index_N: Tensor) -> DecodeState:
        """The state of the inputs `index_N` alone, in that order."""
        return DecodeState(
            cross=[(keys[index_N], values[index_N]) for keys, values in self.cross],
            mask_B11S=self.mask_B11S[index_N],
            position_BP=self.position_BP[index_N],
            lineage_BRP=self.lineage_BRP[index_N],
            length_B=self.length_B[index_N],
            own=[(keys[index_N], values[index_N]) for keys, values in self.own],
        )

    def room(self, places: int, like_BHQD: Tensor, layer: int) -> tuple[Tensor, Tensor]:
        """The pool of a layer with room for `places`; it grows by doubling, so that a token is copied once or twice."""
        if layer == len(self.own):
            self.own.append((like_BHQD.new_empty(0), like_BHQD.new_empty(0)))
        if self.own[layer][0].numel() == 0 or self.own[layer][0].shape[2] < places:
            batch, heads, _, width = like_BHQD.shape
            grown = tuple(like_BHQD.new_empty(batch, heads, 2 * places, width) for _ in range(2))
            for old, new in zip(self.own[layer], grown, strict=True):
                if old.numel():
                    new[:, :, : old.shape[2]] = old
            self.own[layer] = (grown[0], grown[1])
        return self.own[layer]

    def reorder(self, parents_BR: Tensor) -> None:
        """Let hypothesis r continue what hypothesis `parents_BR[b, r]` is now."""
        index_BRP = parents_BR[:, :, None].expand(-1, -1, self.lineage_BRP.shape[2])
        self.lineage_BRP = self.lineage_BRP.gather(1, index_BRP)

    def enter(self, row_BQ: Tensor, place_BQ: Tensor, kept_BQ: Tensor, live_BQ: Tensor | None) -> tuple[Tensor, Tensor]:
        """Give new tokens (`T5Decoder.extend`) their places. Returns which of all places each sees, [B, Q, P]: tokens
        of its own hypothesis that are not after it; and how far before it they stand, in tokens, [B, Q, P]."""
        position_BQ = self.length_B[:, None] + place_BQ
        self.position_BP = torch.cat([self.position_BP, position_BQ], dim=1)
        old_BQP = self.lineage_BRP.gather(1, row_BQ[:, :, None].expand(-1, -1, self.lineage_BRP.shape[2]))
        new_BQQ = (row_BQ[:, :, None] == row_BQ[:, None, :]) & (place_BQ[:, :, None] >= place_BQ[:, None, :])
        if live_BQ is not None:
            new_BQQ = new_BQQ & live_BQ[:, None]
        row_R1 = torch.arange(self.lineage_BRP.shape[1], device=row_BQ.device)[:, None]
        kept_BRQ = (row_BQ[:, None] == row_R1) & kept_BQ[:, None]
        self.lineage_BRP = torch.cat([self.lineage_BRP, kept_BRQ], dim=2)
        self.length_B = self.length_B + kept_BQ.any(1)
        return torch.cat([old_BQP, new_BQQ], dim=2), position_BQ[:, :, None] - self.position_BP[:, None, :]
