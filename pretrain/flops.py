"""Floating-point operations that a batch needs, by its real tokens.

Enters: a batch and the shapes of the two T5s. Leaves: FLOPs of one step's forward and backward pass. Must hold: only
what the model needs is counted: no padding, nothing that is computed twice to save memory, and of attention only its
matrices (the products of queries and keys, some percent at our lengths, are left out, so utilisation is understated).
"""

from __future__ import annotations

from typing import Any

from pretrain.batches import GeneratorBatch, TextBatch

FORWARD, BACKWARD_TO_INPUT, BACKWARD_TO_WEIGHT = 2, 2, 2
"""Per weight and token: a multiplication and an addition each (Kaplan et al. 2020, section 2.1)."""
TRAIN = FORWARD + BACKWARD_TO_INPUT + BACKWARD_TO_WEIGHT


def token_weights(shape: Any) -> tuple[int, int, int]:
    """Weights that an input token meets, that a target token meets, and those of the head.

    An input token passes the encoder and the cross-attention's keys and values in every decoder layer.
    """
    inner = shape.num_heads * shape.d_kv
    attention = 4 * shape.d_model * inner
    feed_forward = (3 if shape.is_gated_act else 2) * shape.d_model * shape.d_ff
    decoder_layers = shape.num_decoder_layers or shape.num_layers
    source = shape.num_layers * (attention + feed_forward) + decoder_layers * attention // 2
    target = decoder_layers * (attention + attention // 2 + feed_forward)
    return source, target, shape.vocab_size * shape.d_model


def batch_flops(batch: TextBatch | GeneratorBatch, recommender: Any, generator: Any) -> float:
    """FLOPs of one step over the batch. A TextBatch is taken to be the recommender's: pass its model twice else."""
    if isinstance(batch, TextBatch):
        return TRAIN * _passes(batch.input_tokens, batch.num_targets, recommender)
    soft = (FORWARD + BACKWARD_TO_INPUT) * recommender.vocab_size * recommender.d_model  # the embeddings are fixed
    frozen = (FORWARD + BACKWARD_TO_INPUT) * _passes(batch.prompt.input_tokens, batch.prompt.num_targets, recommender)
    writing = TRAIN * _passes(batch.item_tokens, batch.id_tokens, generator)
    return writing + batch.id_tokens * soft + frozen


def _passes(input_tokens: int, target_tokens: int, shape: Any) -> float:
    source, target, head = token_weights(shape)
    return float(input_tokens * source + target_tokens * (target + head))
