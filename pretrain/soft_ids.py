"""Soft IDs (section 2.5.2): generator logits -> expected recommender embeddings -> inserted in the prompt.

Must hold: the weights are probabilities (a softmax at temperature 1, not log-probabilities), so a one-hot distribution
gives exactly the embedding of its token, and a prompt of one-hot soft IDs the discrete loss.
"""

from __future__ import annotations

import torch
from torch import Tensor


def expected_embeddings(logits_ITV: Tensor, embedding_VE: Tensor) -> Tensor:
    """Emb(Logits(V)): the mean recommender embedding under the generator's distribution, [I, T, E]."""
    return torch.softmax(logits_ITV, dim=-1) @ embedding_VE


def insert(prompt_BSE: Tensor, soft_ITE: Tensor, slot_BS: Tensor) -> Tensor:
    """Insert(Emb(prompt), Emb(Logits)): position (b, s) takes row `slot_BS[b, s]` of the flattened soft IDs, or keeps
    the prompt's embedding where that is -1."""
    soft_BSE = soft_ITE.flatten(0, 1)[slot_BS.clamp(min=0)]
    return torch.where((slot_BS >= 0)[..., None], soft_BSE, prompt_BSE)
