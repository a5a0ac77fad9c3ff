"""The way up a trie, on the host: exclusions and guides need it, so it is made when first asked for.

Enters: a trie's edges. Leaves: which nodes lead to no other items than some given ones.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Above:
    """Of N inner nodes the number of edges and the parent (-1: the root); of I items the last inner node, and where its
    tail starts."""

    fan_out_N: np.ndarray
    parent_N: np.ndarray
    last_node_I: np.ndarray
    tail_start_I1: np.ndarray

    @classmethod
    def of(cls, first_edge_N1: np.ndarray, target_E: np.ndarray, tail_start_I1: np.ndarray) -> Above:
        """From the arrays of a `Trie`."""
        fan_out_N = np.diff(first_edge_N1)
        owner_E = np.repeat(np.arange(len(fan_out_N), dtype=target_E.dtype), fan_out_N)
        inner_E = target_E >= 0
        item_E = np.searchsorted(tail_start_I1, ~target_E[~inner_E], side="right") - 1
        last_node_I = np.empty(len(tail_start_I1) - 1, dtype=target_E.dtype)
        last_node_I[item_E] = owner_E[~inner_E]
        return cls(fan_out_N, np.concatenate([[-1], owner_E[inner_E]]), last_node_I, tail_start_I1)

    def only_to(self, items: np.ndarray) -> np.ndarray:
        """The nodes that lead to no other items than these (each once): inner nodes, and the first of each tail."""
        reached = self.last_node_I[items].astype(np.int64)  # an inner node stands here once for each edge into `items`
        closed = np.empty(0, dtype=np.int64)
        while True:
            nodes, edges = np.unique(reached, return_counts=True)
            fresh = np.setdiff1d(nodes[edges == self.fan_out_N[nodes]], closed)
            if len(fresh) == 0:
                return np.concatenate([~self.tail_start_I1[items].astype(np.int64), closed])
            closed = np.concatenate([closed, fresh])
            above = self.parent_N[fresh].astype(np.int64)
            reached = np.concatenate([reached, above[above >= 0]])
