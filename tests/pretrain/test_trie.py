"""The trie against a dictionary of prefixes."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pretrain.decoding.trie import Trie

EOS = 1
catalogues = st.lists(
    st.lists(st.integers(2, 6), min_size=1, max_size=5).map(tuple), min_size=1, max_size=25, unique=True
)


def naive(sequences):
    """prefix -> {token: longer prefix}, EOS as an edge."""
    children: dict[tuple, dict[int, tuple]] = {}
    for sequence in sequences:
        path = (*sequence, EOS)
        for length in range(len(path)):
            children.setdefault(path[:length], {})[path[length]] = path[: length + 1]
    return children


@settings(max_examples=100, deadline=None)
@given(catalogues, st.randoms(use_true_random=False))
def test_equals_a_dictionary_of_prefixes(sequences, random):
    rows = random.sample(range(100), len(sequences))
    given_rows = random.random() < 0.5
    trie = Trie.build([np.array(s) for s in sequences], EOS, np.array(rows) if given_rows else None)
    row_of = dict(zip(sequences, rows if given_rows else range(len(rows)), strict=True))
    expected = naive(sequences)
    assert trie.num_items == len(sequences) and trie.depth == max(map(len, sequences)) + 1
    assert len(trie.item_N) == 1 + sum(map(len, expected.values())) == len(trie.token_E) + 1
    seen, level = 0, {0: ()}
    while level:
        nodes = torch.tensor(sorted(level, key=lambda node: random.random()))
        index, tokens, children = trie.allowed(nodes)
        assert len(index) == len(tokens) == len(children) and index.tolist() == sorted(index.tolist())
        below: dict[int, tuple] = {}
        for at, node in enumerate(nodes.tolist()):
            mine = (index == at).nonzero().squeeze(1)
            found = dict(zip(tokens[mine].tolist(), children[mine].tolist(), strict=True))
            prefix = level[node]
            assert list(found) == sorted(expected.get(prefix, {}))
            ended = bool(prefix) and prefix[-1] == EOS
            assert int(trie.item_N[node]) == (row_of[prefix[:-1]] if ended else -1)
            seen += ended
            below |= {child: (*prefix, token) for token, child in found.items()}
        level = below
    assert seen == len(sequences)


def test_an_id_may_be_the_prefix_of_another():
    trie = Trie.build([np.array([5, 6]), np.array([5])], EOS)
    index, tokens, children = trie.allowed(torch.tensor([0, 1, 1]))
    assert index.tolist() == [0, 1, 1, 2, 2] and tokens.tolist() == [5, EOS, 6, EOS, 6]
    assert trie.item_N[children].tolist() == [-1, 1, -1, 1, -1]
    leaf = children[1:2]
    assert [len(part) for part in trie.allowed(leaf)] == [0, 0, 0]
    moved = trie.to("cpu")
    assert moved.num_items == 2 and torch.equal(moved.token_E, trie.token_E)


def test_errors_name_the_items():
    with pytest.raises(ValueError, match="catalogue is empty"):
        Trie.build([], EOS)
    with pytest.raises(ValueError, match="item 1 has an empty ID"):
        Trie.build([np.array([5]), np.array([], dtype=np.int64)], EOS)
    with pytest.raises(ValueError, match="items 0 and 2 have the same ID"):
        Trie.build([np.array([5, 6]), np.array([5]), np.array([5, 6])], EOS)
    with pytest.raises(ValueError, match="items 7 and 3 have the same ID"):
        Trie.build([np.array([5, 6]), np.array([5, 6])], EOS, np.array([7, 3]))
