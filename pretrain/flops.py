"""Floating-point operations that a batch needs, by its real tokens.

Enters: a batch and the shapes of the two T5s. Leaves: FLOPs of one step's forward and backward pass. Must hold: only
what the model needs is counted: no padding, nothing that is computed twice to save memory, and of attention only its
matrices (the products of queries and keys, some percent at our lengths, are left out, so utilisation is understated).
"""

from __future__ import annotations

from typing import Any

from pretrain.batches import GeneratorBatch, TextBatch
from pretrain.shape import FROZEN, TRAIN, passes


def batch_flops(batch: TextBatch | GeneratorBatch, recommender: Any, generator: Any) -> float:
    """FLOPs of one step over the batch. A TextBatch is taken to be the recommender's: pass its model twice else."""
    if isinstance(batch, TextBatch):
        return TRAIN * passes(batch.input_tokens, batch.num_targets, recommender)
    soft = FROZEN * recommender.vocab_size * recommender.d_model  # the embeddings are fixed
    frozen = FROZEN * passes(batch.prompt.input_tokens, batch.prompt.num_targets, recommender)
    writing = TRAIN * passes(batch.item_tokens, batch.id_tokens, generator)
    return writing + batch.id_tokens * soft + frozen
