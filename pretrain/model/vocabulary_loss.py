"""The two places where training meets the whole vocabulary, in chunks of rows that are computed again for the gradient.

Enters: decoder states and the head. Leaves: the summed cross-entropy (equation 4), or expected embeddings
(`softmax(h W^T) E`, section 2.5.2). Must hold: equal to the plain formulas in value and gradient; no array of
[rows, vocabulary] outlives its chunk, forward or backward.

What is kept for the gradient is one number a row (the log-sum-exp) instead of one for each row and token.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

CHUNK_BYTES = {"cpu": 16 << 20, "cuda": 512 << 20}
"""Logits of one chunk. On the CPU larger arrays cost a page fault per page, each time."""
IGNORED = -100


def chunks(rows: int, vocab_size: int, device: torch.device) -> list[slice]:
    """Nearly equal runs of rows whose float32 logits fit `CHUNK_BYTES`."""
    size = max(1, CHUNK_BYTES.get(device.type, CHUNK_BYTES["cuda"]) // (4 * vocab_size))
    parts = -(-rows // size)
    return [slice(rows * part // parts, rows * (part + 1) // parts) for part in range(parts)]


def cross_entropy(hidden_ME: Tensor, head_VE: Tensor, labels_M: Tensor) -> tuple[Tensor, Tensor]:
    """Sum of -log p(label) over labels that are not -100, in float32 at least, and their number.

    `hidden_ME` are the head's inputs, scaled where the model scales them. Rows without a label are not computed.
    """
    real_N = (labels_M != IGNORED).nonzero().squeeze(1)
    loss: Any = _CrossEntropy.apply(hidden_ME[real_N], head_VE, labels_M[real_N])
    return loss, (labels_M != IGNORED).sum()


def expected_embeddings(hidden_ME: Tensor, head_VE: Tensor, embedding_VD: Tensor) -> Tensor:
    """`softmax(h W^T) E`, [M, D]: the mean embedding under the distribution of each row. `embedding_VD` is fixed."""
    mean_MD: Any = _ExpectedEmbeddings.apply(hidden_ME, head_VE, embedding_VD)
    return mean_MD


class _CrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden_ME: Tensor, head_VE: Tensor, labels_M: Tensor) -> Tensor:
        normaliser_M = hidden_ME.new_empty(len(hidden_ME), dtype=_wide(hidden_ME.dtype))
        loss = normaliser_M.new_zeros(())
        for rows in chunks(len(hidden_ME), len(head_VE), hidden_ME.device):
            logits_NV = _logits(hidden_ME[rows], head_VE)
            normaliser_M[rows] = torch.logsumexp(logits_NV, dim=-1)
            chosen_N = logits_NV.gather(1, labels_M[rows, None]).squeeze(1)
            loss += (normaliser_M[rows] - chosen_N).sum()
        ctx.save_for_backward(hidden_ME, head_VE, labels_M, normaliser_M)
        return loss

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor, Tensor | None, None]:
        hidden_ME, head_VE, labels_M, normaliser_M = ctx.saved_tensors
        grad_ME = torch.empty_like(hidden_ME)
        grad_VE = torch.zeros_like(head_VE) if ctx.needs_input_grad[1] else None
        for rows in chunks(len(hidden_ME), len(head_VE), hidden_ME.device):
            grad_NV = _logits(hidden_ME[rows], head_VE).sub_(normaliser_M[rows, None]).exp_()
            grad_NV.scatter_add_(1, labels_M[rows, None], grad_NV.new_full((len(grad_NV), 1), -1.0))
            grad_NV = grad_NV.mul_(gradients[0]).to(hidden_ME.dtype)
            torch.mm(grad_NV, head_VE, out=grad_ME[rows])
            if grad_VE is not None:
                grad_VE.addmm_(grad_NV.T, hidden_ME[rows])
            del grad_NV  # or it stands beside the next chunk's
        return grad_ME, grad_VE, None


class _ExpectedEmbeddings(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden_ME: Tensor, head_VE: Tensor, embedding_VD: Tensor) -> Tensor:
        normaliser_M = hidden_ME.new_empty(len(hidden_ME), dtype=_wide(hidden_ME.dtype))
        mean_MD = hidden_ME.new_empty(len(hidden_ME), embedding_VD.shape[1])
        for rows in chunks(len(hidden_ME), len(head_VE), hidden_ME.device):
            logits_NV = _logits(hidden_ME[rows], head_VE)
            normaliser_M[rows] = torch.logsumexp(logits_NV, dim=-1)
            weights_NV = logits_NV.sub_(normaliser_M[rows, None]).exp_().to(hidden_ME.dtype)
            torch.mm(weights_NV, embedding_VD, out=mean_MD[rows])
            del logits_NV, weights_NV  # or they stand beside the next chunk's
        ctx.save_for_backward(hidden_ME, head_VE, embedding_VD, normaliser_M, mean_MD)
        return mean_MD

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor, Tensor | None, None]:
        hidden_ME, head_VE, embedding_VD, normaliser_M, mean_MD = ctx.saved_tensors
        (grad_MD,) = gradients
        grad_ME = torch.empty_like(hidden_ME)
        grad_VE = torch.zeros_like(head_VE) if ctx.needs_input_grad[1] else None
        # d/dlogit_v of <g, sum p E> is p_v (<g, E_v> - <g, mean>)
        offset_M1 = (grad_MD * mean_MD).sum(-1, keepdim=True)
        for rows in chunks(len(hidden_ME), len(head_VE), hidden_ME.device):
            weights_NV = _logits(hidden_ME[rows], head_VE).sub_(normaliser_M[rows, None]).exp_()
            grad_NV = torch.mm(grad_MD[rows], embedding_VD.T).sub_(offset_M1[rows])
            grad_NV = grad_NV.mul_(weights_NV).to(hidden_ME.dtype)
            torch.mm(grad_NV, head_VE, out=grad_ME[rows])
            if grad_VE is not None:
                grad_VE.addmm_(grad_NV.T, hidden_ME[rows])
            del weights_NV, grad_NV
        return grad_ME, grad_VE, None


def _wide(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)


def _logits(hidden_NE: Tensor, head_VE: Tensor) -> Tensor:
    return torch.mm(hidden_NE, head_VE.T).to(_wide(hidden_NE.dtype))
