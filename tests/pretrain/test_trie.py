"""The trie against a dictionary of prefixes."""

from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

from pretrain.decoding.trie import NO_NODE, Trie
from pretrain.decoding.trie_build import narrow

EOS, VOCAB = 1, 50
catalogues = st.lists(
    st.lists(st.integers(2, 6), min_size=1, max_size=6).map(tuple), min_size=1, max_size=30, unique=True
)


def column(sequences):
    return pa.array([list(sequence) for sequence in sequences], pa.list_(pa.int32()))


def build(sequences, **more) -> Any:
    return Trie.build(column(sequences), EOS, VOCAB, **more)


def naive(sequences):
    """prefix -> {token: longer prefix}, EOS as an edge."""
    children: dict[tuple, dict[int, tuple]] = {}
    for sequence in sequences:
        path = (*sequence, EOS)
        for length in range(len(path)):
            children.setdefault(path[:length], {})[path[length]] = path[: length + 1]
    return children


def walk(trie, random, static):
    """Every node of the trie, level by level, each level asked for at once: {prefix: node}."""
    found: dict[tuple[int, ...], int] = {(): 0}
    level: dict[tuple[int, ...], int] = dict(found)
    depth = 0
    while level:
        prefixes = sorted(level, key=lambda prefix: random.random())
        nodes = torch.tensor([level[prefix] for prefix in prefixes] + [NO_NODE] * random.randrange(3))
        children = trie.allowed(nodes, trie.width(depth, len(nodes)) if static else None)
        assert children.row_C.shape == children.token_C.shape == children.node_C.shape
        used = (children.node_C != NO_NODE).nonzero().squeeze(1)
        assert used.tolist() == list(range(len(used))), "unused places are at the end"
        order = [(int(children.row_C[at]), int(children.token_C[at])) for at in used]
        assert order == sorted(set(order)), "by row, then by token"
        pairs = zip(order, children.node_C.tolist(), strict=False)
        level = {prefixes[row] + (token,): node for (row, token), node in pairs}
        depth += 1
        found |= level
    return found


@settings(max_examples=150)
@given(catalogues, st.randoms(use_true_random=False), st.booleans(), st.booleans())
def test_equals_a_dictionary_of_prefixes(sequences, random, static, wide):
    trie = build(sequences)
    if wide:  # as if a narrow integer could not hold it
        trie = replace(trie, **{name: t.long() for name, t in trie.tensors().items()})
    expected = naive(sequences)
    found = walk(trie, random, static)
    assert set(found) == {()} | {prefix for children in expected.values() for prefix in children.values()}
    assert len(set(found.values())) == len(found), "every node has a number of its own"
    assert trie.num_items == len(sequences) and trie.depth == max(map(len, sequences)) + 1
    for item, sequence in enumerate(sequences):
        path = (*sequence, EOS)
        for place in range(1, len(path) + 1):
            node = found[path[:place]]
            if node >= 0:  # an inner node: what follows is not one item's alone
                continue
            assert trie.item(torch.tensor([node])).tolist() == [item]
            tokens, number, weights = trie.tail(torch.tensor([[node]]), 9 if static else None)
            assert tokens[0, 0, : len(path) - place].tolist() == list(path[place:]) and weights is None
            assert int(number) == len(path) - place and set(tokens[0, 0, int(number) :].tolist()) <= {EOS}
        assert found[path] < 0, "a finished ID is in a tail"


@settings(max_examples=80)
@given(catalogues, st.data(), st.randoms(use_true_random=False))
def test_nodes_that_lead_only_to_some_items(sequences, data, random):
    out = data.draw(st.lists(st.integers(0, len(sequences) - 1), unique=True))
    trie = build(sequences)
    nodes = walk(trie, random, False)
    below = {prefix: {i for i, s in enumerate(sequences) if (*s, EOS)[: len(prefix)] == prefix} for prefix in nodes}
    closed = set(trie.only_to(np.array(out, dtype=np.int64)).tolist())
    for prefix, node in nodes.items():
        shared = prefix and prefix[:-1] in nodes and nodes[prefix[:-1]] < 0  # inside a tail: its start is what counts
        if not shared:
            assert (node in closed) == (below[prefix] <= set(out)), prefix


def below(trie, nodes):
    return trie.allowed(trie.allowed(nodes).node_C)


def test_an_id_may_be_the_prefix_of_another():
    trie = build([(5, 6), (5,)])
    children = below(trie, torch.tensor([0]))
    assert children.token_C.tolist() == [EOS, 6] and trie.item(children.node_C).tolist() == [1, 0]
    after = trie.allowed(children.node_C)
    assert after.token_C.tolist() == [EOS] and after.row_C.tolist() == [1], "the finished one has no more"
    nothing = trie.allowed(torch.tensor([NO_NODE, NO_NODE]))
    assert nothing.node_C.tolist() == [NO_NODE], "one unused place"
    assert torch.equal(trie.to("cpu").token_X, trie.token_X)


def test_rows_name_the_items():
    trie = build([(5, 6), (5,), (7,)], rows=np.array([3, 8, 90]))
    ends = below(trie, torch.tensor([0])).node_C
    assert sorted(trie.item(ends).tolist()) == [3, 8, 90] and trie.num_items == 3
    assert len(trie.only_to(np.array([3, 8]))) == 3 and len(trie.only_to(np.array([4, 9]))) == 0
    with pytest.raises(ValueError, match="3 rows for 2 IDs"):
        build([(5, 6), (5,)], rows=np.array([1, 2, 3]))
    with pytest.raises(ValueError, match="ascending"):
        build([(5, 6), (5,)], rows=np.array([3, 2]))


def test_weights_lie_on_edges_and_in_tails():
    sequences, weights = [(5, 6, 7), (5, 8), (9,)], [[1.0, 2, 3, 4], [1.0, 5, 6], [-1.0, -2]]
    trie = build(sequences, weights=weights)
    first = trie.allowed(torch.tensor([0]))
    assert first.weight_C is not None and first.weight_C.tolist() == [1.0, -1.0]
    second = trie.allowed(first.node_C)
    assert second.weight_C is not None and second.weight_C.tolist() == [2.0, 5.0, -2.0]
    tokens, number, rest = trie.tail(second.node_C)
    assert rest is not None and rest.sum(-1).tolist() == [7.0, 6.0, 0.0] and number.tolist() == [2, 1, 0]
    assert trie.headroom == (12.0, 11.0, 7.0, 4.0, 0.0)
    with pytest.raises(ValueError, match="weights differ at token 0"):
        build(sequences, weights=[[1.0, 2, 3, 4], [1.5, 5, 6], [0, 0]])
    with pytest.raises(ValueError, match="one number per token"):
        build(sequences, weights=[[1.0, 2, 3], [1.0, 5, 6], [0, 0]])


@pytest.mark.parametrize("kind", [pa.list_(pa.int32()), pa.large_list(pa.int64())])
def test_arrow_columns_in_chunks_are_taken_as_they_are(kind):
    sequences = [[5, 6], [5], [7, 8, 9], [7, 8]]
    chunked = pa.chunked_array([pa.array(sequences[:1], kind), pa.array(sequences[1:], kind)])
    trie, plain = Trie.build(chunked, EOS, VOCAB), Trie.build([np.array(s) for s in sequences], EOS, VOCAB)
    assert all(torch.equal(ours, plain.tensors()[name]) for name, ours in trie.tensors().items())
    sliced = pa.array([[3], *sequences], kind).slice(1)
    assert torch.equal(Trie.build(sliced, EOS, VOCAB).token_X, plain.token_X)


def test_nothing_waits_for_the_host_when_the_width_is_named():
    """Under fake tensors any question to the host (an item, a size that depends on data) is an error."""
    trie = build([(a, b, c) for a in range(2, 6) for b in range(2, 6) for c in range(2, 5)])
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        fake = replace(trie, **{name: mode.from_tensor(tensor) for name, tensor in trie.tensors().items()})
        nodes = mode.from_tensor(torch.zeros(12, dtype=torch.long))
        children = fake.allowed(nodes, 60)
        assert children.token_C.shape == (60,)
        assert fake.item(children.node_C).shape == (60,)
        assert fake.tail(children.node_C, 5)[0].shape == (60, 5)
        with pytest.raises(DataDependentOutputException):
            fake.allowed(nodes)


def test_integers_are_as_narrow_as_they_can_be():
    assert [narrow(np.array([0, top])).dtype for top in (32767, 32768, 2**31 - 1, 2**31)] == [
        np.int16, np.int32, np.int32, np.int64
    ]  # fmt: skip
    assert narrow(np.array([-40000, 3])).dtype == np.int32


def test_errors_name_the_items():
    with pytest.raises(ValueError, match="catalogue is empty"):
        build([])
    with pytest.raises(ValueError, match="item 1 has an empty ID"):
        build([(5,), ()])
    with pytest.raises(ValueError, match="items 0 and 2 have the same ID"):
        build([(5, 6), (5,), (5, 6)])
    with pytest.raises(ValueError, match="item 1 holds token 50, outside the model's vocabulary of 50"):
        build([(5, 6), (5, 50)])
    with pytest.raises(ValueError, match="item 0 holds token -3, outside"):
        build([(5, -3), (5, 4)])
    with pytest.raises(ValueError, match="item 2 holds token 1, the end-of-sequence token"):
        build([(5, 6), (5,), (7, EOS, 8)])
