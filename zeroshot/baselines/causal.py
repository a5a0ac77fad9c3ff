"""A small causal transformer over item vectors: what SASRec and the frozen text encoder's sequence model share.

Enters: item vectors of histories, oldest first, padded at the end. Leaves: one state per position, made of that
position and the ones before it. What must hold: what stands after a position changes nothing, so padding needs no mask
and all positions of a history are trained in one pass.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pretrain.model.vocabulary_loss import IGNORED
from shards import counters

SORTED_BATCHES = 16
"""Batches whose users are sorted by length together, so that little is padded."""


@dataclass(frozen=True)
class Shape:
    """Size of the transformer; longer histories keep their last `max_length` items."""

    width: int = 64
    heads: int = 2
    layers: int = 2
    max_length: int = 50
    dropout: float = 0.5


class Layer(nn.Module):
    """Attention and feed-forward network, each normalised after its residual (as SASRec of RecBole, and BERT)."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        width = shape.width
        self.heads, self.dropout = shape.heads, shape.dropout
        self.queries_keys_values, self.output = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.norm_attention, self.norm_feed = nn.LayerNorm(width), nn.LayerNorm(width)

    def forward(self, x_BTD: Tensor) -> Tensor:
        dropout = self.dropout if self.training else 0.0
        split = self.queries_keys_values(x_BTD).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(split[0], split[1], split[2], dropout_p=dropout, is_causal=True)
        attended_BTD = self.output(attended.transpose(1, 2).flatten(2))
        x_BTD = self.norm_attention(x_BTD + F.dropout(attended_BTD, dropout))
        fed_BTD = self.down(F.gelu(self.up(x_BTD)))
        return self.norm_feed(x_BTD + F.dropout(fed_BTD, dropout))


class CausalTransformer(nn.Module):
    """States [B, T, D] of item vectors [B, T, D]; weights are a function of the seed alone."""

    def __init__(self, shape: Shape, seed: int) -> None:
        super().__init__()
        self.shape = shape
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.positions_TD = nn.Parameter(torch.randn(shape.max_length, shape.width) * 0.02)
            self.norm = nn.LayerNorm(shape.width)
            self.layers = nn.ModuleList(Layer(shape) for _ in range(shape.layers))
            for module in self.modules():
                if isinstance(module, nn.Linear):
                    nn.init.normal_(module.weight, std=0.02)
                    nn.init.zeros_(module.bias)

    def forward(self, vectors_BTD: Tensor) -> Tensor:
        x_BTD = self.norm(vectors_BTD + self.positions_TD[: vectors_BTD.shape[1]])
        x_BTD = F.dropout(x_BTD, self.shape.dropout, self.training)
        for layer in self.layers:
            x_BTD = layer(x_BTD)
        return x_BTD


def padded(histories: list[np.ndarray], fill: int) -> Tensor:
    """Histories as one int64 tensor [B, T], filled at the end."""
    width = max(len(history) for history in histories)
    rows_BT = np.full((len(histories), width), fill, dtype=np.int64)
    for row, history in enumerate(histories):
        rows_BT[row, : len(history)] = history
    return torch.from_numpy(rows_BT)


def last_states(model: CausalTransformer, vectors_BTD: Tensor, histories: list[np.ndarray]) -> Tensor:
    """The state of each history's last item, [B, D]."""
    places_B = torch.tensor([len(history) - 1 for history in histories], device=vectors_BTD.device)
    return model(vectors_BTD)[torch.arange(len(histories), device=vectors_BTD.device), places_B]


def training_batches(
    sequences: list[np.ndarray], max_length: int, users: int, seed: int, epoch: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """One epoch: (inputs [B, T], the next item at each position [B, T], -100 where there is none), like lengths
    together, in an order that (seed, epoch) decides. Sequences of one item teach nothing and are left out."""
    taught = [sequence[-max_length - 1 :] for sequence in sequences if len(sequence) > 1]
    draw = counters.generator(seed, "training-batches", epoch)
    order, lengths = draw.permutation(len(taught)), np.array([len(sequence) for sequence in taught])
    groups = [order[start : start + SORTED_BATCHES * users] for start in range(0, len(order), SORTED_BATCHES * users)]
    batches = []
    for group in groups:
        by_length = group[np.argsort(lengths[group], kind="stable")]
        batches += [by_length[start : start + users] for start in range(0, len(by_length), users)]
    for number in draw.permutation(len(batches)):
        chosen = [taught[user] for user in batches[number]]
        yield padded([sequence[:-1] for sequence in chosen], 0), padded([sequence[1:] for sequence in chosen], IGNORED)
