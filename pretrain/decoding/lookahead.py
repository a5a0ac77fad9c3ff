"""Lookahead to item bonuses: what each item is worth to each prompt beside the model.

Enters: a trie and one number per prompt and item. Leaves: potentials of nodes. Must hold: a finished hypothesis has
gained exactly the worth of its item; on the way it counts with the best that lies below its node, so that no item is
lost only because its worth comes at the end.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from pretrain.decoding.trie import Children, Trie


class Lookahead:
    """Potentials of all nodes for a batch of prompts, [B, N + I]: inner nodes, then items."""

    def __init__(self, trie: Trie, bonus_BI: Tensor, excluded: Sequence[np.ndarray | Tensor] | None = None) -> None:
        """`bonus_BI`: finite, by the rows that the trie's items are called by; `excluded`: per prompt, rows that count
        for nothing."""
        if not bool(torch.isfinite(bonus_BI).all()):
            raise ValueError("what items are worth must be finite numbers")
        bonus_BI = bonus_BI.to(trie.device, copy=True)
        for prompt, rows in enumerate(excluded or ()):
            bonus_BI[prompt, torch.as_tensor(rows, device=trie.device).long()] = float("-inf")
        if trie.row_I is not None:
            bonus_BI = bonus_BI[:, trie.row_I.long()]
        self.trie, self.num_inner = trie, len(trie.first_edge_N1) - 1
        below_BN = bonus_BI.new_full((len(bonus_BI), self.num_inner), float("-inf"))
        arrays = trie.above.last_node_I, trie.above.parent_N
        last_I, parent_N = (torch.from_numpy(array).long().to(trie.device) for array in arrays)
        below_BN.scatter_reduce_(1, last_I.expand_as(bonus_BI), bonus_BI, "amax")
        levels = list(zip(trie.level_start, trie.level_start[1:], strict=False))
        for start, end in reversed(levels[1:]):
            above_BN = parent_N[start:end].expand(len(bonus_BI), -1)
            below_BN.scatter_reduce_(1, above_BN, below_BN[:, start:end].clone(), "amax")
        self.potential_BX = torch.cat([below_BN, bonus_BI], dim=1)

    def at(self, nodes: Tensor, prompt: Tensor) -> Tensor:
        """The best worth below each node for the prompt beside it, [any shape] like both; for what is no node some
        number."""
        index = torch.where(nodes >= 0, nodes, self.num_inner + self.trie.index(nodes))
        return self.potential_BX[prompt, index]

    def gain(self, children: Children, nodes_BR: Tensor, prompt_B: Tensor) -> Tensor:
        """What each child counts more than the node it continues: never more than 0, [C]."""
        prompt_C = prompt_B[children.row_C // nodes_BR.shape[1]]
        return self.at(children.node_C, prompt_C) - self.at(nodes_BR.flatten()[children.row_C], prompt_C)
