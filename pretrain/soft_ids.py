"""Soft IDs (section 2.5.2): the generator's expected embeddings, inserted in the prompt.

Must hold: a prompt of one-hot soft IDs is the discrete prompt.
"""

from __future__ import annotations

import torch
from torch import Tensor


def insert(prompt_BSE: Tensor, soft_ME: Tensor, slot_BS: Tensor) -> Tensor:
    """Insert(Emb(prompt), Emb(Logits)): position (b, s) takes row `slot_BS[b, s]` of the soft IDs, or keeps the
    prompt's embedding where that is -1."""
    return torch.where((slot_BS >= 0)[..., None], soft_ME[slot_BS.clamp(min=0)], prompt_BSE)
