"""Soft IDs (section 2.5.2, equation 6): the generator's expected embeddings, inserted in the prompt.

Enters: what the generator's head sees at every token of the assigned IDs. Leaves: one embedding of the recommender for
each. Must hold: a prompt of one-hot soft IDs is the discrete prompt; by default they are `softmax(h W^T) E` exactly; no
array of [tokens, vocabulary] outlives its chunk.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pretrain.config.soft_ids import SoftIdConfig
from pretrain.model.vocabulary_loss import chunks, expected_embeddings


def check(options: SoftIdConfig, vocab_size: int) -> None:
    """Raise ValueError when the options do not fit the vocabulary."""
    if options.top_k is not None and options.top_k > vocab_size:
        raise ValueError(f"soft_ids.top_k is {options.top_k}; the vocabulary has {vocab_size} tokens")


def soft_ids(
    hidden_ME: Tensor, head_VE: Tensor, embedding_VD: Tensor, labels_M: Tensor, options: SoftIdConfig
) -> Tensor:
    """Emb(Logits) of equation 6: soft tokens [M, D] from the head's inputs [M, E].

    `labels_M`: the assigned IDs' tokens; `embedding_VD` is fixed.
    """
    if options.temperature != 1.0:
        hidden_ME = hidden_ME / options.temperature  # the head is linear: the logits are divided
    if options.top_k is None:
        soft_MD = expected_embeddings(hidden_ME, head_VE, embedding_VD)
    else:
        soft_MD = expected_top_embeddings(hidden_ME, head_VE, embedding_VD, options.top_k)
    if options.straight_through:
        return embedding_VD[labels_M] + (soft_MD - soft_MD.detach())  # the difference is 0, its gradient is not
    return soft_MD


def insert(prompt_BSE: Tensor, soft_ME: Tensor, slot_BS: Tensor) -> Tensor:
    """Emb_interp = Insert(Emb(prompt), Emb(Logits)), equation 6: position (b, s) takes row `slot_BS[b, s]` of
    the soft IDs, or keeps the prompt's embedding where that is -1."""
    return torch.where((slot_BS >= 0)[..., None], soft_ME[slot_BS.clamp(min=0)], prompt_BSE)


def expected_top_embeddings(hidden_ME: Tensor, head_VE: Tensor, embedding_VD: Tensor, k: int) -> Tensor:
    """The mean embedding [M, D] under the softmax over each row's k largest logits. `embedding_VD` is fixed.

    One product with the vocabulary instead of six; kept for the gradient are k token ids and weights a row.
    """
    mean_MD: Any = _ExpectedTopEmbeddings.apply(hidden_ME, head_VE, embedding_VD, k)
    return mean_MD


class _ExpectedTopEmbeddings(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden_ME: Tensor, head_VE: Tensor, embedding_VD: Tensor, k: int) -> Tensor:
        token_MK = hidden_ME.new_empty(len(hidden_ME), k, dtype=torch.int64)
        weight_MK = hidden_ME.new_empty(len(hidden_ME), k)
        mean_MD = hidden_ME.new_empty(len(hidden_ME), embedding_VD.shape[1])
        wide = torch.promote_types(hidden_ME.dtype, torch.float32)
        for rows in chunks(len(hidden_ME), max(len(head_VE), k * embedding_VD.shape[1]), hidden_ME.device):
            top_NK, token_MK[rows] = torch.mm(hidden_ME[rows], head_VE.T).topk(k)
            weight_MK[rows] = torch.softmax(top_NK.to(wide), dim=-1).to(hidden_ME.dtype)
            mean_MD[rows] = torch.bmm(weight_MK[rows, None], embedding_VD[token_MK[rows]]).squeeze(1)
        ctx.save_for_backward(hidden_ME, head_VE, embedding_VD, token_MK, weight_MK, mean_MD)
        return mean_MD

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor, Tensor | None, None, None]:
        hidden_ME, head_VE, embedding_VD, token_MK, weight_MK, mean_MD = ctx.saved_tensors
        (grad_MD,) = gradients
        grad_ME = torch.empty_like(hidden_ME)
        grad_VE = torch.zeros_like(head_VE) if ctx.needs_input_grad[1] else None
        # d/dlogit_v of <g, sum p E> is p_v (<g, E_v> - <g, mean>), as for the whole vocabulary
        offset_M1 = (grad_MD * mean_MD).sum(-1, keepdim=True)
        widest = token_MK.shape[1] * max(head_VE.shape[1], embedding_VD.shape[1])
        for rows in chunks(len(hidden_ME), widest, hidden_ME.device):
            along_NK = torch.bmm(embedding_VD[token_MK[rows]], grad_MD[rows, :, None]).squeeze(2)
            grad_NK = weight_MK[rows] * (along_NK - offset_M1[rows])
            grad_ME[rows] = torch.bmm(grad_NK[:, None], head_VE[token_MK[rows]]).squeeze(1)
            if grad_VE is not None:
                update_NKE = grad_NK[..., None] * hidden_ME[rows, None]
                grad_VE.index_add_(0, token_MK[rows].flatten(), update_NKE.flatten(0, 1))
        return grad_ME, grad_VE, None, None
