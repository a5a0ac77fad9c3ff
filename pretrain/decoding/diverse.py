"""Diverse beam search (Vijayakumar et al. 2016, the paper's [32]): G groups of b beams, one group after the other. The
probability of a sequence is that of equation 1.

Enters: encoded item texts, a penalty per item and a range of lengths. Leaves: b token sequences of each group, group 0
(which no penalty touches) first. Must hold: group g takes at a step the best of
`score + log p(token) - penalty * (how often earlier groups took the token at this step)`, the penalty stays in the
score, and passes have one shape whatever the items hold, so that an item's sequences do not depend on its neighbours.

Penalties only lower scores. Earlier groups take at most (G - 1) * b tokens, so that of a row only the (G + 1) * b most
probable tokens can be among the 2b that a group looks at.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from pretrain.decoding.decoder import T5Decoder
from pretrain.decoding.lists import top_stable
from pretrain.decoding.state import DecodeState

NEVER = float("-inf")


@dataclass(frozen=True)
class DiverseConfig:
    """`groups` of `beams` beams; lengths without EOS from `shortest` to `longest`; `barred_N`: tokens never taken.

    `ending`: "published": a beam that takes EOS leaves its place empty, and its EOS counts against later groups;
    "huggingface" (transformers up to 4.56 with `early_stopping=True`): the next best takes the place, and it is that
    which counts; a group ends when `beams` of its hypotheses have ended.
    """

    groups: int
    shortest: int
    longest: int
    eos: int
    barred_N: Tensor
    beams: int = 1
    ending: Literal["published", "huggingface"] = "published"


class Diverse(NamedTuple):
    """`tokens_BGKT`: K = beams sequences of each group, best first, `eos` from their end on (T = longest + 1; where an
    item's last token is not EOS, it was cut there). `scores_BGK`: with penalties; -inf where a group has fewer."""

    tokens_BGKT: Tensor
    scores_BGK: Tensor


class Group(NamedTuple):
    """K live beams of one group and its K best finished ones: sums (-inf: none) and tokens."""

    live_BK: Tensor
    live_BKT: Tensor
    done_BK: Tensor
    done_BKT: Tensor


@torch.no_grad()
def diverse_search(decoder: T5Decoder, state: DecodeState, penalty_B: Tensor, config: DiverseConfig) -> Diverse:
    """Decode up to `longest + 1` steps; the last only tells whether a sequence could end at the cap.

    `penalty_B` is the diversity penalty lambda of each item. Raises FloatingPointError for logits that are not finite.
    """
    beams, groups = config.beams, config.groups
    looked_at = min((groups + 1) * beams, decoder.vocab_size)
    batch, device = len(penalty_B), penalty_B.device
    penalty_B11 = penalty_B[:, None, None].to(decoder.score_type)
    start_BK = torch.full((batch, beams), NEVER, dtype=decoder.score_type, device=device)
    empty_BKT = torch.full((batch, beams, config.longest + 1), config.eos, device=device)
    members = [Group(start_BK.index_fill(1, start_BK.new_zeros(1).long(), 0), empty_BKT, start_BK, empty_BKT)] * groups
    tokens_BR = torch.full((batch, 1), decoder.start_token, device=device)
    for step in range(config.longest + 1):
        too_short = [config.eos] if step < config.shortest else []
        barred_N = torch.cat([config.barred_N, config.barred_N.new_tensor(too_short)])
        log_probs, tokens = decoder.best(decoder.step(state, tokens_BR), looked_at, barred_N)
        log_probs_BRC, tokens_BRC = (flat.view(batch, -1, looked_at) for flat in (log_probs, tokens))
        if step == 0:  # all beams of all groups continue the one start
            log_probs_BRC, tokens_BRC = (f.expand(-1, groups * beams, -1) for f in (log_probs_BRC, tokens_BRC))
        taken_BN = tokens_BR[:, :0]
        parents, fed = [], []
        for index in range(groups):
            rows = slice(index * beams, (index + 1) * beams)
            members[index], parent_BK, token_BK, took_BN = _grow(
                members[index], log_probs_BRC[:, rows], tokens_BRC[:, rows], taken_BN, penalty_B11, step, config
            )
            parents.append(parent_BK + index * beams)
            fed.append(token_BK)
            taken_BN = torch.cat([taken_BN, took_BN], dim=1)
        if not any(bool((group.live_BK > NEVER).any()) for group in members):
            break
        tokens_BR = torch.cat(fed, dim=1)
        parents_BR = torch.cat(parents, dim=1)
        state.reorder(torch.zeros_like(parents_BR) if step == 0 else parents_BR)
    closed = [_best_of(group.done_BK, group.done_BKT, group.live_BK, group.live_BKT) for group in members]
    return Diverse(
        torch.stack([tokens for _, tokens in closed], dim=1), torch.stack([sums for sums, _ in closed], dim=1)
    )


def _grow(
    group: Group, log_probs_BKC: Tensor, tokens_BKC: Tensor, taken_BN: Tensor, penalty_B11: Tensor, step: int,
    config: DiverseConfig,
) -> tuple[Group, Tensor, Tensor, Tensor]:  # fmt: skip
    """One step of one group: the group, the beam that each beam continues, its token, and what counts as taken (-1:
    nothing)."""
    beams, looked_at = config.beams, log_probs_BKC.shape[2]
    times_BKC = (tokens_BKC[:, :, :, None] == taken_BN[:, None, None, :]).sum(-1)
    score_BKC = group.live_BK[:, :, None] + log_probs_BKC - penalty_B11 * times_BKC
    best_BM = top_stable(score_BKC.flatten(1), 2 * beams)
    score_BM, token_BM = score_BKC.flatten(1).gather(1, best_BM), tokens_BKC.flatten(1).gather(1, best_BM)
    parent_BM = best_BM // looked_at
    ends_BM = (token_BM == config.eos) & (score_BM > NEVER)
    within_M = torch.arange(2 * beams, device=best_BM.device) < beams
    tokens_BMT = group.live_BKT.gather(1, parent_BM[:, :, None].expand(-1, -1, group.live_BKT.shape[2]))
    tokens_BMT = tokens_BMT.index_copy(2, torch.tensor([step], device=best_BM.device), token_BM[:, :, None])
    done_BK, done_BKT = _best_of(
        group.done_BK, group.done_BKT, score_BM.masked_fill(~(ends_BM & within_M), NEVER), tokens_BMT
    )
    if config.ending == "published":
        on_BM = score_BM.masked_fill(ends_BM, NEVER)[:, :beams]
        took_BM = token_BM[:, :beams].masked_fill(score_BM[:, :beams] == NEVER, -1)
        index_BK = torch.arange(beams, device=best_BM.device).expand_as(on_BM)
        live_BK = on_BM
    else:
        index_BK = top_stable(score_BM.masked_fill(ends_BM, NEVER), beams)
        live_BK = score_BM.masked_fill(ends_BM, NEVER).gather(1, index_BK)
        took_BM = token_BM.gather(1, index_BK).masked_fill(live_BK == NEVER, -1)
        live_BK = live_BK.masked_fill((done_BK > NEVER).all(1, keepdim=True), NEVER)
    token_BK = token_BM.gather(1, index_BK).masked_fill(live_BK == NEVER, config.eos)
    live_BKT = tokens_BMT.gather(1, index_BK[:, :, None].expand(-1, -1, tokens_BMT.shape[2]))
    return Group(live_BK, live_BKT, done_BK, done_BKT), parent_BM.gather(1, index_BK), token_BK, took_BM


def _best_of(one_BK: Tensor, one_BKT: Tensor, two_BM: Tensor, two_BMT: Tensor) -> tuple[Tensor, Tensor]:
    """The K best of two sets of sequences, the first set's first where they are equal."""
    sums_BN, tokens_BNT = torch.cat([one_BK, two_BM], dim=1), torch.cat([one_BKT, two_BMT], dim=1)
    index_BK = torch.sort(sums_BN, dim=1, descending=True, stable=True).indices[:, : one_BK.shape[1]]
    return sums_BN.gather(1, index_BK), tokens_BNT.gather(1, index_BK[:, :, None].expand(-1, -1, tokens_BNT.shape[2]))
