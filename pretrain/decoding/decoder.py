"""One decoding step of a T5, with the cross-attention keys and values shared by all rows of an input.

Enters: a Hugging Face T5 and a batch of inputs. Leaves: hidden states of the next position for R rows per input.
Must hold: equal to the model's own forward pass within 1e-5 in float32. Hugging Face's `generate` repeats the encoder
output once per beam; here the beams of one user read one copy, which is most of the work of a wide beam (ANCHORS).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import T5ForConditionalGeneration


@dataclass
class DecodeState:
    """Keys and values of a batch of inputs: `cross` per layer [B, H, S, D]; `own` per layer [B, R, H, T, D]."""

    cross: list[tuple[Tensor, Tensor]]
    own: list[tuple[Tensor, Tensor] | None]
    mask_B11S: Tensor
    length: int = 0

    def select_inputs(self, index_N: Tensor) -> DecodeState:
        """The state of the inputs `index_N` alone, in that order."""
        own = [None if pair is None else (pair[0][index_N], pair[1][index_N]) for pair in self.own]
        cross = [(keys[index_N], values[index_N]) for keys, values in self.cross]
        return DecodeState(cross, own, self.mask_B11S[index_N], self.length)


class T5Decoder:
    """Decoder of a frozen T5, one step at a time, R hypotheses per input."""

    def __init__(self, model: T5ForConditionalGeneration) -> None:
        self.model = model
        self.blocks: Any = model.decoder.block
        self.num_heads: int = model.config.num_heads
        self.start_token: int = model.config.decoder_start_token_id or 0
        self.output_scale = model.model_dim**-0.5 if model.config.scale_decoder_outputs else 1.0

    @torch.no_grad()
    def start(self, input_ids_BS: Tensor, mask_BS: Tensor) -> DecodeState:
        """Encode the inputs and compute each layer's cross-attention keys and values, once."""
        encoded_BSE = self.model.encoder(input_ids=input_ids_BS, attention_mask=mask_BS).last_hidden_state
        cross = []
        for block in self.blocks:
            attention = block.layer[1].EncDecAttention
            cross.append((self._heads(attention.k(encoded_BSE)), self._heads(attention.v(encoded_BSE))))
        lowest = torch.finfo(encoded_BSE.dtype).min
        mask_B11S = (1.0 - mask_BS[:, None, None, :].to(encoded_BSE.dtype)) * lowest
        return DecodeState(cross, [None] * len(self.blocks), mask_B11S)

    @torch.no_grad()
    def step(self, state: DecodeState, tokens_BR: Tensor, parents_BR: Tensor | None = None) -> Tensor:
        """Feed one token to each row and return the head's logits for the next position, [B, R, V].

        `parents_BR` names, for each row, the row of the step before that it continues (None: the same row).
        """
        hidden_BRE = self.model.shared(tokens_BR)
        bias_1H1T = self._position_bias(state.length + 1)
        if parents_BR is not None and state.length:
            batch_B1 = torch.arange(parents_BR.shape[0], device=parents_BR.device)[:, None]
            state.own = [(pair[0][batch_B1, parents_BR], pair[1][batch_B1, parents_BR]) for pair in state.own if pair]
        for index, block in enumerate(self.blocks):
            hidden_BRE = hidden_BRE + self._self_attention(block.layer[0], hidden_BRE, state, index, bias_1H1T)
            hidden_BRE = hidden_BRE + self._cross_attention(block.layer[1], hidden_BRE, state, index)
            hidden_BRE = block.layer[2](hidden_BRE)
        state.length += 1
        hidden_BRE = self.model.decoder.final_layer_norm(hidden_BRE) * self.output_scale
        return self.model.lm_head(hidden_BRE)

    def _heads(self, states_BSI: Tensor) -> Tensor:
        batch, length, inner = states_BSI.shape
        return states_BSI.view(batch, length, self.num_heads, inner // self.num_heads).transpose(1, 2)

    def _position_bias(self, length: int) -> Tensor:
        attention = self.blocks[0].layer[0].SelfAttention
        return attention.compute_bias(1, length, past_seen_tokens=length - 1)

    def _self_attention(
        self, layer: Any, hidden_BRE: Tensor, state: DecodeState, index: int, bias_1H1T: Tensor
    ) -> Tensor:
        attention, normed_BRE = layer.SelfAttention, layer.layer_norm(hidden_BRE)
        batch, rows, _ = normed_BRE.shape
        shape = (batch, rows, self.num_heads, 1, -1)
        query, key, value = (project(normed_BRE).view(shape) for project in (attention.q, attention.k, attention.v))
        cached = state.own[index]
        if cached is not None:
            key, value = torch.cat([cached[0], key], dim=3), torch.cat([cached[1], value], dim=3)
        state.own[index] = (key, value)
        weights_BRH1T = torch.softmax(query @ key.transpose(3, 4) + bias_1H1T[:, None], dim=-1)
        return attention.o((weights_BRH1T @ value).view(batch, rows, -1))

    def _cross_attention(self, layer: Any, hidden_BRE: Tensor, state: DecodeState, index: int) -> Tensor:
        attention = layer.EncDecAttention
        query_BHRD = self._heads(attention.q(layer.layer_norm(hidden_BRE)))
        key_BHSD, value_BHSD = state.cross[index]
        weights_BHRS = torch.softmax(query_BHRD @ key_BHSD.transpose(2, 3) + state.mask_B11S, dim=-1)
        mixed_BRI = (weights_BHRS @ value_BHSD).transpose(1, 2).reshape(*hidden_BRE.shape[:2], -1)
        return attention.o(mixed_BRI)
