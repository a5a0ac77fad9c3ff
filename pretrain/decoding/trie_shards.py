"""A trie in parts by first token, for catalogues that one array cannot hold.

Enters: token sequences, or tries that share no first token. Leaves: what a `Trie` leaves, node for node. Must hold: the
parts are whole tries, each mapped from its own file; a part is asked for its own nodes only; a search finds the same.

A node of part s is the part's own node with s above its lowest 40 bits; the root, 0, is the root of every part.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor
from torch.nn import functional as F

from pretrain.decoding.trie import NO_NODE, Children, Trie
from pretrain.decoding.trie_build import ROOT

SHARD_BITS = 40
OWN = (1 << SHARD_BITS) - 1


@dataclass(frozen=True)
class ShardedTrie:
    """Tries over disjoint sets of first tokens, in the order of these; all of one vocabulary, on one device."""

    parts: tuple[Trie, ...]

    @classmethod
    def build(cls, ids: pa.Array | pa.ChunkedArray, eos: int, vocab_size: int, num_parts: int) -> ShardedTrie:
        """At most `num_parts` tries of nearly equal numbers of items. Raises what `Trie.build` raises."""
        column = ids.combine_chunks() if isinstance(ids, pa.ChunkedArray) else ids
        offset_I1, flat_T = column.offsets.to_numpy(), column.values.to_numpy()
        if len(column) == 0 or (np.diff(offset_I1) == 0).any():
            Trie.build(column, eos, vocab_size)  # says what is wrong
        first_I = flat_T[offset_I1[:-1]]
        tokens, items = np.unique(first_I, return_counts=True)
        part_of_token = np.minimum((np.cumsum(items) - items) * num_parts // len(first_I), num_parts - 1)
        part_I = part_of_token[np.searchsorted(tokens, first_I)]
        parts = []
        for part in np.unique(part_I):
            rows = np.flatnonzero(part_I == part)
            parts.append(Trie.build(column.take(pa.array(rows)), eos, vocab_size, rows=rows))
        return cls(tuple(parts))

    @classmethod
    def load(cls, folder: Path) -> ShardedTrie:
        """Parts saved by `save`, mapped into memory. Raises ValueError when there is none."""
        files = sorted(Path(folder).glob("part-*.trie"))
        if not files:
            raise ValueError(f"no parts of a trie in {folder}")
        return cls(tuple(Trie.load(file) for file in files))

    def save(self, folder: Path) -> None:
        """One file per part."""
        Path(folder).mkdir(parents=True, exist_ok=True)
        for index, part in enumerate(self.parts):
            part.save(Path(folder) / f"part-{index:05d}.trie")

    @property
    def num_items(self) -> int:
        return sum(part.num_items for part in self.parts)

    @property
    def nbytes(self) -> int:
        return sum(part.nbytes for part in self.parts)

    @property
    def depth(self) -> int:
        return max(part.depth for part in self.parts)

    @property
    def eos(self) -> int:
        return self.parts[0].eos

    @property
    def vocab_size(self) -> int:
        return self.parts[0].vocab_size

    @property
    def device(self) -> torch.device:
        return self.parts[0].device

    @property
    def headroom(self) -> tuple[float, ...]:
        longest = self.depth + 1
        rows = [part.headroom + (0.0,) * (longest - len(part.headroom)) for part in self.parts]
        return tuple(max(column) for column in zip(*rows, strict=True))

    @property
    def node_range(self) -> tuple[int, int]:
        highest = len(self.parts) << SHARD_BITS
        return -highest, 2 * highest

    def to(self, device: torch.device | str) -> ShardedTrie:
        return ShardedTrie(tuple(part.to(device) for part in self.parts))

    def root(self, batch: int) -> Tensor:
        return self.parts[0].root(batch)

    def allowed(self, nodes_M: Tensor, capacity: int | None = None) -> Children:
        found = []
        for shard, part in enumerate(self.parts):
            own_M = self._own(nodes_M, shard).where(nodes_M != ROOT, ROOT)
            children = part.allowed(own_M, capacity)
            found.append(children._replace(node_C=self._outer(children.node_C, shard)))
        rank_C = torch.cat([torch.where(part.node_C == NO_NODE, len(nodes_M), part.row_C) for part in found])
        used = capacity if capacity is not None else max(1, int((rank_C < len(nodes_M)).sum()))
        order_C = torch.sort(rank_C, stable=True).indices[:used]
        row_C, token_C, node_C = (torch.cat([part[index] for part in found])[order_C] for index in range(3))
        weights = [part.weight_C for part in found if part.weight_C is not None]
        return Children(row_C, token_C, node_C, torch.cat(weights)[order_C] if weights else None)

    def width(self, depth: int, rows: int) -> int:
        return sum(part.width(depth, rows) for part in self.parts)

    def item(self, nodes: Tensor) -> Tensor:
        item = torch.zeros_like(nodes)
        for shard, part in enumerate(self.parts):
            own = self._own(nodes, shard)
            item = torch.where(own != NO_NODE, part.item(own), item)
        return item

    def tail(self, nodes: Tensor, longest: int | None = None) -> tuple[Tensor, Tensor, Tensor | None]:
        owned = [self._own(nodes, shard) for shard in range(len(self.parts))]
        found = [part.tail(own, longest) for part, own in zip(self.parts, owned, strict=True)]
        length = max(tokens.shape[-1] for tokens, _, _ in found)
        tokens = torch.full((*nodes.shape, length), self.eos, device=nodes.device)
        for own, (part_tokens, _, _) in zip(owned, found, strict=True):
            padded = F.pad(part_tokens, (0, length - part_tokens.shape[-1]), value=self.eos)
            tokens = torch.where((own != NO_NODE)[..., None], padded, tokens)
        number = torch.stack([part_number for _, part_number, _ in found]).sum(0)  # 0 where a part has no such node
        weights = [F.pad(w, (0, length - w.shape[-1])) for _, _, w in found if w is not None]
        return tokens, number, torch.stack(weights).sum(0) if weights else None

    def only_to(self, rows: np.ndarray) -> np.ndarray:
        found = [part.only_to(rows) for part in self.parts]
        closed = [self._outer(torch.from_numpy(nodes[nodes != ROOT]), shard) for shard, nodes in enumerate(found)]
        everything = all((nodes == ROOT).any() for nodes in found)
        return np.concatenate([*(nodes.numpy() for nodes in closed), np.full(int(everything), ROOT)])

    def _own(self, nodes: Tensor, shard: int) -> Tensor:
        """The nodes of a part as that part numbers them, NO_NODE for those of others (and the root)."""
        place = torch.where(nodes >= 0, nodes, ~nodes)
        own = torch.where(nodes >= 0, place & OWN, ~(place & OWN))
        mine = (place >> SHARD_BITS == shard) & (nodes != NO_NODE) & (nodes != ROOT)
        return torch.where(mine, own, NO_NODE)

    def _outer(self, nodes: Tensor, shard: int) -> Tensor:
        above = shard << SHARD_BITS
        return torch.where(nodes == NO_NODE, NO_NODE, torch.where(nodes >= 0, nodes + above, nodes - above))
