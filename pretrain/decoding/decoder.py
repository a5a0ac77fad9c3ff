"""The decoder of a T5 for a search: many hypotheses per input over one pool of keys and values.

Enters: a Hugging Face T5 and a batch of inputs. Leaves: hidden states and full-vocabulary log-probabilities of the next
token. Must hold: equal to the model's own forward pass, within 1e-5 in float32.

Hugging Face's `generate` repeats the encoder's output once per beam and copies the cache whenever beams move. Here
nothing is copied (`state.py`), and several tokens of a hypothesis may be fed at once. Cross-attention reads one copy of
the input's keys and values for all hypotheses.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers.models.t5.modeling_t5 import T5ForConditionalGeneration

from pretrain.decoding.state import DecodeState

LOGIT_BYTES = {"cpu": 96 << 20, "cuda": 1 << 30}
"""Logits held at once; more rows go in blocks. The head's product is faster for many rows at once."""
ENCODED_TOKENS = 1024
"""Tokens that the encoder reads at once on the CPU: larger arrays cost it a page fault per page, each time."""


class T5Decoder:
    """Decoder of a frozen T5 in eval mode."""

    def __init__(self, model: T5ForConditionalGeneration) -> None:
        self.model = model
        self.blocks: Any = model.decoder.block
        self.num_heads: int = model.config.num_heads
        self.start_token: int = model.config.decoder_start_token_id or 0
        self.output_scale = model.model_dim**-0.5 if model.config.scale_decoder_outputs else 1.0
        self.head_VE: Tensor = model.lm_head.weight.detach()
        farthest = max(128, model.config.relative_attention_max_distance)
        with torch.no_grad():
            bias_1H1T = self.blocks[0].layer[0].SelfAttention.compute_bias(1, farthest + 1, past_seen_tokens=farthest)
        self.bias_HT = bias_1H1T[0, :, 0].flip(-1)

    @property
    def vocab_size(self) -> int:
        """Rows of the head, padding included: equation 2 normalises over all of them."""
        return len(self.head_VE)

    @property
    def score_type(self) -> torch.dtype:
        """What sums of log-probabilities are kept in: float32 at least."""
        return torch.promote_types(self.head_VE.dtype, torch.float32)

    @torch.no_grad()
    def encode(self, input_ids_BS: Tensor, mask_BS: Tensor) -> Tensor:
        """The encoder's output, [B, S, E]; worth keeping where an input is searched again."""
        rows = len(mask_BS) if mask_BS.device.type != "cpu" else max(1, ENCODED_TOKENS // mask_BS.shape[1])
        blocks = zip(input_ids_BS.split(rows), mask_BS.split(rows), strict=True)
        return torch.cat([self.model.encoder(input_ids=i, attention_mask=m).last_hidden_state for i, m in blocks])

    @torch.no_grad()
    def start(self, encoded_BSE: Tensor, mask_BS: Tensor) -> DecodeState:
        """A state in which nothing has been fed; each layer's cross-attention keys and values are computed, once."""
        cross = []
        for block in self.blocks:
            attention = block.layer[1].EncDecAttention
            cross.append((self._heads(attention.k(encoded_BSE)), self._heads(attention.v(encoded_BSE))))
        batch, device = len(mask_BS), mask_BS.device
        lowest = torch.finfo(encoded_BSE.dtype).min
        return DecodeState(
            cross=cross,
            mask_B11S=(1.0 - mask_BS[:, None, None, :].to(encoded_BSE.dtype)) * lowest,
            position_BP=torch.zeros(batch, 0, dtype=torch.long, device=device),
            lineage_BRP=torch.zeros(batch, 1, 0, dtype=torch.bool, device=device),
            length_B=torch.zeros(batch, dtype=torch.long, device=device),
        )

    def step(self, state: DecodeState, tokens_BR: Tensor) -> Tensor:
        """Feed one token to each of the R hypotheses and return the head's inputs for the next one, [B * R, E]."""
        row_BR = torch.arange(tokens_BR.shape[1], device=tokens_BR.device).expand_as(tokens_BR)
        kept_BR = torch.ones_like(tokens_BR, dtype=torch.bool)
        return self.extend(state, tokens_BR, row_BR, torch.zeros_like(row_BR), kept_BR)

    @torch.no_grad()
    def extend(
        self, state: DecodeState, tokens_BQ: Tensor, row_BQ: Tensor, place_BQ: Tensor, kept_BQ: Tensor,
        live_BQ: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        """Feed tokens that continue hypotheses, several of one at once, and return the head's inputs, [B * Q, E].

        `row_BQ`: the hypothesis that a token continues; `place_BQ`: 0 for the first token after it, 1 for the next.
        `kept_BQ`: the tokens (one of a hypothesis at most, of all or none of an input) by which hypotheses grow; the
        others are looked at and forgotten. With `live_BQ` only those marked are computed and returned, [M, E].
        """
        seen_BQP, distance_BQP = state.enter(row_BQ, place_BQ, kept_BQ, live_BQ)
        bias_BHQP = self.bias_HT[:, distance_BQP.clamp(0, self.bias_HT.shape[1] - 1)].transpose(0, 1)
        mask_BHQP = bias_BHQP.masked_fill(~seen_BQP[:, None], float("-inf"))
        shape, live_M, places = tokens_BQ.shape, None, mask_BHQP.shape[3]
        if live_BQ is not None and not bool(live_BQ.all()):
            live_M = live_BQ.flatten().nonzero().squeeze(1)
        tokens_M = tokens_BQ.flatten() if live_M is None else tokens_BQ.flatten()[live_M]
        hidden_ME = self.model.shared(tokens_M)
        for index, block in enumerate(self.blocks):
            layer = block.layer[0]
            normed_ME, attention = layer.layer_norm(hidden_ME), layer.SelfAttention
            query, key, value = (
                self._spread(project(normed_ME), shape, live_M) for project in (attention.q, attention.k, attention.v)
            )
            keys_BHPD, values_BHPD = state.room(places, key, index)
            keys_BHPD[:, :, places - shape[1] : places] = key
            values_BHPD[:, :, places - shape[1] : places] = value
            mixed = F.scaled_dot_product_attention(
                query, keys_BHPD[:, :, :places], values_BHPD[:, :, :places], attn_mask=mask_BHQP, scale=1.0
            )
            hidden_ME = hidden_ME + attention.o(self._gather(mixed, live_M))
            layer = block.layer[1]
            attention, (key, value) = layer.EncDecAttention, state.cross[index]
            query = self._spread(attention.q(layer.layer_norm(hidden_ME)), shape, live_M)
            mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=state.mask_B11S, scale=1.0)
            hidden_ME = hidden_ME + attention.o(self._gather(mixed, live_M))
            hidden_ME = block.layer[2](hidden_ME)
        return self.model.decoder.final_layer_norm(hidden_ME) * self.output_scale

    @torch.no_grad()
    def log_probs(self, hidden_ME: Tensor, row_C: Tensor, token_C: Tensor) -> tuple[Tensor, Tensor]:
        """Log-probability over the full vocabulary (equation 2) of `token_C` after row `row_C`, and the normaliser_M.

        Logits exist for one block of rows at a time; what is kept of them are the asked-for few and the normaliser.
        """
        normalisers, chosen_C = [], None
        for first, logits_NV in self._logit_blocks(hidden_ME):
            normalisers.append(_log_sum_exp(logits_NV))
            inside_C = (row_C >= first) & (row_C < first + len(logits_NV))
            at_C = (row_C - first).clamp(0, len(logits_NV) - 1)
            logit_C = logits_NV.flatten()[at_C * self.vocab_size + token_C]
            chosen_C = logit_C if chosen_C is None else torch.where(inside_C, logit_C, chosen_C)
        assert chosen_C is not None, "there is at least one row"
        normaliser_M = torch.cat(normalisers)
        return chosen_C - normaliser_M[row_C], normaliser_M

    @torch.no_grad()
    def best(self, hidden_ME: Tensor, count: int, barred_N: Tensor) -> tuple[Tensor, Tensor]:
        """The `count` most probable tokens of each row, without `barred_N`: log-probabilities and tokens, [M, count].

        The probabilities are those of the full vocabulary, barred tokens included. Raises FloatingPointError for logits
        that are not finite.
        """
        log_probs, tokens = [], []
        for _, logits_NV in self._logit_blocks(hidden_ME):
            normaliser_N1 = _log_sum_exp(logits_NV)[:, None]
            check_finite(normaliser_N1)
            top = torch.topk(logits_NV.index_fill_(1, barred_N, float("-inf")), count, dim=-1)
            log_probs.append(top.values - normaliser_N1)
            tokens.append(top.indices)
        return torch.cat(log_probs), torch.cat(tokens)

    def _logit_blocks(self, hidden_ME: Tensor) -> Any:
        """(first row, logits [N, V]) for blocks of rows of nearly equal size; float32 at least."""
        budget = LOGIT_BYTES.get(hidden_ME.device.type, LOGIT_BYTES["cuda"])
        rows = max(1, budget // (self.vocab_size * max(4, hidden_ME.element_size())))
        blocks = -(-len(hidden_ME) // rows)
        bounds = [len(hidden_ME) * block // blocks for block in range(blocks + 1)]
        scratch_NV = hidden_ME.new_empty(-(-len(hidden_ME) // blocks), self.vocab_size)
        for first, end in zip(bounds, bounds[1:], strict=False):
            logits_NV = torch.mm(hidden_ME[first:end], self.head_VE.T, out=scratch_NV[: end - first])
            yield first, logits_NV.float() if logits_NV.element_size() < 4 else logits_NV

    def _heads(self, states_BSI: Tensor) -> Tensor:
        return states_BSI.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)

    def _spread(self, states_MI: Tensor, shape: torch.Size, live_M: Tensor | None) -> Tensor:
        """Rows of live tokens in their places: [B, H, Q, D], zero elsewhere."""
        if live_M is None:
            return self._heads(states_MI.view(*shape, -1))
        states_NI = states_MI.new_zeros(shape.numel(), states_MI.shape[1])
        return self._heads(states_NI.index_copy_(0, live_M, states_MI).view(*shape, -1))

    def _gather(self, mixed_BHQD: Tensor, live_M: Tensor | None) -> Tensor:
        """The rows of live tokens, [M, H * D]."""
        mixed_NI = mixed_BHQD.transpose(1, 2).flatten(2).flatten(0, 1)
        return mixed_NI if live_M is None else mixed_NI[live_M]


def _log_sum_exp(logits_NV: Tensor) -> Tensor:
    """Over the vocabulary, [N]. On the CPU few rows at a time: what is in between then stays in the cache."""
    if logits_NV.device.type != "cpu":
        return torch.logsumexp(logits_NV, dim=-1)
    return torch.cat([torch.logsumexp(rows_NV, dim=-1) for rows_NV in logits_NV.split(16)])


def check_finite(normaliser: Tensor) -> None:
    """Raise FloatingPointError when a sum over the vocabulary is not a number."""
    if not bool(torch.isfinite(normaliser).all()):
        raise FloatingPointError(
            "the model's logits are not finite; its weights hold nan or inf, or are too large for their type"
        )
