"""Diverse beam search, one beam a group, against the published algorithm written out (Vijayakumar et al. 2016)."""

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pretrain.decoding.decoder import T5Decoder
from pretrain.decoding.diverse import diverse_search

EOS, VOCAB, CLOSE = 1, 29, 1e-4


@pytest.fixture(scope="module")
def models(random_t5):
    return [random_t5(seed=seed) for seed in (1, 2)]


def naive(hf_logits, model, prompt, groups, penalty, shortest, longest, forbidden):
    """Group after group at each step: log p minus the penalty for each earlier group that took the token just now."""
    sequences: list[list[int]] = [[] for _ in range(groups)]
    ended = [False] * groups
    for step in range(longest + 1):
        taken: list[int] = []
        for group in range(groups):
            if ended[group]:
                sequences[group].append(EOS)
                continue
            scores = torch.log_softmax(hf_logits(model, prompt, [sequences[group]])[0], -1)
            scores[forbidden] = -torch.inf
            if step < shortest:
                scores[EOS] = -torch.inf
            for token in taken:
                scores[token] -= penalty
            best, second = torch.topk(scores, 2).values.tolist()
            assume(best - second > CLOSE)  # a tie within rounding has no one answer
            token = int(scores.argmax())
            sequences[group].append(token)
            taken.append(token)
        ended = [done or sequence[-1] == EOS for done, sequence in zip(ended, sequences, strict=True)]
    return sequences


@settings(max_examples=40, deadline=None)
@given(
    which=st.integers(0, 1),
    prompts=st.lists(st.lists(st.integers(2, 28), min_size=1, max_size=6), min_size=1, max_size=3),
    groups=st.integers(1, 5),
    penalties=st.lists(st.sampled_from([0.0, 0.1, 0.7, 1.0, 3.0, 9.0]), min_size=3, max_size=3),
    shortest=st.integers(0, 2),
    more=st.integers(0, 3),
    allowed=st.sets(st.integers(2, 28), min_size=3, max_size=9),
)
def test_equals_the_published_algorithm(
    models, hf_logits, padded, which, prompts, groups, penalties, shortest, more, allowed
):
    model, longest = models[which], shortest + more
    barred = sorted(set(range(VOCAB)) - allowed - {EOS})  # few tokens, so that groups meet and end at different steps
    mask = torch.zeros(VOCAB, dtype=torch.bool)
    mask[barred] = True
    decoder = T5Decoder(model)
    expected = [
        naive(hf_logits, model, prompt, groups, penalty, shortest, longest, barred)
        for prompt, penalty in zip(prompts, penalties, strict=False)
    ]
    penalty_B = torch.tensor(penalties[: len(prompts)])
    state = decoder.start(*padded(prompts, extra=2))
    tokens = diverse_search(decoder, state, groups, penalty_B, shortest, longest, EOS, mask)
    assert tokens.shape == (len(prompts), groups, longest + 1)
    assert tokens.tolist() == expected


def test_penalty_spreads_and_group_zero_never_moves(models, padded):
    decoder = T5Decoder(models[0])
    prompts = [[7, 3, 12], [25, 2], [4, 19, 8, 8]]
    mask = torch.zeros(VOCAB, dtype=torch.bool)

    def run(penalty):
        state = decoder.start(*padded(prompts))
        return diverse_search(decoder, state, 4, torch.full((3,), penalty), 1, 4, EOS, mask)

    without, strong = run(0.0), run(50.0)
    assert all(torch.equal(without[:, group], without[:, 0]) for group in range(4))
    assert torch.equal(strong[:, 0], without[:, 0])
    first_step = strong[:, :, 0].tolist()
    assert all(len(set(tokens)) == 4 for tokens in first_step), "a penalty beyond every gap forces different tokens"
    assert EOS not in strong[:, :, 0]
