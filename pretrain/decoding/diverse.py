"""Diverse beam search (Vijayakumar et al. 2016, the paper's [32]) with one beam in each of `groups` groups.

Enters: encoded item texts, a penalty and a length range per item. Leaves: `groups` token sequences per item, group 0
(which no penalty touches) first. Must hold: group g at a step takes the best token of
`log p(token) - penalty * (earlier groups that took the token at this step)`. Penalties only lower scores and there are
fewer than `groups` of them, so only a row's `groups + 1` best tokens can win.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pretrain.decoding.decoder import DecodeState, T5Decoder


@torch.no_grad()
def diverse_search(
    decoder: T5Decoder,
    state: DecodeState,
    groups: int,
    penalty_B: Tensor,
    min_tokens: int,
    max_tokens: int,
    eos: int,
    forbidden_V: Tensor,
) -> Tensor:
    """Decode `max_tokens + 1` steps and return tokens_BGT (T = max_tokens + 1), EOS and what follows it set to `eos`.

    EOS is not taken before `min_tokens` tokens. The last position only tells whether the ID could end at the cap.
    `penalty_B` is the diversity penalty lambda of each item; `forbidden_V` marks tokens that are never taken.
    """
    batch, device = state.mask_B11S.shape[0], state.mask_B11S.device
    tokens_BG = torch.full((batch, 1), decoder.start_token, device=device)
    ended_BG = torch.zeros(batch, groups, dtype=torch.bool, device=device)
    parents_BG: Tensor | None = None
    steps: list[Tensor] = []
    for step in range(max_tokens + 1):
        log_probs_BGV = torch.log_softmax(decoder.step(state, tokens_BG, parents_BG).float(), dim=-1)
        log_probs_BGV = log_probs_BGV.masked_fill(forbidden_V, float("-inf"))
        if step < min_tokens:
            log_probs_BGV[..., eos] = float("-inf")
        if step == 0:
            log_probs_BGV = log_probs_BGV.expand(-1, groups, -1)
            parents_BG = torch.zeros(batch, groups, dtype=torch.long, device=device)
        else:
            parents_BG = None
        best_BGC = torch.topk(log_probs_BGV, min(groups + 1, log_probs_BGV.shape[-1]), dim=-1)
        tokens_BG = _choose(best_BGC.values, best_BGC.indices, penalty_B, ended_BG, eos)
        ended_BG = ended_BG | (tokens_BG == eos)
        steps.append(tokens_BG)
        if bool(ended_BG.all()):
            break
    tokens_BGT = torch.stack(steps, dim=-1)
    missing = max_tokens + 1 - tokens_BGT.shape[-1]
    return torch.nn.functional.pad(tokens_BGT, (0, missing), value=eos)


def _choose(scores_BGC: Tensor, tokens_BGC: Tensor, penalty_B: Tensor, ended_BG: Tensor, eos: int) -> Tensor:
    """Tokens of one step, group after group; a group that has ended repeats EOS and penalises nobody."""
    batch, groups, _ = scores_BGC.shape
    chosen_BG = torch.full((batch, groups), eos, device=scores_BGC.device)
    for group in range(groups):
        candidates_BC = tokens_BGC[:, group]
        taken_BCE = candidates_BC[:, :, None] == chosen_BG[:, None, :group]
        taken_BC = (taken_BCE & ~ended_BG[:, None, :group]).sum(-1)
        best_B = (scores_BGC[:, group] - penalty_B[:, None] * taken_BC).argmax(-1)
        token_B = candidates_BC.gather(1, best_B[:, None]).squeeze(1)
        chosen_BG[:, group] = torch.where(ended_BG[:, group], eos, token_B)
    return chosen_BG
