"""The shape of a T5 and what follows from it: parameters, what a training step keeps, what it computes.

Enters: numbers, as a `config.json` or a ModelConfig gives them. Leaves: counts of parameters, elements and operations.
Must hold: no torch and no files; `num_parameters` is exactly that of the model, which tests compare.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

FORWARD, BACKWARD_TO_INPUT, BACKWARD_TO_WEIGHT = 2, 2, 2
"""FLOPs per weight and token: a multiplication and an addition each (Kaplan et al. 2020, section 2.1)."""
TRAIN = FORWARD + BACKWARD_TO_INPUT + BACKWARD_TO_WEIGHT
FROZEN = FORWARD + BACKWARD_TO_INPUT


@dataclass(frozen=True)
class Shape:
    """A T5. The fields are named as in Hugging Face's T5Config. `tied`: the head is the embedding (T5 v1.0)."""

    vocab_size: int
    d_model: int
    d_kv: int
    d_ff: int
    num_layers: int
    num_decoder_layers: int
    num_heads: int
    is_gated_act: bool
    tied: bool
    relative_attention_num_buckets: int = 32

    @property
    def inner(self) -> int:
        """Width of queries, keys and values, all heads together."""
        return self.num_heads * self.d_kv

    @property
    def head_weights(self) -> int:
        """Weights that predict a token, and as many that embed one."""
        return self.vocab_size * self.d_model

    @property
    def num_parameters(self) -> int:
        """Parameters, a tied head counted once."""
        return sum(math.prod(shape) for shape in weight_shapes(self).values())


def weight_shapes(shape: Shape) -> dict[str, tuple[int, ...]]:
    """Name and shape of every weight, as Hugging Face's T5 has them; a tied head is the embedding."""
    width, inner = (shape.d_model,), shape.inner
    weights: dict[str, tuple[int, ...]] = {"shared.weight": (shape.vocab_size, shape.d_model)}
    for stack, layers in (("encoder", shape.num_layers), ("decoder", shape.num_decoder_layers)):
        attentions = ["SelfAttention"] if stack == "encoder" else ["SelfAttention", "EncDecAttention"]
        for layer in range(layers):
            block = f"{stack}.block.{layer}.layer"
            for place, attention in enumerate(attentions):
                weights |= {f"{block}.{place}.{attention}.{one}.weight": (inner, shape.d_model) for one in "qkv"}
                weights[f"{block}.{place}.{attention}.o.weight"] = (shape.d_model, inner)
            feed_forward = f"{block}.{len(attentions)}.DenseReluDense"
            for one in ("wi_0", "wi_1") if shape.is_gated_act else ("wi",):
                weights[f"{feed_forward}.{one}.weight"] = (shape.d_ff, shape.d_model)
            weights[f"{feed_forward}.wo.weight"] = (shape.d_model, shape.d_ff)
            weights |= {f"{block}.{place}.layer_norm.weight": width for place in range(len(attentions) + 1)}
        positions = f"{stack}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
        weights[positions] = (shape.relative_attention_num_buckets, shape.num_heads)
        weights[f"{stack}.final_layer_norm.weight"] = width
    if not shape.tied:
        weights["lm_head.weight"] = weights["shared.weight"]
    return weights


def from_config_json(values: Mapping[str, Any]) -> Shape:
    """The shape that a `config.json` of Hugging Face describes. Raises ValueError where it is no T5's."""
    if values.get("model_type") != "t5":
        raise ValueError(f"model_type is {values.get('model_type')!r}, not 't5'")
    try:
        return Shape(
            vocab_size=values["vocab_size"],
            d_model=values["d_model"],
            d_kv=values["d_kv"],
            d_ff=values["d_ff"],
            num_layers=values["num_layers"],
            num_decoder_layers=values.get("num_decoder_layers") or values["num_layers"],
            num_heads=values["num_heads"],
            is_gated_act=values.get("is_gated_act", str(values.get("feed_forward_proj", "relu")).startswith("gated")),
            # transformers 5 writes `tie_word_embeddings: true` whatever the model does.
            tied=values.get("scale_decoder_outputs", values.get("tie_word_embeddings") is not False),
            relative_attention_num_buckets=values.get("relative_attention_num_buckets", 32),
        )
    except KeyError as error:
        raise ValueError(f"it has no {error.args[0]}") from error


def token_weights(shape: Any) -> tuple[int, int, int]:
    """Weights that an input token meets, that a target token meets, and those of the head.

    An input token passes the encoder and the cross-attention's keys and values in every decoder layer. `shape` is a
    Shape or a T5Config.
    """
    inner = shape.num_heads * shape.d_kv
    attention = 4 * shape.d_model * inner
    feed_forward = (3 if shape.is_gated_act else 2) * shape.d_model * shape.d_ff
    decoder_layers = shape.num_decoder_layers or shape.num_layers
    source = shape.num_layers * (attention + feed_forward) + decoder_layers * attention // 2
    target = decoder_layers * (attention + attention // 2 + feed_forward)
    return source, target, shape.vocab_size * shape.d_model


def passes(input_tokens: float, target_tokens: float, shape: Any) -> float:
    """Weights met by all tokens of a batch; times TRAIN or FROZEN its FLOPs (attention's scores are left out)."""
    source, target, head = token_weights(shape)
    return float(input_tokens * source + target_tokens * (target + head))


def kept_elements(shape: Shape, rows: float, source: float, target: float, recomputed: bool, frozen: bool) -> float:
    """Numbers that a forward pass keeps for its gradient, of `rows` inputs `source` wide and targets `target` wide.

    The multiples per layer and token are what torch 2.13 and transformers 5 keep, seen with `saved_tensors_hooks`
    (tests/pretrain/test_shape.py). `recomputed`: with activation checkpointing a layer keeps its input, and one layer
    at a time keeps the rest. `frozen`: products with weights that take no gradient do not keep their inputs.
    """
    norm, feed_forward = (1, 3) if frozen else (3, 4)
    if not shape.is_gated_act:
        feed_forward = 1
    scores = 0 if frozen else shape.num_heads
    encoder_token = 2 * norm * shape.d_model + feed_forward * shape.d_ff + 4 * shape.inner + scores * source
    decoder_token = 3 * norm * shape.d_model + feed_forward * shape.d_ff + 6 * shape.inner + scores * target
    encoder_layer = rows * source * encoder_token
    decoder_layer = rows * (target * decoder_token + source * 2 * shape.inner)
    ends = rows * (source + target) * norm * shape.d_model
    if not recomputed:
        return shape.num_layers * encoder_layer + shape.num_decoder_layers * decoder_layer + ends
    inputs = rows * shape.d_model * (shape.num_layers * source + shape.num_decoder_layers * target)
    return inputs + max(encoder_layer, decoder_layer) + ends
