"""The decoder gives Hugging Face's own logits, whatever the head, the padding, the beams and their order."""

import pytest
import torch

from pretrain.decoding.decoder import T5Decoder

PROMPTS = [[5, 9, 13, 2, 7, 1], [8, 1], [21, 4, 4, 28, 1]]


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.float64, 1e-10)])
@pytest.mark.parametrize("tied", [True, False])
def test_equals_the_models_own_forward_pass(random_t5, hf_logits, padded, tied, dtype, tolerance):
    model = random_t5(tied, seed=3, dtype=dtype, layers=2)
    decoder = T5Decoder(model)
    state = decoder.start(*padded(PROMPTS, extra=3))
    draw = torch.Generator().manual_seed(1)
    beams = 3
    sequences: list[list[list[int]]] = [[[]] for _ in PROMPTS]
    tokens, parents = torch.zeros(len(PROMPTS), 1, dtype=torch.long), None
    for step in range(6):
        logits = decoder.step(state, tokens, parents)
        assert logits.shape == (len(PROMPTS), len(sequences[0]), 29)
        for prompt, rows, ours in zip(PROMPTS, sequences, logits, strict=True):
            expected = hf_logits(model, prompt, rows)
            assert expected.abs().max() > 1
            torch.testing.assert_close(ours, expected, rtol=0, atol=tolerance)
        parents = torch.randint(0, tokens.shape[1], (len(PROMPTS), beams), generator=draw)
        tokens = torch.randint(0, 29, (len(PROMPTS), beams), generator=draw)
        sequences = [
            [[*rows[parent], token] for parent, token in zip(old, new, strict=True)]
            for rows, old, new in zip(sequences, parents.tolist(), tokens.tolist(), strict=True)
        ]
        if step == 3:  # without parents a row continues itself
            decoder.step(state, tokens, parents)
            tokens, parents = torch.randint(0, 29, tokens.shape, generator=draw), None
            sequences = [
                [[*row, token] for row, token in zip(rows, new, strict=True)]
                for rows, new in zip(sequences, tokens.tolist(), strict=True)
            ]


def test_select_inputs_keeps_each_inputs_own_state(random_t5, padded):
    decoder = T5Decoder(random_t5(seed=4))
    tokens = torch.tensor([[3, 5], [6, 7], [9, 9]])
    states = [decoder.start(*padded(PROMPTS)) for _ in range(2)]
    for state in states:
        decoder.step(state, torch.zeros(3, 1, dtype=torch.long))
        decoder.step(state, tokens, torch.zeros(3, 2, dtype=torch.long))
    index = torch.tensor([2, 0])
    whole = decoder.step(states[0], tokens)
    part = decoder.step(states[1].select_inputs(index), tokens[index])
    torch.testing.assert_close(part, whole[index], rtol=0, atol=1e-5)
