"""Rows of unlike lengths as a few buckets of like lengths, so that little of what is computed is padding.

Enters: the mask and labels of a batch. Leaves: for each bucket its rows, in order of length, and their width. Must
hold: every row is in one bucket; the number of buckets is a function of the number of rows alone, so that all ranks
call their modules equally often (ZeRO stage 3 gathers weights in every call).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pretrain.model.vocabulary_loss import IGNORED

ROWS, MOST = {"cpu": 8, "cuda": 256}, 8
"""About so many rows a bucket, and buckets at most. Each costs launches on a GPU, which is what a small model waits for
there, and one more sum of gradients on a CPU."""
MULTIPLE = {"cpu": 1, "cuda": 8}
"""Widths are rounded up to it: a GPU's attention wants aligned rows."""
BOUNDS = 64
"""Even places where sorted rows may be cut, beside those where their length changes."""


@dataclass(frozen=True)
class LengthBucket:
    """Rows that are computed together and how wide: `width` input tokens, `num_labels` labels."""

    rows_N: Tensor
    width: int
    num_labels: int

    @property
    def tokens(self) -> int:
        """Tokens that are computed, padding included."""
        return len(self.rows_N) * (self.width + self.num_labels)


def cut(lengths: np.ndarray, buckets: int) -> list[int]:
    """The bounds 0, ..., len(lengths) of `buckets` runs of ascending lengths with the least sum of rows x longest."""
    even = np.linspace(0, len(lengths), min(BOUNDS, len(lengths)) + 1).astype(int)
    bounds = np.unique(np.concatenate([even, np.flatnonzero(np.diff(lengths)) + 1]))
    longest = np.concatenate([[0], lengths[bounds[1:] - 1]])
    runs = np.where(bounds[:, None] > bounds, (bounds[:, None] - bounds) * longest[:, None], np.inf)  # [end, begin]
    least = np.where(bounds == 0, 0.0, np.inf)
    befores = []
    for _ in range(buckets):
        costs = least + runs
        befores.append(costs.argmin(1))
        least = costs.min(1)
    at, ends = len(bounds) - 1, [len(lengths)]
    for before in reversed(befores):
        at = before[at]
        ends.append(int(bounds[at]))
    return ends[::-1]


def buckets_of(mask_BS: Tensor, labels_BT: Tensor, device: torch.device | None = None) -> list[LengthBucket]:
    """The buckets of a batch whose padding stands behind the tokens and the labels.

    `device`: where they will be computed; none = where the batch is.
    """
    device = device or mask_BS.device
    multiple, rows_wanted = (known.get(device.type, known["cuda"]) for known in (MULTIPLE, ROWS))
    lengths_2B = torch.stack([mask_BS.sum(1), (labels_BT != IGNORED).sum(1)]).cpu().numpy()
    width_B, num_labels_B = np.maximum(-(-lengths_2B // multiple) * multiple, 1)
    order = np.argsort(width_B, kind="stable")
    bounds = cut(width_B[order], max(1, min(MOST, len(order) // rows_wanted)))
    buckets = []
    for first, end in zip(bounds[:-1], bounds[1:], strict=True):
        rows = order[first:end]
        width = min(int(width_B[rows].max()), mask_BS.shape[1])
        num_labels = min(int(num_labels_B[rows].max()), labels_BT.shape[1])
        buckets.append(LengthBucket(torch.from_numpy(rows).to(device), width, num_labels))
    return buckets
