"""The decoder gives Hugging Face's own logits, whatever the head, the padding, the beams and their order."""

import pytest
import torch

from pretrain.decoding.decoder import T5Decoder

PROMPTS = [[5, 9, 13, 2, 7, 1], [8, 1], [21, 4, 4, 28, 1]]


@pytest.fixture(scope="module")
def started(padded):
    def start(model, extra=0):
        decoder = T5Decoder(model)
        input_ids, mask = padded(PROMPTS, extra)
        return decoder, decoder.start(decoder.encode(input_ids, mask), mask)

    return start


def all_log_probs(decoder, hidden_ME):
    rows, tokens = len(hidden_ME), decoder.vocab_size
    row_C = torch.arange(rows).repeat_interleave(tokens)
    return decoder.log_probs(hidden_ME, row_C, torch.arange(tokens).repeat(rows))[0].view(rows, tokens)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.float64, 1e-10)])
@pytest.mark.parametrize("tied", [True, False])
def test_equals_the_models_own_forward_pass(random_t5, hf_logits, started, tied, dtype, tolerance):
    model = random_t5(tied, seed=3, dtype=dtype, layers=2)
    decoder, state = started(model, extra=3)
    draw, beams = torch.Generator().manual_seed(1), 3
    sequences: list[list[list[int]]] = [[[]] for _ in PROMPTS]
    tokens = torch.zeros(len(PROMPTS), 1, dtype=torch.long)
    for _ in range(6):
        found = all_log_probs(decoder, decoder.step(state, tokens)).view(len(PROMPTS), len(sequences[0]), 29)
        for prompt, rows, ours in zip(PROMPTS, sequences, found, strict=True):
            expected = hf_logits(model, prompt, rows)
            assert expected.abs().max() > 1
            torch.testing.assert_close(ours, torch.log_softmax(expected, -1), rtol=0, atol=tolerance)
        parents = torch.randint(0, tokens.shape[1], (len(PROMPTS), beams), generator=draw)
        tokens = torch.randint(0, 29, (len(PROMPTS), beams), generator=draw)
        state.reorder(parents)
        sequences = [
            [[*rows[parent], token] for parent, token in zip(old, new, strict=True)]
            for rows, old, new in zip(sequences, parents.tolist(), tokens.tolist(), strict=True)
        ]


def test_several_tokens_of_a_hypothesis_at_once_and_only_the_live_ones(random_t5, hf_logits, started):
    model = random_t5(seed=9, dtype=torch.float64, layers=2)
    decoder, state = started(model)
    decoder.step(state, torch.zeros(3, 1, dtype=torch.long))
    state.reorder(torch.zeros(3, 2, dtype=torch.long))
    first = torch.tensor([[3, 5], [6, 7], [9, 9]])
    decoder.step(state, first)
    # Input 0: three tokens after hypothesis 1; input 1: one after 0 that is kept, input 2: nothing.
    tokens = torch.tensor([[11, 12, 13], [14, 0, 0], [0, 0, 0]])
    rows, places = torch.tensor([[1, 1, 1], [0, 0, 0], [0, 0, 0]]), torch.tensor([[0, 1, 2], [0, 0, 0], [0, 0, 0]])
    live = torch.tensor([[True, True, True], [True, False, False], [False] * 3])
    kept = torch.tensor([[False] * 3, [True, False, False], [False] * 3])
    found = all_log_probs(decoder, decoder.extend(state, tokens, rows, places, kept, live))
    prefixes = [(0, [5, 11]), (0, [5, 11, 12]), (0, [5, 11, 12, 13]), (1, [6, 14])]
    assert len(found) == 4 and state.length_B.tolist() == [2, 3, 2]
    for ours, (prompt, prefix) in zip(found, prefixes, strict=True):
        expected = torch.log_softmax(hf_logits(model, PROMPTS[prompt], [prefix])[0], -1)
        torch.testing.assert_close(ours, expected, rtol=0, atol=1e-10)
    # What was not kept is forgotten, what was kept goes on.
    again = all_log_probs(decoder, decoder.step(state, torch.tensor([[2, 4], [4, 2], [8, 8]])))
    for row, (prompt, prefix) in {0: (0, [3, 2]), 1: (0, [5, 4]), 2: (1, [6, 14, 4]), 5: (2, [9, 8])}.items():
        expected = torch.log_softmax(hf_logits(model, PROMPTS[prompt], [prefix])[0], -1)
        torch.testing.assert_close(again[row], expected, rtol=0, atol=1e-10)


def test_select_keeps_each_inputs_own_state(random_t5, started):
    decoder, state = started(random_t5(seed=4))
    tokens = torch.tensor([[3, 5], [6, 7], [9, 9]])
    decoder.step(state, torch.zeros(3, 1, dtype=torch.long))
    state.reorder(torch.zeros(3, 2, dtype=torch.long))
    decoder.step(state, tokens)
    index = torch.tensor([2, 0])
    part = decoder.step(state.select(index), tokens[index]).view(2, 2, -1)
    whole = decoder.step(state, tokens).view(3, 2, -1)
    torch.testing.assert_close(part, whole[index], rtol=0, atol=1e-5)


def test_logits_in_blocks_are_the_same(random_t5, started, monkeypatch):
    decoder, state = started(random_t5(seed=4))
    hidden = decoder.step(state, torch.zeros(3, 1, dtype=torch.long))
    whole = all_log_probs(decoder, hidden)
    best = decoder.best(hidden, 5, torch.tensor([2, 7]))
    monkeypatch.setitem(__import__("pretrain.decoding.decoder", fromlist=["x"]).LOGIT_BYTES, "cpu", 1)
    torch.testing.assert_close(all_log_probs(decoder, hidden), whole, rtol=0, atol=1e-6)
    expected = whole.index_fill(1, torch.tensor([2, 7]), float("-inf")).topk(5)
    for found in (best, decoder.best(hidden, 5, torch.tensor([2, 7]))):
        torch.testing.assert_close(found[0], expected.values, rtol=0, atol=1e-5)
        assert torch.equal(found[1], expected.indices)


def test_distances_beyond_the_last_bucket(random_t5, hf_logits, started):
    model = random_t5(seed=6, dtype=torch.float64)
    decoder, state = started(model)
    sequence = torch.randint(2, 29, (150,), generator=torch.Generator().manual_seed(0)).tolist()
    hidden = decoder.step(state, torch.zeros(3, 1, dtype=torch.long))
    for token in sequence:
        hidden = decoder.step(state, torch.full((3, 1), token))
    expected = torch.log_softmax(hf_logits(model, PROMPTS[0], [sequence])[0], -1)
    torch.testing.assert_close(all_log_probs(decoder, hidden)[0], expected, rtol=0, atol=1e-10)
