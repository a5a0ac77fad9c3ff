"""What is added to the scores of a search: worth of items per prompt, and a share of the prior taken away."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from naive_search import exhaustive, same_list, step_synchronous
from questions import EOS, EXACT, VOCAB, Question, catalogues, prompts, seeds, settle

from pretrain.decoding import prior
from pretrain.decoding.decoder import T5Decoder
from pretrain.decoding.lookahead import Lookahead
from pretrain.decoding.trie import Trie


def looking_ahead(remaining, worth_I):
    """What each token of an ID and EOS adds, so that a prefix has the best worth of what begins with it."""
    best = {}
    for item, sequence in remaining.items():
        for end in range(len(sequence) + 2):
            prefix = (*sequence, EOS)[:end]
            best[prefix] = max(best.get(prefix, -np.inf), worth_I[item])
    return {
        item: [
            best[(*sequence, EOS)[: end + 1]] - (best[(*sequence, EOS)[:end]] if end else 0.0)
            for end in range(len(sequence) + 1)
        ]
        for item, sequence in remaining.items()
    }


@pytest.mark.slow
@settle
@given(seed=seeds, catalogue=catalogues, prompts=prompts, static=st.booleans())
def test_a_wide_beam_gives_each_item_its_probability_and_its_worth(random_t5, search, seed, catalogue, prompts, static):
    model = random_t5(seed=seed, dtype=torch.float64)
    bonus_BI = torch.from_numpy(5 * np.random.default_rng(seed).normal(size=(len(prompts), len(catalogue))))
    asked = Question(prompts, catalogue, len(catalogue), bonus_BI=bonus_BI, static=static)
    for index, (found, prompt) in enumerate(zip(search(model, asked), prompts, strict=True)):
        plain = exhaustive(model, prompt, asked.remaining(index))
        expected = sorted(((score + float(bonus_BI[index, item]), item) for score, item in plain), reverse=True)
        same_list(found, expected, EXACT)


@pytest.mark.slow
@settle
@given(seed=seeds, catalogue=catalogues, prompts=prompts, beam=st.integers(1, 6), static=st.booleans(), data=st.data())
def test_a_narrow_beam_looks_ahead_to_the_best_worth_below(
    random_t5, search, seed, catalogue, prompts, beam, static, data
):
    model = random_t5(seed=seed, dtype=torch.float64)
    bonus_BI = torch.from_numpy(5 * np.random.default_rng(seed).normal(size=(len(prompts), len(catalogue))))
    rows = st.lists(st.integers(0, len(catalogue) - 1), max_size=len(catalogue), unique=True)
    excluded = data.draw(st.none() | st.lists(rows, min_size=len(prompts), max_size=len(prompts)))
    asked = Question(prompts, catalogue, beam, bonus_BI=bonus_BI, excluded=excluded, static=static)
    for index, (found, prompt) in enumerate(zip(search(model, asked), prompts, strict=True)):
        remaining = asked.remaining(index)
        weights = looking_ahead(remaining, bonus_BI[index].tolist())
        same_list(found, step_synchronous(model, prompt, remaining, beam, weights=weights), EXACT)


def test_worth_finds_what_a_narrow_beam_would_have_lost(random_t5, search):
    model = random_t5(seed=3, dtype=torch.float64)
    catalogue = [(a, b, c) for a in range(2, 8) for b in range(2, 6) for c in range(2, 6)]
    [plain] = search(model, Question([[5, 1]], catalogue, 96, bonus_BI=torch.zeros(1, 96)))
    last = plain[-1][1]
    bonus_BI = torch.zeros(1, 96, dtype=torch.float64)
    bonus_BI[0, last] = 100.0
    [[(score, item)]] = search(model, Question([[5, 1]], catalogue, 1, bonus_BI=bonus_BI))
    assert item == last and score == pytest.approx(plain[-1][0] + 100)


def test_worth_counts_in_the_rows_that_items_are_called_by(random_t5, search):
    model = random_t5(seed=4, dtype=torch.float64)
    bonus_BI = torch.zeros(1, 9, dtype=torch.float64)
    bonus_BI[0, 7] = 50.0
    rows = np.array([1, 7, 8])
    asked = Question([[5, 1]], [(2,), (2, 3), (4,)], 3, bonus_BI=bonus_BI, excluded=[[1]], rows=rows)
    [found] = search(model, asked)
    assert [item for _, item in found][0] == 7 and {item for _, item in found} == {7, 8}


def test_worth_that_is_no_number_is_refused():
    trie = Trie.build([np.array([2]), np.array([3])], EOS, VOCAB)
    with pytest.raises(ValueError, match="must be finite"):
        Lookahead(trie, torch.tensor([[0.0, float("nan")]]))


def test_the_prior_is_what_the_model_says_after_an_empty_history(random_t5):
    model, draw = random_t5(seed=6, dtype=torch.float64), np.random.default_rng(0)
    catalogue = sorted({tuple(draw.integers(2, 28, draw.integers(1, 6)).tolist()) for _ in range(150)})
    token_ids = [np.array(sequence) for sequence in catalogue]
    numbers = range(prior.num_blocks(token_ids))
    assert len(numbers) == 3
    blocks = prior.prior_blocks(T5Decoder(model), np.array([9, 4, 1]), token_ids, EOS, numbers)
    values = [values for number in numbers for values in blocks[number]]
    expected = {item: score for score, item in exhaustive(model, [9, 4, 1], dict(enumerate(catalogue)))}
    for item, row in enumerate(values):
        assert len(row) == len(catalogue[item]) + 1
        assert row.sum() == pytest.approx(expected[item], abs=EXACT)


def test_a_block_of_the_prior_is_the_same_alone_and_prefixes_have_one_number(random_t5):
    model, draw = random_t5(seed=7), np.random.default_rng(1)
    catalogue = sorted({tuple(draw.integers(2, 6, draw.integers(1, 6)).tolist()) for _ in range(400)})
    token_ids = [np.array(sequence) for sequence in draw.permutation(np.array(catalogue, dtype=object))]
    decoder, numbers = T5Decoder(model), range(prior.num_blocks(token_ids))
    together = prior.prior_blocks(decoder, np.array([9, 4, 1]), token_ids, EOS, numbers)
    for number in numbers:
        alone = prior.prior_blocks(decoder, np.array([9, 4, 1]), token_ids, EOS, [number])[number]
        assert [row.tobytes() for row in alone] == [row.tobytes() for row in together[number]]
    plain = [values for number in numbers for values in together[number]]
    shared, seen = prior.shared_prefixes(plain, token_ids), {}
    for values, rough, sequence in zip(shared, plain, token_ids, strict=True):
        assert values == pytest.approx(rough, abs=1e-4)
        path = (*sequence.tolist(), EOS)
        for place, value in enumerate(values.tolist()):
            assert seen.setdefault(path[: place + 1], value) == value
    Trie.build(token_ids, EOS, VOCAB, weights=shared)
