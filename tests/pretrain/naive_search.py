"""Constrained beam search written slowly: one prompt, one hypothesis at a time, the model's own forward pass.

It shares no code with `pretrain.decoding`: dictionaries of prefixes, Python lists, no early stop.
"""

from typing import Any

import torch
from hypothesis import assume

EOS = 1


@torch.no_grad()
def read(model: Any, prompt: list[int]) -> torch.Tensor:
    """What the model's own encoder makes of a prompt, [1, S, D]; once, however often it is asked about."""
    return model.encoder(input_ids=torch.tensor([prompt])).last_hidden_state


def next_log_probs(model: Any, states_1SD: torch.Tensor, prefixes: list[tuple[int, ...]]) -> torch.Tensor:
    """Log-probabilities of the next token after each prefix (all of one length), over the full vocabulary, [N, V]."""
    start = model.config.decoder_start_token_id or 0
    decoder_input = torch.tensor([[start, *prefix] for prefix in prefixes])
    source = (states_1SD.expand(len(prefixes), -1, -1),)
    with torch.no_grad():
        logits = model(encoder_outputs=source, decoder_input_ids=decoder_input, use_cache=False).logits[:, -1]
    return torch.log_softmax(logits, -1)


def step_synchronous(
    model: Any, prompt: list[int], catalogue: dict[int, tuple[int, ...]], beam: int, length: int | None = None,
    penalty: float = 0.0, weights: dict[int, list[float]] | None = None, close: float = 1e-9,
) -> list[tuple[float, int]]:  # fmt: skip
    """[(score, item)], best first. `weights`: per item, what each of its tokens and EOS adds.

    All live hypotheses grow by one token; those at EOS finish; the `beam` best of the others live on. A tie within
    `close` at the edge of the beam has no one answer: such an example is rejected.
    """
    item_of = {(*ids, EOS): item for item, ids in catalogue.items()}
    extra = {
        path[: place + 1]: weights[item][place] for path, item in item_of.items() for place in range(len(path))
    } if weights else {}  # fmt: skip
    live: list[tuple[float, tuple[int, ...]]] = [(0.0, ())] if catalogue else []
    finished, states_1SD = [], read(model, prompt)
    while live:
        grown, log_probs_NV = [], next_log_probs(model, states_1SD, [prefix for _, prefix in live]).tolist()
        for (score, prefix), log_probs in zip(live, log_probs_NV, strict=True):
            deep = len(prefix)
            for token in sorted({path[deep] for path in item_of if len(path) > deep and path[:deep] == prefix}):
                path = (*prefix, token)
                grown.append((score + log_probs[token] + extra.get(path, 0.0), path))
        finished += [(score / len(path) ** penalty, item_of[path]) for score, path in grown if path in item_of]
        going = sorted((entry for entry in grown if entry[1] not in item_of), reverse=True)
        assume(len(going) <= beam or going[beam - 1][0] - going[beam][0] > close)
        live = going[:beam]
    return sorted(finished, reverse=True)[: length or beam]


def exhaustive(model: Any, prompt: list[int], catalogue: dict[int, tuple[int, ...]]) -> list[tuple[float, int]]:
    """Every item by the sum of the log-probabilities of its ID and EOS: teacher-forced, no search at all."""
    scores, states_1SD = [], read(model, prompt)
    for length in {len(ids) for ids in catalogue.values()}:
        same = {item: [*ids, EOS] for item, ids in catalogue.items() if len(ids) == length}
        tokens_NT = torch.tensor(list(same.values()))
        with torch.no_grad():
            logits_NTV = model(encoder_outputs=(states_1SD.expand(len(same), -1, -1),), labels=tokens_NT).logits
        log_probs_NT = torch.log_softmax(logits_NTV, -1).gather(2, tokens_NT[..., None])[..., 0]
        scores += zip(log_probs_NT.sum(-1).tolist(), same, strict=True)
    return sorted(scores, reverse=True)


def same_list(found: list[tuple[float, int]], expected: list[tuple[float, int]], close: float) -> None:
    """Scores within `close`, and the order too except among scores that close; the last place may be a tie's other."""
    assert len(found) == len(expected)
    for place, ((ours, item), (theirs, other)) in enumerate(zip(found, expected, strict=True)):
        assert abs(ours - theirs) <= close
        near = {i for s, i in expected if abs(s - theirs) <= 2 * close}
        assert item == other or item in near or (place == len(expected) - 1 and abs(ours - theirs) <= close)
