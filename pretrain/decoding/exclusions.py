"""Items that one user's list may not hold, as nodes that the user's search may not enter.

Enters: the trie and, per prompt, item rows. Leaves: for a batch of nodes, which are barred. Must hold: the search is
the search of the trie without these items: a node whose items are all excluded takes no place in the beam.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from pretrain.decoding.trie import Trie
from pretrain.decoding.trie_shards import ShardedTrie


class Exclusions:
    """Barred nodes of a batch of prompts, looked up without asking the host."""

    def __init__(self, trie: Trie | ShardedTrie, excluded: Sequence[np.ndarray | Tensor]) -> None:
        """`excluded`: item rows of each prompt; rows that are not in the trie are passed over."""
        self.lowest, self.span = trie.node_range
        keys = [
            trie.only_to(np.asarray(rows)) - self.lowest + prompt * self.span for prompt, rows in enumerate(excluded)
        ]
        keys = np.sort(np.concatenate([*keys, [np.iinfo(np.int64).max]]))
        self.keys = torch.from_numpy(keys).to(trie.device)

    def barred(self, nodes_C: Tensor, prompt_C: Tensor) -> Tensor:
        """Which of the nodes the prompt beside each may not enter."""
        key_C = nodes_C.clamp(min=self.lowest) - self.lowest + prompt_C * self.span
        return self.keys[torch.searchsorted(self.keys, key_C)] == key_C
