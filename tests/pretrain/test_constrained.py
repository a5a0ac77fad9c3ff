"""Beam search over the trie: against exhaustive scoring, and against a naive step-synchronous search."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from naive_search import exhaustive, same_list, step_synchronous
from questions import CLOSE, EOS, EXACT, VOCAB, Question, catalogues, prompts, seeds, settle
from torch.utils._python_dispatch import TorchDispatchMode

from pretrain.decoding.beam import Plan
from pretrain.decoding.config import SearchConfig
from pretrain.decoding.constrained import Search, beam_search
from pretrain.decoding.decoder import T5Decoder
from pretrain.decoding.trie import Trie


@pytest.mark.slow
@settle
@given(seed=seeds, catalogue=catalogues, prompts=prompts, surplus=st.integers(0, 3), static=st.booleans())
def test_a_wide_beam_gives_the_exhaustive_list(random_t5, search, seed, catalogue, prompts, surplus, static):
    model = random_t5(seed=seed, dtype=torch.float64, tied=seed % 2 == 0)
    asked = Question(prompts, catalogue, len(catalogue) + surplus, static=static)
    for index, (found, prompt) in enumerate(zip(search(model, asked), prompts, strict=True)):
        assert len(found) == len(catalogue)
        same_list(found, exhaustive(model, prompt, asked.remaining(index)), EXACT)


@pytest.mark.slow
@settle
@given(
    seed=seeds, catalogue=catalogues, prompts=prompts, beam=st.integers(1, 6), static=st.booleans(),
    length=st.none() | st.integers(1, 8), penalty=st.sampled_from([0.0, 0.5, 1.0, -0.7]), data=st.data(),
)  # fmt: skip
def test_a_narrow_beam_equals_the_naive_search(
    random_t5, search, seed, catalogue, prompts, beam, static, length, penalty, data
):
    model = random_t5(seed=seed, dtype=torch.float64, layers=1 + seed % 2)
    rows = st.lists(st.integers(0, len(catalogue) - 1), max_size=len(catalogue), unique=True)
    excluded = data.draw(st.none() | st.lists(rows, min_size=len(prompts), max_size=len(prompts)))
    asked = Question(
        prompts, catalogue, beam, length, penalty, excluded, static=static,
        padding=data.draw(st.integers(0, 4)),
    )  # fmt: skip
    for index, (found, prompt) in enumerate(zip(search(model, asked), prompts, strict=True)):
        same_list(found, step_synchronous(model, prompt, asked.remaining(index), beam, length, penalty), EXACT)


@pytest.mark.slow
@settle
@given(seed=seeds, catalogue=catalogues, prompts=prompts, beam=st.integers(1, 6), static=st.booleans(), data=st.data())
def test_weights_join_the_score_at_each_step(random_t5, search, seed, catalogue, prompts, beam, static, data):
    model = random_t5(seed=seed, dtype=torch.float64)
    of_prefix = {}
    draw = np.random.default_rng(seed)
    weights = []
    for sequence in catalogue:
        path = (*sequence, EOS)
        prefixes = [path[: place + 1] for place in range(len(path))]
        weights.append([of_prefix.setdefault(prefix, 3 * draw.normal()) for prefix in prefixes])
    penalty, length = data.draw(st.sampled_from([0.0, 0.8])), data.draw(st.none() | st.integers(1, 4))
    asked = Question(prompts, catalogue, beam, length, penalty, weights=weights, static=static)
    by_item = dict(enumerate(weights))
    for index, (found, prompt) in enumerate(zip(search(model, asked), prompts, strict=True)):
        expected = step_synchronous(model, prompt, asked.remaining(index), beam, length, penalty, by_item)
        same_list(found, expected, EXACT)


@settings(max_examples=60)
@given(seed=seeds, catalogue=catalogues, prompts=prompts, beam=st.integers(1, 6))
def test_in_float32_the_order_is_that_of_scores_further_apart_than_rounding(
    random_t5, search, seed, catalogue, prompts, beam
):
    model = random_t5(seed=seed, layers=2)
    asked = Question(prompts, catalogue, beam)
    for index, (found, prompt) in enumerate(zip(search(model, asked), prompts, strict=True)):
        same_list(found, step_synchronous(model, prompt, asked.remaining(index), beam, close=CLOSE), CLOSE)


@pytest.fixture(scope="module")
def model(random_t5):
    return random_t5(seed=11)


@pytest.mark.parametrize("static", [False, True])
def test_neither_neighbours_nor_padding_change_a_list(model, search, static):
    catalogue = [(a, b) for a in range(2, 7) for b in range(2, 6)] + [(a,) for a in range(2, 7)]
    prompts = [[9, 4, 27, 13, 1], [6, 1], [14, 14, 3, 20, 2, 22, 8, 1]]
    together = search(model, Question(prompts, catalogue, 6, static=static))
    alone = [search(model, Question([prompt], catalogue, 6))[0] for prompt in prompts]
    backwards = search(model, Question(prompts[::-1], catalogue, 6, padding=9, static=static))[::-1]
    for one, two, three in zip(together, alone, backwards, strict=True):
        same_list(two, one, CLOSE)
        same_list(three, one, CLOSE)
    assert together[0] != together[1], "the lists depend on the prompt"


def test_prompts_of_very_different_lengths_of_search_are_put_back_in_order(random_t5, search):
    """Most prompts may list one short item alone and leave the batch early."""
    model = random_t5(seed=5, dtype=torch.float64)
    catalogue = [(2,)] + [(3, a, b, c) for a in range(2, 5) for b in range(2, 5) for c in range(2, 5)]
    prompts = [[9, 4, 1], [6, 1], [14, 3, 1], [7, 7, 1], [21, 1], [8, 13, 1]]
    longer = list(range(1, len(catalogue)))
    excluded = [longer, longer, [], longer, longer, [0, 5]]
    asked = Question(prompts, catalogue, 7, excluded=excluded)
    for index, found in enumerate(search(model, asked)):
        same_list(found, step_synchronous(model, prompts[index], asked.remaining(index), 7), EXACT)
        assert len(found) == (1 if excluded[index] is longer else 7)


def test_exclusions_belong_to_their_prompt(model, search):
    catalogue = [(2,), (3,), (4,), (2, 3)]
    first, second = search(model, Question([[5, 1], [5, 1]], catalogue, 4, excluded=[[0, 3], []]))
    assert {item for _, item in first} == {1, 2} and {item for _, item in second} == {0, 1, 2, 3}


def test_a_user_whose_whole_catalogue_is_excluded_gets_an_empty_list(model, search):
    catalogue = [(2,), (3,), (4,), (2, 3)]
    both = search(model, Question([[5, 1], [6, 1]], catalogue, 4, excluded=[[0, 1, 2, 3], [1]]))
    assert both[0] == [] and {item for _, item in both[1]} == {0, 2, 3}


def test_excluded_items_take_no_place_in_the_beam(model, search):
    catalogue = [(2, a) for a in range(2, 12)] + [(3, 2), (3, 4)]
    favourites = search(model, Question([[5, 1]], catalogue, 12))[0]
    out = [item for _, item in favourites[:9]]
    left = search(model, Question([[5, 1]], catalogue, 1, excluded=[out]))[0]
    assert len(left) == 1 and left[0][1] not in out, "a beam of one still finds an item"


class HostQuestions(TorchDispatchMode):
    """Counts what makes a GPU wait: reading a number, and operations whose shape depends on data."""

    WAITS = ("_local_scalar_dense", "nonzero", "masked_select", "unique", "repeat_interleave")

    def __init__(self):
        super().__init__()
        self.asked = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if any(word in str(func) for word in self.WAITS):
            self.asked.append(str(func))
        return func(*args, **(kwargs or {}))


def test_a_static_pass_asks_the_host_two_questions(model, padded):
    """Whether anything lives, and whether the logits are finite: nothing else waits, whatever the hypotheses hold."""
    draw = np.random.default_rng(0)
    catalogue = sorted({tuple(draw.integers(2, 28, draw.integers(1, 7)).tolist()) for _ in range(400)})
    trie, decoder = Trie.build([np.array(ids) for ids in catalogue], EOS, VOCAB), T5Decoder(model)
    for depth in range(trie.depth):
        assert trie.width(depth, 6) >= trie.width(depth, 1) >= 1  # counted once per trie
    input_ids, mask = padded([[9, 4, 27, 13, 1], [6, 1], [14, 14, 3, 20, 2, 22, 8, 1]])
    state, passes = decoder.start(decoder.encode(input_ids, mask), mask), []
    extend = decoder.extend
    decoder.extend = lambda *arguments: passes.append(1) or extend(*arguments)  # type: ignore[method-assign]
    with HostQuestions() as questions:
        beam_search(decoder, state, trie, SearchConfig(6), [np.array([3, 5]), np.array([]), np.array([7])], static=True)
    assert len(passes) >= 3
    assert set(questions.asked) == {"aten._local_scalar_dense.default"}
    assert len(questions.asked) == 2 * len(passes) + 1


def test_a_static_pass_is_one_graph(model, padded):
    """`torch.compile` can take a whole pass, trie included: nothing in it breaks the graph."""
    catalogue = [(a, b, c) for a in range(2, 7) for b in range(2, 6) for c in range(2, 5)] + [(9,)]
    trie, decoder = Trie.build([np.array(ids) for ids in catalogue], EOS, VOCAB), T5Decoder(model)
    trie.width(0, 1)
    input_ids, mask = padded([[9, 4, 27, 13, 1], [6, 1]])

    def first_pass(search):
        return search._feed(Plan.make(search.beam, search.lists, True)).score_C

    with torch.no_grad():
        state = decoder.start(decoder.encode(input_ids, mask), mask)
        found = torch._dynamo.explain(first_pass)(Search(decoder, state, trie, SearchConfig(6), None, True))
    torch._dynamo.reset()
    assert (found.graph_count, found.graph_break_count) == (1, 0), found.break_reasons


def test_a_catalogue_of_one_item_and_a_beam_wider_than_the_catalogue(model, search):
    [found] = search(model, Question([[8, 3, 1]], [(4, 5, 6)], 3))
    same_list(found, exhaustive(model, [8, 3, 1], {0: (4, 5, 6)}), CLOSE)
    assert search(model, Question([[8, 3, 1]], [(4, 5, 6)], 3, excluded=[[0]])) == [[]]


@pytest.mark.parametrize("static", [False, True])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_logits_that_are_not_finite_stop_the_search(model, search, value, static):
    broken = copy.deepcopy(model)
    broken.decoder.final_layer_norm.weight.data[0] = value
    with pytest.raises(FloatingPointError, match="logits are not finite"):
        search(broken, Question([[5, 1]], [(2,), (3,)], 2, static=static))


def test_a_trie_of_another_vocabulary_is_refused(model, padded):
    decoder = T5Decoder(model)
    input_ids, mask = padded([[5, 1]])
    state = decoder.start(decoder.encode(input_ids, mask), mask)
    with pytest.raises(ValueError, match="trie's tokens reach to 40, the model's vocabulary to 29"):
        beam_search(decoder, state, Trie.build([np.array([39])], EOS, 40), SearchConfig(2))


def test_a_beam_below_one_is_refused(model, search):
    with pytest.raises(ValueError, match="beam is 0"):
        search(model, Question([[5, 1]], [(2,)], 0))
    with pytest.raises(ValueError, match="length_penalty is nan"):
        search(model, Question([[5, 1]], [(2,)], 5, penalty=float("nan")))
    with pytest.raises(ValueError, match="list_length is -1"):
        search(model, Question([[5, 1]], [(2,)], 5, length=-1))
