"""Beam search over the catalogue's trie (section 2.4, equations 2 and 3).

Enters: a decoder state of B prompts and a trie. Leaves: for each prompt the best items it found, by the sum of the
log-probabilities of their ID and EOS. Must hold: the probabilities are those of the full vocabulary (equation 2 zeroes
what is illegal, it does not renormalise); the search is step-synchronous; with a beam at least as wide as the catalogue
the list is the exhaustive one.

As long as anything of a prompt still branches, all of its hypotheses step together, those in tails too: each keeps its
place and competes with its partial sum at each depth. When nothing branches, nothing can push anything out, and what is
left of all tails is computed in one pass.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from pretrain.config import SearchConfig
from pretrain.decoding.decoder import DecodeState, T5Decoder, check_finite
from pretrain.decoding.exclusions import Exclusions
from pretrain.decoding.lists import Lists, top_stable
from pretrain.decoding.trie import NO_NODE, Trie

NEVER = float("-inf")


@dataclass(frozen=True)
class Beam:
    """R hypotheses per prompt: where they stand in the trie, their last token, which is not fed yet, their partial sum
    (-inf: none), and the hypothesis of the step before that each continues."""

    nodes_BR: Tensor
    tokens_BR: Tensor
    scores_BR: Tensor
    parents_BR: Tensor

    @property
    def rows(self) -> int:
        return self.scores_BR.shape[1]

    @property
    def live_BR(self) -> Tensor:
        return self.scores_BR > NEVER

    def select(self, index_N: Tensor) -> Beam:
        """The beams of the prompts `index_N`."""
        return Beam(*(getattr(self, column.name)[index_N] for column in fields(self)))

    def widened(self, rows: int) -> Beam:
        """The beam with empty hypotheses up to `rows`."""
        missing = (0, rows - self.rows)
        return Beam(
            F.pad(self.nodes_BR, missing, value=NO_NODE), F.pad(self.tokens_BR, missing),
            F.pad(self.scores_BR, missing, value=NEVER), F.pad(self.parents_BR, missing),
        )  # fmt: skip

    def without(self, closed_BR: Tensor) -> Beam:
        """The beam less the hypotheses marked."""
        return replace(self, scores_BR=self.scores_BR.masked_fill(closed_BR, NEVER))

    def that_can_enter(self, lists: Lists, trie: Trie, config: SearchConfig, length_B: Tensor) -> Beam:
        """The beam less the hypotheses, of `length_B` tokens, that can no longer enter a full list."""
        length_B1 = length_B[:, None]
        highest_BR = self.scores_BR + self.scores_BR.new_tensor(trie.headroom)[length_B1]
        highest_BR = highest_score(highest_BR, length_B1 + 1, trie.depth, config)
        return self.without(highest_BR <= lists.worst_B1)

    def where(self, stepped_B1: Tensor, waiting: Beam) -> Beam:
        """This beam for the prompts that stepped; the others wait as they were, each hypothesis its own parent."""
        itself_BR = torch.arange(self.rows, device=stepped_B1.device).expand_as(self.parents_BR)
        itself_BR = itself_BR.clamp(max=waiting.rows - 1)  # at the root there is one hypothesis only
        waiting = waiting.widened(self.rows)
        return Beam(
            torch.where(stepped_B1, self.nodes_BR, waiting.nodes_BR),
            torch.where(stepped_B1, self.tokens_BR, waiting.tokens_BR),
            torch.where(stepped_B1, self.scores_BR, waiting.scores_BR),
            torch.where(stepped_B1, self.parents_BR, itself_BR),
        )


@torch.no_grad()
def beam_search(
    decoder: T5Decoder, state: DecodeState, trie: Trie, config: SearchConfig,
    excluded: Sequence[np.ndarray | Tensor] | None = None, static: bool | None = None,
) -> Lists:  # fmt: skip
    """Search the trie with `config.beam` live hypotheses per prompt; lists of `config.length` items.

    A hypothesis that takes the EOS edge leaves the beam for the list. A prompt is done when no live hypothesis can
    still enter its list. `excluded`: per prompt the item rows that may not appear; if that is all of them the list is
    empty. `static` gives every pass the shape that (B, beam, depth) determine, as a GPU likes it; otherwise (the
    default on a CPU) only live hypotheses are computed. The lists are the same within rounding.

    Raises ValueError for a config or a trie that does not fit and FloatingPointError for logits that are not finite.
    """
    config.check()
    if trie.vocab_size > decoder.vocab_size:
        raise ValueError(
            f"the trie's tokens reach to {trie.vocab_size:,}, the model's vocabulary to {decoder.vocab_size:,}; "
            "build both from one tokenizer"
        )
    batch, device = len(state.length_B), state.length_B.device
    static = device.type != "cpu" if static is None else static
    exclusions = Exclusions(trie, excluded) if excluded is not None and any(map(len, excluded)) else None
    prompt_B = torch.arange(batch, device=device)
    beam = _at_root(decoder, trie, batch)
    if exclusions is not None:
        beam = beam.without(exclusions.barred(beam.nodes_BR, prompt_B[:, None]))
    lists, depth = Lists.empty(batch, config.length, beam.scores_BR), 0
    found = lists
    while bool(beam.live_BR.any()):
        if not static and 2 * int((busy_B := beam.live_BR.any(1)).sum()) <= len(prompt_B):
            busy_N = busy_B.nonzero().squeeze(1)
            found, prompt_B = found.put(prompt_B, lists), prompt_B[busy_N]
            state, beam, lists = state.select(busy_N), beam.select(busy_N), lists.select(busy_N)
        plan = _plan(lists, beam, static)
        barred = None if exclusions is None else lambda node_C, b_C: exclusions.barred(node_C, prompt_B[b_C])
        lists, beam = _advance(decoder, state, trie, config, barred, depth, plan, lists, beam)
        depth += 1
    return found.put(prompt_B, lists)


def final_score(total: Tensor, length: int | Tensor, config: SearchConfig) -> Tensor:
    """Score of a finished hypothesis of `length` tokens, EOS included: its sum over length ** length_penalty."""
    if not config.length_penalty:
        return total
    if isinstance(length, Tensor):
        length = length.to(total.dtype)
    return total / length**config.length_penalty


def highest_score(total: Tensor, shortest: int | Tensor, longest: int, config: SearchConfig) -> Tensor:
    """Most that a hypothesis can still reach whose sum is `total` at best and whose length lies in a range."""
    return torch.maximum(final_score(total, shortest, config), final_score(total, longest, config))


def _at_root(decoder: T5Decoder, trie: Trie, batch: int) -> Beam:
    nodes_B1 = trie.root(batch)
    scores_B1 = torch.zeros(batch, 1, dtype=decoder.score_type, device=trie.device)
    return Beam(nodes_B1, torch.full_like(nodes_B1, decoder.start_token), scores_B1, torch.zeros_like(nodes_B1))


@dataclass(frozen=True)
class Plan:
    """What one pass computes: `stepping_BR` feeds its last token and branches, `closing_BR` feeds its whole tail.

    `static`: all places of the pass are computed, whatever they hold.
    """

    stepping_BR: Tensor
    closing_BR: Tensor
    static: bool


def _plan(lists: Lists, beam: Beam, static: bool) -> Plan:
    """Prompts of which something branches step. Of the others, the tails that the list still has places for are closed,
    the most probable first; when it has none, all that can still enter. Static passes step as long as anything does."""
    branching_B1 = (beam.live_BR & (beam.nodes_BR >= 0)).any(1, keepdim=True)
    if static:
        branching_B1 = branching_B1.any().expand_as(branching_B1)
    free_B1 = (lists.scores_BK == NEVER).sum(1, keepdim=True)
    rank_BR = torch.argsort(torch.argsort(beam.scores_BR, dim=1, descending=True, stable=True), dim=1)
    first_BR = (rank_BR < free_B1) | (free_B1 == 0) if not static else torch.ones_like(beam.live_BR)
    return Plan(beam.live_BR & branching_B1, beam.live_BR & ~branching_B1 & first_BR, static)


@dataclass(frozen=True)
class Slots:
    """The tokens of one pass, Q places per prompt: the token fed, the one that must follow it in a tail, its hypothesis
    and its place after it; `used_BQ` marks places that hold a token, `tail_BQ` those of closing tails."""

    token_BQ: Tensor
    target_BQ: Tensor
    row_BQ: Tensor
    place_BQ: Tensor
    used_BQ: Tensor
    tail_BQ: Tensor

    def packed(self) -> Slots:
        """The same with the used places first and the rest cut off."""
        width = max(1, int(self.used_BQ.sum(1).max()))
        order_BQ = torch.sort(self.used_BQ.to(torch.int8), dim=1, descending=True, stable=True).indices[:, :width]
        return Slots(*(getattr(self, column.name).gather(1, order_BQ) for column in fields(self)))


def _slots(beam: Beam, plan: Plan, target_BRL: Tensor, number_BR: Tensor) -> Slots:
    """Stepping hypotheses feed their last token; closing ones that and their tail but for EOS, which is only looked up."""
    token_BRL = torch.cat([beam.tokens_BR[:, :, None], target_BRL[:, :, :-1]], dim=2)
    place_BRL = torch.arange(token_BRL.shape[2], device=token_BRL.device).expand_as(token_BRL)
    row_BRL = torch.arange(beam.rows, device=token_BRL.device)[None, :, None].expand_as(token_BRL)
    tail_BRL = place_BRL < number_BR[:, :, None]
    used_BRL = tail_BRL | (plan.stepping_BR[:, :, None] & (place_BRL == 0))
    columns = (token_BRL, target_BRL, row_BRL, place_BRL, used_BRL, tail_BRL)
    slots = Slots(*(column_BRL.flatten(1) for column_BRL in columns))
    return slots if plan.static else slots.packed()


def _advance(
    decoder: T5Decoder, state: DecodeState, trie: Trie, config: SearchConfig, barred: Callable[[Tensor, Tensor], Tensor] | None,
    depth: int, plan: Plan, lists: Lists, beam: Beam,
) -> tuple[Lists, Beam]:  # fmt: skip
    """One pass of the decoder, and what it makes of lists and beam. `depth`: tokens that stepping hypotheses have."""
    stepping_BR, rows = plan.stepping_BR, beam.rows
    longest = trie.depth - depth if plan.static else None
    target_BRL, number_BR, weight_BRL = trie.tail(beam.nodes_BR.masked_fill(~plan.closing_BR, NO_NODE), longest)
    slots = _slots(beam, plan, target_BRL, number_BR)
    decoder.reorder(state, beam.parents_BR)
    kept_BQ = stepping_BR.gather(1, slots.row_BQ) & (slots.place_BQ == 0)
    live_BQ = None if plan.static else slots.used_BQ
    hidden_ME = decoder.extend(state, slots.token_BQ, slots.row_BQ, slots.place_BQ, kept_BQ, live_BQ)
    computed_BQ = torch.ones_like(slots.used_BQ) if plan.static else slots.used_BQ
    at_BQ = (computed_BQ.flatten().cumsum(0) - 1).clamp(min=0).view_as(computed_BQ)  # its row of hidden_ME
    row_BQ = slots.row_BQ + torch.arange(0, len(kept_BQ) * rows, rows, device=kept_BQ.device)[:, None]
    at_M = _by_row(kept_BQ.flatten(), row_BQ.flatten(), at_BQ.flatten(), len(kept_BQ) * rows, 0)
    width = trie.width(depth, rows) if plan.static else None
    batch = len(beam.nodes_BR)
    children = trie.allowed(beam.nodes_BR.masked_fill(~stepping_BR, NO_NODE).flatten(), width and batch * width)
    asked = torch.cat([at_M[children.row_C], at_BQ.flatten()])
    log_prob, normaliser_M = decoder.log_probs(hidden_ME, asked, torch.cat([children.token_C, slots.target_BQ.flatten()]))
    check_finite(torch.where(slots.used_BQ[computed_BQ], normaliser_M, 0))
    log_prob_C, log_prob_BQ = log_prob[: len(children.row_C)], log_prob[len(children.row_C) :].view_as(at_BQ)

    score_C = beam.scores_BR.flatten()[children.row_C] + log_prob_C
    if children.weight_C is not None:
        score_C = score_C + children.weight_C.to(score_C.dtype)
    prompt_C = children.row_C // rows
    legal_C = children.node_C != NO_NODE
    if barred is not None:
        legal_C = legal_C & ~barred(children.node_C, prompt_C)
    ends_C = legal_C & (children.token_C == trie.eos)
    # A node has one EOS edge at most, so what finishes in a step fits into its rows.
    done_BR = _by_row(ends_C, children.row_C, score_C, batch * rows, NEVER).view(batch, rows)
    done_node_BR = _by_row(ends_C, children.row_C, children.node_C, batch * rows, NO_NODE).view(batch, rows)
    closed_BR = beam.scores_BR.scatter_add(1, slots.row_BQ, log_prob_BQ.masked_fill(~slots.tail_BQ, 0))
    if weight_BRL is not None:
        closed_BR = closed_BR + weight_BRL.sum(2).to(closed_BR.dtype)
    closed_BR = final_score(closed_BR, state.length_B[:, None] + number_BR, config)
    lists = lists.merge(
        trie.item(torch.cat([done_node_BR, beam.nodes_BR], dim=1)),
        torch.cat([final_score(done_BR, depth + 1, config), closed_BR.masked_fill(~plan.closing_BR, NEVER)], dim=1),
    )

    goes_on_C = legal_C & ~ends_C
    first_B = torch.searchsorted(children.row_C, torch.arange(batch, device=prompt_C.device) * rows)
    place_C = torch.arange(len(prompt_C), device=prompt_C.device) - first_B[prompt_C]
    width = width or int(place_C.max()) + 1
    score_BW = _by_row(goes_on_C, prompt_C * width + place_C, score_C, batch * width, NEVER).view(batch, width)
    picked_BR = top_stable(score_BW, config.beam)
    at_BR = (first_B[:, None] + picked_BR).clamp(max=len(prompt_C) - 1)
    grown = Beam(
        children.node_C[at_BR], children.token_C[at_BR], score_BW.gather(1, picked_BR),
        (children.row_C[at_BR] - torch.arange(0, batch * rows, rows, device=at_BR.device)[:, None]).clamp(0, rows - 1),
    ).widened(config.beam)  # fmt: skip
    return lists, grown.where(stepping_BR.any(1, keepdim=True), beam.without(plan.closing_BR)).that_can_enter(
        lists, trie, config, state.length_B
    )


def _by_row(chosen_N: Tensor, row_N: Tensor, values_N: Tensor, rows: int, fill: float | int) -> Tensor:
    """Values in the places of their rows, [rows]; of those not chosen nothing is kept, and `fill` where none is."""
    return values_N.new_full((rows + 1,), fill).scatter_(0, torch.where(chosen_N, row_N, rows), values_N)[:rows]
