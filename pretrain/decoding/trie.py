"""The catalogue as a level-order trie of token sequences in flat arrays, 25 to 30 bytes an item.

Enters: the arrays that `trie_build` lays out. Leaves: for a batch of nodes, the legal next tokens and the nodes they
lead to. Must hold: every path from the root is one item's ID followed by EOS, an ordinary edge, so an ID may be the
prefix of another; nothing here waits for the host when the caller names a width.

Where several items go on, a node is a number >= 0; nodes are numbered level by level, and the edges of a node are
contiguous and sorted by token. From the edge that leaves one item only (63-65% of all steps come after it) the rest of
the ID is a tail: tokens in a row, no edges. The node in a tail is `~p`, where p is the place of its token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from pretrain.decoding.trie_build import ROOT, Above, lay_out, narrow

NO_NODE = torch.iinfo(torch.int64).min


class Children(NamedTuple):
    """Legal continuations of M nodes, ragged, by row and token.

    `row_C`: index of the node that is continued; `token_C`, as narrow as stored; `node_C`: where it leads, NO_NODE in
    unused places (at the end); `weight_C`: what the trie adds to the score there, None when it has no weights.
    """

    row_C: Tensor
    token_C: Tensor
    node_C: Tensor
    weight_C: Tensor | None


@dataclass(frozen=True)
class Trie:
    """Level-order CSR arrays with tails. N inner nodes, E edges, I items, P places in tails, X = E + P.

    `first_edge_N1`; `target_E`: inner node, or `~place` of an item's tail; `tail_start_I1`; `token_X`: the token of
    each edge, then of each place in a tail (that of the edge into it first, EOS last); `weight_X` likewise or None;
    `row_I` where the items' rows are not 0, 1, 2, ... Integers are as narrow as their values allow.
    """

    first_edge_N1: Tensor
    target_E: Tensor
    tail_start_I1: Tensor
    token_X: Tensor
    weight_X: Tensor | None
    row_I: Tensor | None
    level_start: tuple[int, ...]
    """First inner node of each level, and the number of inner nodes at the end."""
    headroom: tuple[float, ...]
    """Most that the weights of an ID can still add after 0, 1, ... tokens."""
    depth: int
    """Tokens of the longest ID, EOS included."""
    eos: int
    vocab_size: int
    widest: dict[int, list[int]] = field(default_factory=dict, repr=False)
    """What `width` has counted: by number of rows, per level."""

    @classmethod
    def build(
        cls, ids: pa.Array | pa.ChunkedArray | Sequence[np.ndarray], eos: int, vocab_size: int,
        weights: pa.Array | Sequence[np.ndarray] | None = None, rows: np.ndarray | None = None,
    ) -> Trie:  # fmt: skip
        """Trie of one token sequence per item, EOS appended here.

        `ids`: a list column of an Arrow ID book, or a sequence of arrays. `rows`: what the items are called outside,
        ascending; by default 0, 1, 2, ... `weights`: as many numbers per item as its tokens and EOS, equal where two
        IDs share a prefix. Raises ValueError, naming the item, when there is no ID, one is empty, two are
        equal, or a token is EOS or outside the vocabulary.
        """
        if rows is not None and not (len(rows) == len(ids) and (np.diff(rows) > 0).all()):
            raise ValueError(f"{len(rows)} rows for {len(ids)} IDs: one per ID is needed, ascending")
        arrays, numbers = lay_out(ids, eos, vocab_size, weights, rows)
        arrays["row_I"] = None if rows is None else narrow(np.asarray(rows))
        tensors = {name: None if array is None else torch.from_numpy(array) for name, array in arrays.items()}
        return cls(**tensors, **numbers, eos=eos, vocab_size=vocab_size)  # type: ignore[arg-type]

    @property
    def num_items(self) -> int:
        return len(self.tail_start_I1) - 1

    @property
    def device(self) -> torch.device:
        return self.token_X.device

    @property
    def num_edges(self) -> int:
        return len(self.target_E)

    @property
    def num_places(self) -> int:
        """Places in tails."""
        return len(self.token_X) - len(self.target_E)

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return sum(tensor.nbytes for tensor in self.tensors().values())

    def to(self, device: torch.device | str) -> Trie:
        """The same trie on `device`."""
        return replace(self, **{name: tensor.to(device) for name, tensor in self.tensors().items()})

    def root(self, batch: int) -> Tensor:
        """The root, `batch` times: [B, 1]."""
        return torch.full((batch, 1), ROOT, device=self.device)

    def allowed(self, nodes_M: Tensor, capacity: int | None = None) -> Children:
        """Legal continuations of each node. A finished ID and NO_NODE have none.

        `capacity` is C, at least the number of continuations; without it the host is asked for their number (on a CPU
        that costs nothing). There is always one place at least.
        """
        edges, node_M = self.num_edges, nodes_M.clamp(min=0)
        # index_select: half the time of indexing, for what is all but nothing besides.
        start_M = self.first_edge_N1.index_select(0, node_M)
        count_M = self.first_edge_N1.index_select(0, node_M + 1) - start_M
        inner_M = nodes_M >= 0
        in_tails = capacity is not None or not bool(inner_M.all())
        if in_tails:
            # The place of the last token in token_X. For NO_NODE it is the last of all, which is an EOS.
            at_M = edges - 1 - nodes_M.clamp(-self.num_places, -1)
            start_M = torch.where(inner_M, start_M, at_M + 1)
            count_M = torch.where(inner_M, count_M, self.token_X.index_select(0, at_M) != self.eos)
        upto_M = count_M.cumsum(0)
        number = int(upto_M[-1]) if capacity is None else 0
        if number:
            row_C = torch.repeat_interleave(count_M, output_size=number)
            slot_C, used_C = torch.arange(number, device=nodes_M.device), None
        else:
            slot_C = torch.arange(capacity or 1, device=nodes_M.device)
            row_C = torch.searchsorted(upto_M, slot_C, right=True)
            used_C = row_C < len(nodes_M)
            row_C = row_C.clamp_(max=len(nodes_M) - 1)
        # Within a row, the place of a continuation is its slot less the slots of the rows before.
        at_C = slot_C + (start_M - upto_M + count_M).index_select(0, row_C)
        if used_C is not None:
            at_C = at_C * used_C
        if in_tails:
            node_C = self.target_E.index_select(0, at_C.clamp(max=edges - 1))
            node_C = torch.where(at_C < edges, node_C, edges - 1 - at_C)
        else:
            node_C = self.target_E.index_select(0, at_C).long()
        if used_C is not None:
            node_C = torch.where(used_C, node_C, NO_NODE)
        weight_C = None if self.weight_X is None else self.weight_X.index_select(0, at_C)
        return Children(row_C, self.token_X.index_select(0, at_C), node_C, weight_C)

    def width(self, depth: int, rows: int) -> int:
        """Most continuations that any `rows` different nodes of a level can have together; known without asking."""
        if rows not in self.widest:
            self.widest[rows] = self._widest(rows)
        widths = self.widest[rows]
        return widths[depth] if depth < len(widths) else rows

    def item(self, nodes: Tensor) -> Tensor:
        """Item row of nodes in tails (of any shape); what is no such node gives some row."""
        index = self.index(nodes)
        return index if self.row_I is None else self.row_I[index].long()

    def tail(self, nodes: Tensor, longest: int | None = None) -> tuple[Tensor, Tensor, Tensor | None]:
        """What still follows nodes in tails (of any shape): tokens [..., L] with EOS last and after, how many [...],
        and their weights [..., L] (0 after the end). NO_NODE has nothing. `longest` is L; without it the host asks."""
        place = (~nodes).clamp_(0, self.num_places - 1)
        number = self.tail_start_I1[self.index(nodes) + 1].long() - 1 - place
        number = number.masked_fill(nodes == NO_NODE, 0)
        longest = max(1, int(number.max())) if longest is None else longest
        after_L = torch.arange(1, longest + 1, device=nodes.device)
        inside = after_L <= number[..., None]
        at = torch.where(inside, place[..., None] + after_L, 0) + self.num_edges
        tokens = torch.where(inside, self.token_X[at].long(), self.eos)
        return tokens, number, None if self.weight_X is None else self.weight_X[at] * inside

    def only_to(self, rows: np.ndarray) -> np.ndarray:
        """The nodes that lead to no other items than `rows`: inner nodes, and the first of each tail. Rows that are not
        in the trie are passed over."""
        rows = np.unique(np.asarray(rows, dtype=np.int64))
        if self.row_I is None:
            return self.above.only_to(rows[(rows >= 0) & (rows < self.num_items)])
        return self.above.only_to(np.flatnonzero(np.isin(self.row_I.cpu().numpy(), rows)))

    @property
    def node_range(self) -> tuple[int, int]:
        """Lowest node and number of nodes from there to the highest."""
        return -self.num_places, self.num_places + len(self.first_edge_N1)

    def tensors(self) -> dict[str, Tensor]:
        """The arrays by name, those that are there."""
        pairs = ((column.name, getattr(self, column.name)) for column in fields(self))
        return {name: value for name, value in pairs if isinstance(value, Tensor)}

    def index(self, nodes: Tensor) -> Tensor:
        """Which item's tail nodes (of any shape) are in, counted in the trie; what is in none gives some number."""
        place = (~nodes).clamp_(0, self.num_places - 1).to(self.tail_start_I1.dtype)
        return torch.searchsorted(self.tail_start_I1, place, right=True) - 1

    @cached_property
    def above(self) -> Above:
        """The way up, on the host."""
        return Above.of(*(t.cpu().numpy() for t in (self.first_edge_N1, self.target_E, self.tail_start_I1)))

    def _widest(self, rows: int) -> list[int]:
        """Per level, the sum of the `rows` largest fan-outs; a row in a tail has one continuation."""
        fan_out_N = self.first_edge_N1.diff()
        widths = []
        for start, end in zip(self.level_start, self.level_start[1:], strict=False):
            inner = min(rows, end - start)
            widths.append(int(torch.topk(fan_out_N[start:end], inner).values.sum()) + rows - inner)
        return widths
