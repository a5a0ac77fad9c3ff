"""What others use for allowed tokens, written out: a trie of dictionaries and a CSR matrix with a dense mask.

`DictTrie` is the usual prefix function of `generate`, with the work of its `PrefixConstrainedLogitsProcessor`.
`DenseMask` follows the idea of STATIC (youtube/static-constraint-decoding): the trie as one CSR matrix over IDs of one
length (shorter ones padded), a fixed number of edges read per row, and a mask over the whole vocabulary.
"""

import sys
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from shards.tokenizer import EOS_ID


class DictTrie:
    """Nested dictionaries; called with the tokens so far, it lists the next ones."""

    def __init__(self, ids: Sequence[Sequence[int]]) -> None:
        self.root: dict = {}
        self.depth = 1 + max(map(len, ids))
        for sequence in ids:
            node = self.root
            for token in (*sequence, EOS_ID):
                node = node.setdefault(token, {})

    def __call__(self, batch_id: int, tokens: Tensor) -> list[int]:
        node = self.root
        for token in tokens.tolist()[1:]:
            node = node.get(token)
            if node is None:
                return [EOS_ID]
        return list(node) or [EOS_ID]

    def mask(self, prefixes_RT: Tensor, scores_RV: Tensor) -> Tensor:
        """What Hugging Face's logits processor does with the prefix function, row after row."""
        mask_RV = torch.full_like(scores_RV, float("-inf"))
        for row, prefix in enumerate(prefixes_RT):
            mask_RV[row, self(row, prefix)] = 0
        return scores_RV + mask_RV

    def nbytes(self) -> int:
        """Bytes of all dictionaries (their integers are shared and not counted)."""
        total, stack = 0, [self.root]
        while stack:
            node = stack.pop()
            total += sys.getsizeof(node)
            stack.extend(node.values())
        return total


class DenseMask:
    """States by level, one CSR row per state of (token, next state), IDs padded with EOS to one length."""

    def __init__(self, ids: Sequence[Sequence[int]], vocab_size: int) -> None:
        length = 1 + max(map(len, ids))
        table = np.full((len(ids), length), EOS_ID, dtype=np.int64)
        for row, sequence in enumerate(ids):
            table[row, : len(sequence)] = sequence
        table = table[np.lexsort(table.T[::-1])]
        state_I, states = np.zeros(len(ids), dtype=np.int64), 1
        fresh_I = np.zeros(len(ids), dtype=bool)
        fresh_I[0] = True
        edges, owners = [], []
        for level in range(length):
            fresh_I[1:] |= table[1:, level] != table[:-1, level]
            number_I = states - 1 + np.cumsum(fresh_I)
            edges.append(np.stack([table[fresh_I, level], number_I[fresh_I]], axis=1))
            owners.append(state_I[fresh_I])
            state_I, states = number_I, states + int(fresh_I.sum())
        counts = np.bincount(np.concatenate(owners), minlength=states)
        self.vocab_size = vocab_size
        self.start = torch.from_numpy(np.concatenate([[0], np.cumsum(counts)]).astype(np.int32))
        self.edges = torch.from_numpy(np.concatenate(edges).astype(np.int32))
        self.first_state = [0, *np.cumsum([1, *(len(level) for level in edges)]).tolist()]
        self.counts = counts

    def widest(self, level: int) -> int:
        """Most edges of a state of a level: as many are read for each row."""
        return int(self.counts[self.first_state[level] : self.first_state[level + 1]].max())

    def step(self, states_R: Tensor, scores_RV: Tensor, level: int) -> Tensor:
        """Scores with everything illegal masked."""
        start_R, end_R = self.start[states_R], self.start[states_R + 1]
        at_RW = start_R[:, None] + torch.arange(self.widest(level))
        legal_RW = at_RW < end_R[:, None]
        token_RW = self.edges[at_RW.clamp(max=len(self.edges) - 1), 0].long()
        mask_RV = torch.full((len(states_R), self.vocab_size + 1), float("-inf"))
        mask_RV.scatter_(1, torch.where(legal_RW, token_RW, self.vocab_size), 0.0)
        return scores_RV + mask_RV[:, : self.vocab_size]

    def walk(self, prefix: Sequence[int]) -> int:
        """The state after a prefix."""
        state = 0
        for token in prefix:
            edges = self.edges[int(self.start[state]) : int(self.start[state + 1])]
            state = int(edges[int((edges[:, 0] == token).nonzero()[0]), 1])
        return state

    def nbytes(self) -> int:
        return self.start.nbytes + self.edges.nbytes
