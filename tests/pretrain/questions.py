"""What the tests of the search along the trie ask, and how it is put: strategies, a question, its answer."""

from dataclasses import dataclass

import numpy as np
import torch
from hypothesis import settings
from hypothesis import strategies as st

from pretrain.decoding.config import SearchConfig
from pretrain.decoding.constrained import beam_search
from pretrain.decoding.decoder import T5Decoder
from pretrain.decoding.trie import Trie

EOS, VOCAB = 1, 29
EXACT, CLOSE = 1e-10, 1e-4
ids = st.lists(st.integers(2, 5), min_size=1, max_size=5).map(tuple)
catalogues = st.lists(ids, min_size=1, max_size=16, unique=True)
prompts = st.lists(st.lists(st.integers(2, 28), min_size=1, max_size=7), min_size=1, max_size=4)
seeds = st.integers(0, 1 << 30)
settle = settings(max_examples=150)


@dataclass
class Question:
    """A search: prompts over a catalogue; what is excluded and worth, and how the trie is made."""

    prompts: list
    catalogue: list
    beam: int
    length: int | None = None
    penalty: float = 0.0
    excluded: list | None = None
    weights: list | None = None
    bonus_BI: torch.Tensor | None = None
    rows: np.ndarray | None = None
    static: bool = False
    padding: int = 0

    def trie(self):
        arrays = [np.array(sequence) for sequence in self.catalogue]
        weights = None if self.weights is None else [np.array(values) for values in self.weights]
        return Trie.build(arrays, EOS, VOCAB, weights, self.rows)

    def remaining(self, index):
        """The catalogue of a prompt as the naive search takes it: without what is excluded there."""
        out = set(self.excluded[index]) if self.excluded else set()
        return {item: ids for item, ids in enumerate(self.catalogue) if item not in out}


def answer(model, asked, padded):
    """[(score, item)] of each prompt; the form of the lists is checked on the way."""
    decoder = T5Decoder(model)
    input_ids, mask = padded(asked.prompts, asked.padding)
    state = decoder.start(decoder.encode(input_ids, mask), mask)
    config = SearchConfig(asked.beam, asked.length, asked.penalty)
    lists = beam_search(decoder, state, asked.trie(), config, asked.excluded, asked.static, asked.bonus_BI)
    assert lists.items_BK.shape == lists.scores_BK.shape == (len(asked.prompts), asked.length or asked.beam)
    found, known = [], set(range(len(asked.catalogue)) if asked.rows is None else asked.rows.tolist())
    for items, scores in zip(lists.items_BK.tolist(), lists.scores_BK.tolist(), strict=True):
        length = sum(item >= 0 for item in items)
        assert all(item >= 0 for item in items[:length]), "short lists end with -1"
        assert all(item == -1 for item in items[length:])
        assert all(score == -np.inf for score in scores[length:])
        assert scores == sorted(scores, reverse=True)
        assert len(set(items[:length])) == length and set(items[:length]) <= known
        found.append(list(zip(scores[:length], items[:length], strict=True)))
    return found
