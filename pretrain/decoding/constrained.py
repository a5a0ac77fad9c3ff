"""Beam search over the catalogue's trie (section 2.4, equations 2 and 3).

Enters: a decoder state of B prompts and a trie. Leaves: for each prompt up to `beam` distinct items with the sum of
the log-probabilities of their ID and EOS, best first. Must hold: the probabilities are those of the full vocabulary
(equation 2 zeroes what is illegal, it does not renormalise); the search is step-synchronous; with a beam at least as
wide as the catalogue the list is the exhaustive one.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pretrain.decoding.decoder import DecodeState, T5Decoder
from pretrain.decoding.trie import Trie


@dataclass(frozen=True)
class Lists:
    """Ranked items per prompt: `items_BK` (row or -1 where the list ends) and `scores_BK` (log-probability, -inf)."""

    items_BK: Tensor
    scores_BK: Tensor


@torch.no_grad()
def beam_search(
    decoder: T5Decoder, state: DecodeState, trie: Trie, beam: int, excluded: list[Tensor] | None = None
) -> Lists:
    """Search the trie with `beam` live hypotheses per prompt.

    A hypothesis that takes the EOS edge leaves the beam for the finished list; the search of a prompt ends when no live
    hypothesis can still enter a full list (scores only fall). `excluded`: per prompt the item rows that may not appear.
    Raises ValueError for a beam below 1 and FloatingPointError for non-finite logits.
    """
    if beam < 1:
        raise ValueError(f"beam is {beam}; it must be at least 1")
    batch, device = state.mask_B11S.shape[0], state.mask_B11S.device
    banned_X = _banned_keys(excluded, trie.num_items, device)
    nodes_BR = torch.zeros(batch, 1, dtype=torch.long, device=device)
    tokens_BR = torch.full((batch, 1), decoder.start_token, device=device)
    scores_BR = torch.zeros(batch, 1, device=device)
    parents_BR = None
    lists = Lists(torch.full((batch, beam), -1, device=device), torch.full((batch, beam), float("-inf"), device=device))
    for _ in range(trie.depth):
        logits_BRV = decoder.step(state, tokens_BR, parents_BR).float()
        normaliser_BR = torch.logsumexp(logits_BRV, dim=-1)
        live_M = (scores_BR > float("-inf")).flatten().nonzero().squeeze(1)
        if not bool(torch.isfinite(normaliser_BR.flatten()[live_M]).all()):
            raise FloatingPointError("the recommender produced logits that are not finite")
        row_C, token_C, child_C = trie.allowed(nodes_BR.flatten()[live_M])
        flat_C = live_M[row_C]
        logit_C = logits_BRV.view(-1, logits_BRV.shape[-1])[flat_C, token_C]
        score_C = scores_BR.flatten()[flat_C] + logit_C - normaliser_BR.flatten()[flat_C]
        prompt_C = flat_C // nodes_BR.shape[1]
        item_C = trie.item_N[child_C]
        ends_C = item_C >= 0
        allowed_C = ends_C & ~torch.isin(prompt_C * trie.num_items + item_C, banned_X)
        lists = _merge(lists, prompt_C[allowed_C], item_C[allowed_C], score_C[allowed_C])
        picked_C = _segmented_top(prompt_C[~ends_C], score_C[~ends_C], beam, batch)
        if picked_C.numel() == 0:
            break
        chosen_C = (~ends_C).nonzero().squeeze(1)[picked_C]
        place_C = _place_in_segment(prompt_C[chosen_C])
        width = int(place_C.max()) + 1
        slot_C = prompt_C[chosen_C] * width + place_C
        parents_BR = _scatter(flat_C[chosen_C] % nodes_BR.shape[1], slot_C, batch, width, 0)
        nodes_BR = _scatter(child_C[chosen_C], slot_C, batch, width, 0)
        tokens_BR = _scatter(token_C[chosen_C], slot_C, batch, width, decoder.start_token)
        scores_BR = _scatter(score_C[chosen_C], slot_C, batch, width, float("-inf"))
        hopeless_BR = scores_BR <= lists.scores_BK[:, -1:]
        scores_BR = scores_BR.masked_fill(hopeless_BR, float("-inf"))
        if not bool((scores_BR > float("-inf")).any()):
            break
    return lists


def _banned_keys(excluded: list[Tensor] | None, num_items: int, device: torch.device) -> Tensor:
    if not excluded:
        return torch.empty(0, dtype=torch.long, device=device)
    return torch.cat([rows.to(device).long() + index * num_items for index, rows in enumerate(excluded)])


def _segmented_top(segment_C: Tensor, score_C: Tensor, count: int, num_segments: int) -> Tensor:
    """Indices of the `count` best of each segment, by segment and falling score; ties go to the earlier candidate."""
    by_score_C = torch.sort(score_C, descending=True, stable=True).indices
    order_C = by_score_C[torch.sort(segment_C[by_score_C], stable=True).indices]
    return order_C[_place_in_segment(segment_C[order_C]) < count]


def _place_in_segment(sorted_segment_C: Tensor) -> Tensor:
    """0, 1, 2, ... within each run of equal values."""
    index_C = torch.arange(len(sorted_segment_C), device=sorted_segment_C.device)
    starts_C = torch.ones_like(sorted_segment_C, dtype=torch.bool)
    starts_C[1:] = sorted_segment_C[1:] != sorted_segment_C[:-1]
    return index_C - torch.cummax(torch.where(starts_C, index_C, 0), 0).values if len(index_C) else index_C


def _scatter(values_C: Tensor, slot_C: Tensor, batch: int, width: int, fill: float) -> Tensor:
    flat = torch.full((batch * width,), fill, dtype=values_C.dtype, device=values_C.device)
    flat[slot_C] = values_C
    return flat.view(batch, width)


def _merge(lists: Lists, prompt_C: Tensor, item_C: Tensor, score_C: Tensor) -> Lists:
    """The finished lists with newly finished hypotheses added, cut to their length."""
    if prompt_C.numel() == 0:
        return lists
    batch, beam = lists.items_BK.shape
    old_prompt = torch.arange(batch, device=item_C.device).repeat_interleave(beam)
    prompt_A = torch.cat([old_prompt, prompt_C])
    item_A = torch.cat([lists.items_BK.flatten(), item_C])
    score_A = torch.cat([lists.scores_BK.flatten(), score_C])
    best_A = _segmented_top(prompt_A, score_A, beam, batch)
    return Lists(item_A[best_A].view(batch, beam), score_A[best_A].view(batch, beam))
