"""Laying out a trie: token sequences in, flat arrays out.

Enters: one sequence per item. Leaves: the arrays and numbers of `trie.Trie`. Must hold: sorted once, then one pass per
level over the items that are not yet alone; ten million items take seconds. All in NumPy: no object per node.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

ROOT = 0


class Edges(NamedTuple):
    """The part of a trie where several items go on: N inner nodes in level order and their E edges."""

    first_edge_N1: np.ndarray
    token_E: np.ndarray
    target_E: np.ndarray
    weight_E: np.ndarray
    level_start: tuple[int, ...]


def lay_out(
    ids: pa.Array | pa.ChunkedArray | Sequence[np.ndarray], eos: int, vocab_size: int, weights: Any = None,
    row_I: np.ndarray | None = None,
) -> tuple[dict[str, np.ndarray | None], dict[str, Any]]:  # fmt: skip
    """Arrays and numbers of a Trie. See `Trie.build` for what is refused."""
    name_I = range(len(ids)) if row_I is None else row_I
    token_T, start_I1 = _with_eos(ids, eos, vocab_size, name_I)
    length_I = np.diff(start_I1)
    weight_T = None if weights is None else _flat_weights(weights, length_I)
    table_DI, order_I = _sorted_columns(token_T, start_I1, vocab_size)
    shared_I1 = _shared_with_next(table_DI)
    _refuse_equal(shared_I1, length_I[order_I], order_I, name_I)
    # The token at which an item is alone: one after the longest prefix it shares with a neighbour.
    alone_I = np.maximum(shared_I1[:-1], shared_I1[1:]) + 1
    tail_start_I1, in_tail_T = _tails(alone_I, order_I, start_I1)
    edges = _levels(table_DI, shared_I1[:-1], alone_I, ~tail_start_I1[order_I], start_I1[order_I], weight_T)
    arrays = {
        "first_edge_N1": narrow(edges.first_edge_N1, (np.int32,)),
        "target_E": narrow(edges.target_E),
        "tail_start_I1": narrow(tail_start_I1),
        "token_X": narrow(np.concatenate([edges.token_E, token_T[in_tail_T]])),
        "weight_X": None if weight_T is None else np.concatenate([edges.weight_E, weight_T[in_tail_T]]),
    }
    depth = len(table_DI)
    numbers = {"level_start": edges.level_start, "headroom": _headroom(weight_T, start_I1, depth), "depth": depth}
    return arrays, numbers


def _with_eos(ids: Any, eos: int, vocab_size: int, name_I: Any) -> tuple[np.ndarray, np.ndarray]:
    """All tokens in a row, EOS after each ID, and where each ID starts (and the end)."""
    column = ids.combine_chunks() if isinstance(ids, pa.ChunkedArray) else ids
    if not isinstance(column, pa.Array):
        column = pa.array(list(column), pa.large_list(pa.int32()))
    if len(column) == 0:
        raise ValueError("the trie needs at least one ID; the catalogue is empty")
    offset_I1 = column.offsets.to_numpy().astype(np.int64)
    flat_T = column.values.to_numpy()[offset_I1[0] : offset_I1[-1]]
    length_I = np.diff(offset_I1)
    if length_I.min() == 0:
        raise ValueError(f"item {name_I[int(length_I.argmin())]} has an empty ID; make the ID book again")
    wrong_T = (flat_T < 0) | (flat_T >= vocab_size) | (flat_T == eos)
    if wrong_T.any():
        at = int(wrong_T.argmax())
        item, token = name_I[int(np.searchsorted(offset_I1 - offset_I1[0], at, side="right")) - 1], int(flat_T[at])
        why = "the end-of-sequence token" if token == eos else f"outside the model's vocabulary of {vocab_size:,}"
        raise ValueError(f"the ID of item {item} holds token {token}, {why}; make the ID book again")
    start_I1 = offset_I1 - offset_I1[0] + np.arange(len(column) + 1)
    token_T = np.full(start_I1[-1], eos, dtype=np.int32)
    is_token_T = np.ones(len(token_T), dtype=bool)
    is_token_T[start_I1[1:] - 1] = False
    token_T[is_token_T] = flat_T
    return token_T, start_I1


def _flat_weights(weights: Any, length_I: np.ndarray) -> np.ndarray:
    rows = weights.to_pylist() if isinstance(weights, pa.Array) else list(weights)
    if [len(row) for row in rows] != length_I.tolist():
        raise ValueError("weights: each item needs one number per token of its ID and one for EOS")
    return np.concatenate(rows).astype(np.float64)


def _sorted_columns(token_T: np.ndarray, start_I1: np.ndarray, vocab_size: int) -> tuple[np.ndarray, np.ndarray]:
    """The sequences sorted by their tokens, as columns [D, I] (0 after the end), and the item in each place."""
    length_I = np.diff(start_I1)
    depth, per_word = int(length_I.max()), 4 if vocab_size <= 1 << 16 else 2
    narrow = np.uint16 if per_word == 4 else np.uint32
    table_DI = np.zeros((depth, len(length_I)), dtype=narrow)
    for level in range(depth):
        reaches_I = length_I > level
        table_DI[level, reaches_I] = token_T[start_I1[:-1][reaches_I] + level]
    words = []
    for first in range(0, depth, per_word):
        word_I = np.zeros(len(length_I), dtype=np.uint64)
        for column_I in table_DI[first : first + per_word]:
            word_I = word_I << np.uint64(64 // per_word) | column_I
        words.append(word_I << np.uint64(64 // per_word * (per_word - len(table_DI[first : first + per_word]))))
    order_I = np.lexsort(words[::-1])
    for level in range(depth):
        table_DI[level] = table_DI[level, order_I]
    return table_DI, order_I


def _shared_with_next(table_DI: np.ndarray) -> np.ndarray:
    """Length of the prefix that each sorted sequence shares with the one before; 0 at both ends ([I + 1])."""
    shared_I1 = np.zeros(table_DI.shape[1] + 1, dtype=np.int32)
    same_J = np.ones(table_DI.shape[1] - 1, dtype=bool)
    for column_I in table_DI:
        same_J &= column_I[1:] == column_I[:-1]
        shared_I1[1:-1] += same_J
    return shared_I1


def _refuse_equal(shared_I1: np.ndarray, length_I: np.ndarray, order_I: np.ndarray, name_I: Any) -> None:
    equal_I = shared_I1[1:] >= length_I
    if equal_I.any():
        at = int(equal_I.argmax())
        one, two = sorted((name_I[order_I[at]], name_I[order_I[at + 1]]))
        raise ValueError(f"items {one} and {two} have the same ID; IDs must be unique")


def _tails(alone_I: np.ndarray, order_I: np.ndarray, start_I1: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where each item's tail starts among all tails, in item order, and which of all tokens are in tails."""
    before_I = np.empty_like(start_I1[:-1])
    before_I[order_I] = alone_I - 1
    length_I = np.diff(start_I1)
    tail_start_I1 = np.concatenate([[0], np.cumsum(length_I - before_I)])
    place_T = np.arange(start_I1[-1]) - np.repeat(start_I1[:-1], length_I)
    return tail_start_I1, place_T >= np.repeat(before_I, length_I)


def _levels(
    table_DI: np.ndarray, shared_I: np.ndarray, alone_I: np.ndarray, tail_I: np.ndarray, start_I: np.ndarray,
    weight_T: np.ndarray | None,
) -> Edges:  # fmt: skip
    """Edges level by level; at each, only the items that still share their prefix are looked at."""
    tokens, targets, counts, weights = [], [], [], []
    level_start, num_nodes = [ROOT], 1
    item_A = np.arange(len(shared_I))
    node_A = np.zeros(len(shared_I), dtype=np.int64)  # of the level above, counted inside that level
    level = 0
    while len(item_A):
        level_start.append(num_nodes)
        first_A = shared_I[item_A] <= level
        edge_item = item_A[first_A]
        tokens.append(table_DI[level, edge_item])
        counts.append(np.bincount(node_A[first_A], minlength=level_start[-1] - level_start[-2]))
        goes_on = alone_I[edge_item] > level + 1
        number = np.cumsum(goes_on) - 1
        targets.append(np.where(goes_on, num_nodes + number, tail_I[edge_item]))
        if weight_T is not None:
            weights.append(weight_T[start_I[edge_item] + level])
            mine_A = weight_T[start_I[item_A] + level]
            if not np.allclose(mine_A, weights[-1][np.cumsum(first_A) - 1], rtol=1e-5, atol=1e-6):
                raise ValueError(f"weights differ at token {level} of IDs that share their first {level + 1} tokens")
        num_nodes += int(goes_on.sum())
        stays_A = alone_I[item_A] > level + 1
        node_A = number[np.cumsum(first_A) - 1][stays_A]
        item_A = item_A[stays_A]
        level += 1
    return Edges(
        np.concatenate([[0], np.cumsum(np.concatenate(counts))]), np.concatenate(tokens), np.concatenate(targets),
        np.concatenate(weights) if weights else np.empty(0), tuple(level_start),
    )  # fmt: skip


def narrow(values: np.ndarray, kinds: tuple[type, ...] = (np.int16, np.int32)) -> np.ndarray:
    """The values in the narrowest of `kinds` that holds them, else in int64."""
    least, most = int(values.min()), int(values.max())
    for kind in kinds:
        if np.iinfo(kind).min <= least and most <= np.iinfo(kind).max:
            return np.ascontiguousarray(values, dtype=kind)
    return np.ascontiguousarray(values, dtype=np.int64)


def _headroom(weight_T: np.ndarray | None, start_I1: np.ndarray, depth: int) -> tuple[float, ...]:
    """Per number of tokens taken, the most that the weights of the rest of any ID add up to."""
    if weight_T is None:
        return (0.0,) * (depth + 1)
    total_T1 = np.concatenate([[0.0], np.cumsum(weight_T)])
    ends_I, most = total_T1[start_I1[1:]], []
    for taken in range(depth + 1):
        place_I = start_I1[:-1] + taken
        inside_I = place_I <= start_I1[1:]
        most.append(float((ends_I - total_T1[np.minimum(place_I, start_I1[1:])])[inside_I].max()))
    return tuple(most)


@dataclass(frozen=True)
class Above:
    """The way up a trie, on the host, for exclusions and bonuses.

    Of N inner nodes the number of edges and the parent (-1: the root); of I items the last inner node, and where its
    tail starts.
    """

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
