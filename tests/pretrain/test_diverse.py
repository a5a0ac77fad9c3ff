"""Diverse beam search against the published algorithm written out; tests/peers has Hugging Face's own."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from naive_diverse import published

from pretrain.decoding.decoder import T5Decoder
from pretrain.decoding.diverse import DiverseConfig, diverse_search

EOS, VOCAB, CLOSE = 1, 29, 1e-9


@pytest.fixture(scope="module")
def run(padded):
    def search(model, prompts, penalties, config, extra=0):
        decoder = T5Decoder(model)
        input_ids, mask = padded(prompts, extra)
        state = decoder.start(decoder.encode(input_ids, mask), mask)
        return diverse_search(decoder, state, torch.tensor(penalties[: len(prompts)], dtype=torch.float64), config)

    return search


@pytest.mark.slow
@settings(max_examples=150)
@given(
    seed=st.integers(0, 1 << 30),
    prompts=st.lists(st.lists(st.integers(2, 28), min_size=1, max_size=6), min_size=1, max_size=3),
    groups=st.integers(1, 5),
    beams=st.sampled_from([1, 1, 2, 3]),
    penalties=st.lists(st.sampled_from([0.0, 0.1, 0.7, 1.0, 3.0, 9.0]), min_size=3, max_size=3),
    shortest=st.integers(0, 2),
    more=st.integers(0, 3),
    allowed=st.sets(st.integers(2, 28), min_size=3, max_size=9),
)
def test_equals_the_published_algorithm(
    random_t5, run, seed, prompts, groups, beams, penalties, shortest, more, allowed
):
    model, longest = random_t5(seed=seed, dtype=torch.float64), shortest + more
    barred = sorted(set(range(VOCAB)) - allowed - {EOS})  # few tokens, so that groups meet and end at different steps
    config = DiverseConfig(groups, shortest, longest, EOS, torch.tensor(barred), beams)
    found = run(model, prompts, penalties, config, extra=2)
    assert found.tokens_BGKT.shape == (len(prompts), groups, beams, longest + 1)
    for index, prompt in enumerate(prompts):
        expected = published(model, prompt, groups, beams, penalties[index], shortest, longest, barred, CLOSE)
        for group, sequences in enumerate(expected):
            scores, tokens = found.scores_BGK[index, group].tolist(), found.tokens_BGKT[index, group].tolist()
            assert scores[: len(sequences)] == pytest.approx([score for score, _ in sequences], abs=1e-10)
            assert all(score == -torch.inf for score in scores[len(sequences) :])
            for ours, (_, theirs) in zip(tokens, sequences, strict=False):
                assert tuple(ours) == theirs + (EOS,) * (longest + 1 - len(theirs))


def test_penalty_spreads_and_group_zero_never_moves(random_t5, run):
    model, prompts = random_t5(seed=1), [[7, 3, 12], [25, 2], [4, 19, 8, 8]]
    config = DiverseConfig(4, 1, 4, EOS, torch.tensor([0]))
    without, strong = (run(model, prompts, [penalty] * 3, config).tokens_BGKT[:, :, 0] for penalty in (0.0, 50.0))
    assert all(torch.equal(without[:, group], without[:, 0]) for group in range(4))
    assert torch.equal(strong[:, 0], without[:, 0])
    first_step = strong[:, :, 0].tolist()
    assert all(len(set(tokens)) == 4 for tokens in first_step), "a penalty beyond every gap forces different tokens"
    assert EOS not in strong[:, :, 0]


def test_the_rows_beside_an_item_change_no_bit(random_t5, run):
    """A block has one shape whatever its rows hold: an item's sequences and scores are equal to the last bit."""
    model, config = random_t5(seed=3, layers=2), DiverseConfig(4, 1, 5, EOS, torch.tensor([0]), 2)
    mine = [7, 3, 12, 9]
    one = run(model, [[2, 2, 2, 2], mine, [5, 6, 7, 8]], [0.3] * 3, config)
    two = run(model, [[28, 27, 3, 11], mine, [4, 4, 19, 4]], [9.0, 0.3, 0.0], config)
    assert torch.equal(one.tokens_BGKT[1], two.tokens_BGKT[1]) and torch.equal(one.scores_BGK[1], two.scores_BGK[1])
    assert not torch.equal(one.tokens_BGKT[0], two.tokens_BGKT[0])


def test_logits_that_are_not_finite_are_refused(random_t5, run):
    model = random_t5(seed=2)
    model.decoder.final_layer_norm.weight.data[0] = float("nan")
    with pytest.raises(FloatingPointError, match="logits are not finite"):
        run(model, [[5, 1]], [0.1], DiverseConfig(2, 1, 3, EOS, torch.tensor([0])))
