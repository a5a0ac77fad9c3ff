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

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from pretrain.decoding.beam import NEVER, Beam, Plan, Slots, by_row
from pretrain.decoding.config import SearchConfig
from pretrain.decoding.decoder import T5Decoder, check_finite
from pretrain.decoding.lists import Lists, top_stable
from pretrain.decoding.lookahead import Lookahead
from pretrain.decoding.state import DecodeState
from pretrain.decoding.trie import NO_NODE, Children, Trie


@torch.no_grad()
def beam_search(
    decoder: T5Decoder, state: DecodeState, trie: Trie, config: SearchConfig,
    excluded: Sequence[np.ndarray | Tensor] | None = None, static: bool | None = None,
    bonus_BI: Tensor | None = None,
) -> Lists:  # fmt: skip
    """Search the trie with `config.beam` live hypotheses per prompt; lists of `config.length` items.

    A hypothesis that takes the EOS edge leaves the beam for the list. A prompt is done when no live hypothesis can
    still enter its list. `excluded`: per prompt the item rows that may not appear; if that is all of them the list is
    empty. `static` gives every pass the shape that (B, beam, depth) determine, as a GPU likes it; otherwise (the
    default on a CPU) only live hypotheses are computed. The lists are the same within rounding. `bonus_BI`: what is
    added to the score of each item for each prompt; the search looks ahead to it (`lookahead.py`).

    Raises ValueError for a config or a trie that does not fit and FloatingPointError for logits that are not finite.
    """
    if trie.vocab_size > decoder.vocab_size:
        raise ValueError(
            f"the trie's tokens reach to {trie.vocab_size:,}, the model's vocabulary to {decoder.vocab_size:,}; "
            "build both from one tokenizer"
        )
    static = state.length_B.device.type != "cpu" if static is None else static
    exclusions = Exclusions(trie, excluded) if excluded is not None and any(map(len, excluded)) else None
    lookahead = None if bonus_BI is None else Lookahead(trie, bonus_BI, excluded)
    return Search(decoder, state, trie, config, exclusions, static, lookahead).run()


def final_score(total: Tensor, length: int | Tensor, config: SearchConfig) -> Tensor:
    """Score of a finished hypothesis of `length` tokens, EOS included: its sum over length ** length_penalty."""
    if not config.length_penalty:
        return total
    if isinstance(length, Tensor):
        length = length.to(total.dtype)
    return total / length**config.length_penalty


class Exclusions:
    """Items that a user's list may not hold, as nodes that the user's search may not enter, looked up without asking
    the host. The search is that of the trie without these items: a node whose items are all excluded takes no place in
    the beam."""

    def __init__(self, trie: Trie, excluded: Sequence[np.ndarray | Tensor]) -> None:
        """`excluded`: item rows of each prompt; rows that are not in the trie are passed over."""
        self.lowest, self.span = trie.node_range
        keys = [
            trie.only_to(np.asarray(rows)) - self.lowest + prompt * self.span for prompt, rows in enumerate(excluded)
        ]
        keys = np.sort(np.concatenate([*keys, [np.iinfo(np.int64).max]]))
        self.keys = torch.from_numpy(keys).to(trie.device)

    def barred(self, nodes_C: Tensor, prompt_C: Tensor) -> Tensor:
        """Which of the nodes the prompt beside each may not enter."""
        key_C = nodes_C.clamp(min=self.lowest) - self.lowest + prompt_C * self.span
        return self.keys[torch.searchsorted(self.keys, key_C)] == key_C


class Step(NamedTuple):
    """What a pass found: children of stepping hypotheses with their scores, the sums of closing ones, and the
    log-sum-exp over the vocabulary after every token that counts."""

    children: Children
    score_C: Tensor
    closed_BR: Tensor
    normaliser_M: Tensor


class Search:
    """One search under way: the prompts that are not done (`prompt_B`: their numbers), their beams and lists."""

    def __init__(
        self, decoder: T5Decoder, state: DecodeState, trie: Trie, config: SearchConfig,
        exclusions: Exclusions | None, static: bool, lookahead: Lookahead | None = None,
    ) -> None:  # fmt: skip
        self.decoder, self.state, self.trie, self.config = decoder, state, trie, config
        self.exclusions, self.static, self.lookahead = exclusions, static, lookahead
        batch = len(state.length_B)
        nodes_B1, scores_B1 = trie.root(batch), torch.zeros(batch, 1, dtype=decoder.score_type, device=trie.device)
        self.prompt_B = torch.arange(batch, device=trie.device)
        if lookahead is not None:
            scores_B1 = scores_B1 + lookahead.at(nodes_B1, self.prompt_B[:, None])
        self.beam = Beam(
            nodes_B1, torch.full_like(nodes_B1, decoder.start_token), scores_B1, torch.zeros_like(nodes_B1)
        )
        if exclusions is not None:
            self.beam = self.beam.without(exclusions.barred(nodes_B1, self.prompt_B[:, None]))
        self.lists = Lists.empty(batch, config.length, scores_B1)
        self.depth = 0

    def run(self) -> Lists:
        lists = self.lists
        while bool(self.beam.live_BR.any()):
            if not self.static:
                lists = self._let_go(lists)
            self._advance(Plan.make(self.beam, self.lists, self.static))
            self.depth += 1
        return lists.put(self.prompt_B, self.lists)

    def _let_go(self, lists: Lists) -> Lists:
        """Prompts that are done leave the batch once they are half of it; `found` has their lists then."""
        busy_N = self.beam.live_BR.any(1).nonzero().squeeze(1)
        if 2 * len(busy_N) > len(self.prompt_B):
            return lists
        lists = lists.put(self.prompt_B, self.lists)
        self.prompt_B, self.state = self.prompt_B[busy_N], self.state.select(busy_N)
        self.beam, self.lists = self.beam.select(busy_N), self.lists.select(busy_N)
        return lists

    def _advance(self, plan: Plan) -> None:
        """One pass: stepping hypotheses grow by each legal token, closing ones to their end; EOS goes to the lists, the
        best of each prompt go on."""
        beam, length_B1 = self.beam, self.state.length_B[:, None]
        step = self._feed(plan)
        check_finite(step.normaliser_M)
        children, rows = step.children, beam.batch * beam.rows
        legal_C = children.node_C != NO_NODE
        if self.exclusions is not None:
            prompt_C = self.prompt_B[children.row_C // beam.rows]
            legal_C = legal_C & ~self.exclusions.barred(children.node_C, prompt_C)
        ends_C = legal_C & (children.token_C == self.trie.eos)
        # A node has one EOS edge at most, so what finishes in a step fits into its rows.
        done_BR = by_row(ends_C, children.row_C, step.score_C, rows, NEVER).view_as(beam.scores_BR)
        ended_BR = by_row(ends_C, children.row_C, children.node_C, rows, NO_NODE).view_as(beam.nodes_BR)
        self.lists = self.lists.merge(
            self.trie.item(torch.cat([ended_BR, beam.nodes_BR], dim=1)),
            torch.cat([final_score(done_BR, length_B1 + 1, self.config), step.closed_BR], dim=1),
        )
        grown = self._best(children, step.score_C, legal_C & ~ends_C).widened(self.config.beam)
        beam = grown.where(plan.stepping_BR.any(1, keepdim=True), beam.without(plan.closing_BR))
        self.beam = beam.without(self._highest(beam) <= self.lists.worst_B1)

    def _feed(self, plan: Plan) -> Step:
        """Feed what the plan says, and read off the scores that it asks for."""
        decoder, trie, beam = self.decoder, self.trie, self.beam
        tails_BR = beam.nodes_BR.masked_fill(~plan.closing_BR, NO_NODE)
        target_BRL, number_BR, weight_BRL = trie.tail(tails_BR, trie.depth - self.depth if self.static else None)
        slots = Slots.make(beam, plan, target_BRL, number_BR)
        slots = slots if self.static else slots.packed()
        kept_BQ = plan.stepping_BR.gather(1, slots.row_BQ) & (slots.place_BQ == 0)
        length_BR = self.state.length_B[:, None] + number_BR
        self.state.reorder(beam.parents_BR)
        hidden_ME = decoder.extend(
            self.state, slots.token_BQ, slots.row_BQ, slots.place_BQ, kept_BQ, None if self.static else slots.used_BQ
        )
        computed_BQ = torch.ones_like(slots.used_BQ) if self.static else slots.used_BQ
        at_BQ = (computed_BQ.flatten().cumsum(0) - 1).clamp(min=0).view_as(computed_BQ)  # its row of hidden_ME
        first_B1 = torch.arange(0, beam.batch * beam.rows, beam.rows, device=at_BQ.device)[:, None]
        at_M = by_row(
            kept_BQ.flatten(), (slots.row_BQ + first_B1).flatten(), at_BQ.flatten(), beam.batch * beam.rows, 0
        )
        capacity = beam.batch * trie.width(self.depth, beam.rows) if self.static else None
        children = trie.allowed(beam.nodes_BR.masked_fill(~plan.stepping_BR, NO_NODE).flatten(), capacity)
        log_prob, normaliser_M = decoder.log_probs(
            hidden_ME,
            torch.cat([at_M[children.row_C], at_BQ.flatten()]),
            torch.cat([children.token_C, slots.target_BQ.flatten()]),
        )
        log_prob_C, log_prob_BQ = log_prob[: len(children.row_C)], log_prob[len(children.row_C) :].view_as(at_BQ)
        score_C = beam.scores_BR.flatten()[children.row_C] + log_prob_C
        closed_BR = beam.scores_BR.scatter_add(1, slots.row_BQ, log_prob_BQ.masked_fill(~slots.tail_BQ, 0))
        if children.weight_C is not None and weight_BRL is not None:
            score_C = score_C + children.weight_C.to(score_C.dtype)
            closed_BR = closed_BR + weight_BRL.sum(2).to(closed_BR.dtype)
        if self.lookahead is not None:
            score_C = score_C + self.lookahead.gain(children, beam.nodes_BR, self.prompt_B).to(score_C.dtype)
        closed_BR = final_score(closed_BR, length_BR, self.config).masked_fill(~plan.closing_BR, NEVER)
        if self.static:
            normaliser_M = torch.where(slots.used_BQ.flatten(), normaliser_M, 0)
        return Step(children, score_C, closed_BR, normaliser_M)

    def _best(self, children: Children, score_C: Tensor, goes_on_C: Tensor) -> Beam:
        """The best continuations of each prompt, as hypotheses. Among equals, the first by row and token."""
        batch, rows = self.beam.batch, self.beam.rows
        prompt_C = children.row_C // rows
        first_B = torch.searchsorted(children.row_C, torch.arange(batch, device=prompt_C.device) * rows)
        place_C = torch.arange(len(prompt_C), device=prompt_C.device) - first_B[prompt_C]
        width = self.trie.width(self.depth, rows) if self.static else int(place_C.max()) + 1
        score_BW = by_row(goes_on_C, prompt_C * width + place_C, score_C, batch * width, NEVER).view(batch, width)
        picked_BR = top_stable(score_BW, self.config.beam)
        at_BR = (first_B[:, None] + picked_BR).clamp(max=len(prompt_C) - 1)
        return Beam(
            children.node_C[at_BR], children.token_C[at_BR].long(), score_BW.gather(1, picked_BR),
            children.row_C[at_BR] % rows,
        )  # fmt: skip

    def _highest(self, beam: Beam) -> Tensor:
        """The most that each hypothesis can still reach: log-probabilities only lower its sum, weights by `headroom`
        raise it at most, and its length will lie between one more token and the longest ID."""
        length_B1 = self.state.length_B[:, None]
        total_BR = beam.scores_BR + beam.scores_BR.new_tensor(self.trie.headroom)[length_B1]
        return torch.maximum(
            final_score(total_BR, length_B1 + 1, self.config), final_score(total_BR, self.trie.depth, self.config)
        )
