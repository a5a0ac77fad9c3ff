"""The catalogue as a level-order trie of token sequences in three flat arrays.

Enters: one token sequence per item, unique. Leaves: for a batch of nodes, the legal next tokens and the nodes they
lead to. Must hold: every path from the root to a leaf is one item's ID followed by EOS, so an ID may be the prefix of
another. Nodes are numbered level by level, so the children of a node are contiguous and edge `e` leads to node `e + 1`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Trie:
    """`first_edge_N1`: first child edge of each node, plus the end; `token_E`: token of each edge, ascending inside a
    node; `item_N`: item row at a leaf, -1 elsewhere. All int64, on one device."""

    first_edge_N1: Tensor
    token_E: Tensor
    item_N: Tensor
    num_items: int
    depth: int

    @classmethod
    def build(cls, sequences: list[np.ndarray], eos: int, rows: np.ndarray | None = None) -> Trie:
        """Trie of the sequences; EOS is appended here. `rows`: the item of each sequence (default: its index).

        Raises ValueError when there is no sequence, one is empty, or two are equal.
        """
        if not sequences:
            raise ValueError("the trie needs at least one ID; the catalogue is empty")
        lengths_I = np.array([len(sequence) for sequence in sequences])
        if lengths_I.min() == 0:
            raise ValueError(f"item {int(lengths_I.argmin())} has an empty ID; make the ID book again")
        rows_I = np.arange(len(sequences)) if rows is None else np.asarray(rows)
        depth = int(lengths_I.max()) + 1
        table_ID = np.full((len(sequences), depth), -1, dtype=np.int64)
        table_ID[np.arange(depth)[None, :] < lengths_I[:, None]] = np.concatenate(sequences)
        table_ID[np.arange(len(sequences)), lengths_I] = eos
        order_I = np.lexsort(table_ID.T[::-1])
        table_ID, rows_I, lengths_I = table_ID[order_I], rows_I[order_I], lengths_I[order_I] + 1
        same_I = np.concatenate([[False], (table_ID[1:] == table_ID[:-1]).all(axis=1)])
        if same_I.any():
            at = int(same_I.argmax())
            raise ValueError(f"items {rows_I[at - 1]} and {rows_I[at]} have the same ID; IDs must be unique")
        return cls._from_sorted(table_ID, lengths_I, rows_I, len(sequences))

    @classmethod
    def _from_sorted(cls, table_ID: np.ndarray, lengths_I: np.ndarray, rows_I: np.ndarray, num_items: int) -> Trie:
        parents_I = np.zeros(len(table_ID), dtype=np.int64)
        changed_I = np.zeros(len(table_ID), dtype=bool)
        changed_I[0] = True
        tokens, parents, items, num_nodes = [], [], [np.array([-1])], 1
        for level in range(table_ID.shape[1]):
            changed_I = changed_I.copy()
            changed_I[1:] |= table_ID[1:, level] != table_ID[:-1, level]
            alive_I = lengths_I > level
            first_I = changed_I & alive_I
            node_I = num_nodes - 1 + np.cumsum(first_I)
            tokens.append(table_ID[first_I, level])
            parents.append(parents_I[first_I])
            items.append(np.where(lengths_I[first_I] == level + 1, rows_I[first_I], -1))
            parents_I = node_I
            num_nodes += int(first_I.sum())
        children_N = np.bincount(np.concatenate(parents), minlength=num_nodes)
        first_edge_N1 = np.concatenate([[0], np.cumsum(children_N)])
        return cls(
            torch.from_numpy(first_edge_N1.astype(np.int64)),
            torch.from_numpy(np.concatenate(tokens).astype(np.int64)),
            torch.from_numpy(np.concatenate(items).astype(np.int64)),
            num_items,
            table_ID.shape[1],
        )

    def to(self, device: torch.device | str) -> Trie:
        """The same trie on `device`."""
        first_edge_N1, token_E, item_N = (a.to(device) for a in (self.first_edge_N1, self.token_E, self.item_N))
        return Trie(first_edge_N1, token_E, item_N, self.num_items, self.depth)

    def allowed(self, nodes_M: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Legal continuations of each node as ragged arrays: (index into nodes_M, token, child node), each [C]."""
        start_M = self.first_edge_N1[nodes_M]
        count_M = self.first_edge_N1[nodes_M + 1] - start_M
        row_C = torch.repeat_interleave(torch.arange(len(nodes_M), device=nodes_M.device), count_M)
        before_M = torch.cumsum(count_M, 0) - count_M
        edge_C = torch.arange(len(row_C), device=nodes_M.device) - before_M[row_C] + start_M[row_C]
        return row_C, self.token_E[edge_C], edge_C + 1
