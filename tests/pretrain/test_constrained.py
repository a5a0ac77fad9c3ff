"""Beam search over the trie, against exhaustive scoring and a naive step-synchronous search on the model's forward."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pretrain.decoding.constrained import beam_search
from pretrain.decoding.decoder import T5Decoder
from pretrain.decoding.trie import Trie

EOS, CLOSE = 1, 1e-4
ids = st.lists(st.integers(2, 5), min_size=1, max_size=4).map(tuple)
catalogues = st.lists(ids, min_size=1, max_size=14, unique=True)
prompts = st.lists(st.lists(st.integers(2, 28), min_size=1, max_size=7), min_size=1, max_size=3)
settle = settings(max_examples=30, deadline=None)


@pytest.fixture(scope="module")
def model(random_t5):
    return random_t5(seed=11)


@pytest.fixture(scope="module")
def search(padded):
    """`search(model, prompts, catalogue, beam, excluded, extra)`: per prompt [(score, item)] and its length."""

    def run(model, prompts, catalogue, beam, excluded=None, extra=0):
        decoder = T5Decoder(model)
        trie = Trie.build([np.array(sequence) for sequence in catalogue], EOS)
        state = decoder.start(*padded(prompts, extra))
        excluded = None if excluded is None else [torch.tensor(rows, dtype=torch.int64) for rows in excluded]
        lists = beam_search(decoder, state, trie, beam, excluded)
        assert lists.items_BK.shape == lists.scores_BK.shape == (len(prompts), beam)
        found = []
        for items, scores in zip(lists.items_BK.tolist(), lists.scores_BK.tolist(), strict=True):
            length = sum(item >= 0 for item in items)
            assert all(item >= 0 for item in items[:length]), "short lists end with -1"
            assert items[length:] == [-1] * (beam - length) and scores[length:] == [-np.inf] * (beam - length)
            assert scores == sorted(scores, reverse=True)
            assert len(set(items[:length])) == length and set(items[:length]) <= set(range(len(catalogue)))
            found.append(list(zip(scores[:length], items[:length], strict=True)))
        return found

    return run


@pytest.fixture(scope="module")
def exhaustive():
    """Every item by the sum of the full-vocabulary log-probabilities of its ID and EOS."""

    @torch.no_grad()
    def score(model, prompt, catalogue, excluded=()):
        depth = max(map(len, catalogue)) + 1
        labels = torch.tensor([[*sequence, EOS] + [0] * (depth - 1 - len(sequence)) for sequence in catalogue])
        inputs = torch.tensor([list(prompt)]).expand(len(catalogue), -1)
        start = torch.zeros(len(catalogue), 1, dtype=torch.long)
        logits = model(input_ids=inputs, decoder_input_ids=torch.cat([start, labels[:, :-1]], dim=1)).logits
        of_label = torch.log_softmax(logits, -1).gather(2, labels[..., None]).squeeze(2)
        totals = [of_label[item, : len(sequence) + 1].sum().item() for item, sequence in enumerate(catalogue)]
        return sorted(((s, i) for i, s in enumerate(totals) if i not in set(excluded)), reverse=True)

    return score


@pytest.fixture(scope="module")
def step_synchronous(hf_logits):
    """All live hypotheses grow by one token; those at EOS finish; the `beam` best of the others live on.

    A tie within rounding at the edge of the beam has no one answer: such an example is rejected.
    """

    def run(model, prompt, catalogue, beam, excluded=()):
        item_of = {(*sequence, EOS): item for item, sequence in enumerate(catalogue)}
        live, finished = [(0.0, ())], []
        while live:
            grown = []
            logits = hf_logits(model, prompt, [prefix for _, prefix in live])
            for (score, prefix), log_probs in zip(live, torch.log_softmax(logits, -1), strict=True):
                length = len(prefix)
                for token in {path[length] for path in item_of if len(path) > length and path[:length] == prefix}:
                    grown.append((score + log_probs[token].item(), (*prefix, token)))
            finished += [(s, item_of[p]) for s, p in grown if p in item_of and item_of[p] not in set(excluded)]
            alive = sorted((entry for entry in grown if entry[1] not in item_of), reverse=True)
            assume(len(alive) <= beam or alive[beam - 1][0] - alive[beam][0] > CLOSE)
            live = alive[:beam]
        return sorted(finished, reverse=True)[:beam]

    return run


def agree(found, expected):
    assert len(found) == len(expected)
    for place, ((ours, item), (theirs, other)) in enumerate(zip(found, expected, strict=True)):
        assert abs(ours - theirs) < CLOSE
        near = [i for s, i in expected if abs(s - theirs) < CLOSE]
        assert item == other or item in near or place == len(expected) - 1


@settle
@given(catalogue=catalogues, prompts=prompts, surplus=st.integers(0, 3))
def test_a_wide_beam_gives_the_exhaustive_list(model, search, exhaustive, catalogue, prompts, surplus):
    for found, prompt in zip(search(model, prompts, catalogue, len(catalogue) + surplus), prompts, strict=True):
        assert len(found) == len(catalogue)
        agree(found, exhaustive(model, prompt, catalogue))


@settle
@given(catalogue=catalogues, prompts=prompts, beam=st.integers(1, 5), data=st.data())
def test_a_narrow_beam_equals_the_naive_search(model, search, step_synchronous, catalogue, prompts, beam, data):
    rows = st.lists(st.integers(0, len(catalogue) - 1), max_size=len(catalogue), unique=True)
    excluded = data.draw(st.none() | st.lists(rows, min_size=len(prompts), max_size=len(prompts)))
    found = search(model, prompts, catalogue, beam, excluded)
    for index, prompt in enumerate(prompts):
        out = excluded[index] if excluded else ()
        assert not {item for _, item in found[index]} & set(out)
        agree(found[index], step_synchronous(model, prompt, catalogue, beam, out))


def test_an_untied_head_is_searched_the_same_way(random_t5, search, exhaustive):
    model, catalogue = random_t5(tied=False, seed=2), [(3,), (3, 4), (4, 4, 4), (9, 2)]
    agree(search(model, [[5, 7, 1]], catalogue, 4)[0], exhaustive(model, [5, 7, 1], catalogue))


def test_neither_neighbours_nor_padding_change_a_list(model, search):
    catalogue = [(a, b) for a in range(2, 7) for b in range(2, 6)] + [(a,) for a in range(2, 7)]
    prompts = [[9, 4, 27, 13, 1], [6, 1], [14, 14, 3, 20, 2, 22, 8, 1]]
    together = search(model, prompts, catalogue, 6)
    alone = [search(model, [prompt], catalogue, 6)[0] for prompt in prompts]
    backwards = search(model, prompts[::-1], catalogue, 6, extra=9)[::-1]
    for one, two, three in zip(together, alone, backwards, strict=True):
        agree(two, one)
        agree(three, one)
    assert together[0] != together[1], "the lists depend on the prompt"


def test_exclusions_belong_to_their_prompt(model, search):
    catalogue = [(2,), (3,), (4,), (2, 3)]
    first, second = search(model, [[5, 1], [5, 1]], catalogue, 4, [[0, 3], []])
    assert {item for _, item in first} == {1, 2} and {item for _, item in second} == {0, 1, 2, 3}
    assert search(model, [[5, 1], [6, 1]], catalogue, 4, [[0, 1, 2, 3], [1]])[0] == []


def test_a_catalogue_of_one_item(model, search, exhaustive):
    (found,) = search(model, [[8, 3, 1]], [(4, 5, 6)], 3)
    agree(found, exhaustive(model, [8, 3, 1], [(4, 5, 6)]))
    assert search(model, [[8, 3, 1]], [(4, 5, 6)], 3, [[0]]) == [[]]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_logits_that_are_not_finite_stop_the_search(model, search, value):
    broken = copy.deepcopy(model)
    broken.decoder.final_layer_norm.weight.data[0] = value
    with pytest.raises(FloatingPointError, match="not finite"):
        search(broken, [[5, 1]], [(2,), (3,)], 2)


def test_a_beam_below_one_is_refused(model, search):
    with pytest.raises(ValueError, match="beam is 0"):
        search(model, [[5, 1]], [(2,)], 0)
