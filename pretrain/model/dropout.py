"""Dropout keyed by sample: a mask is a function of the sample and the place in the model, and of nothing else.

Enters: one int64 key a row, made of (seed, epoch, sample) where the batch is built. Leaves: masks from a counter-based
hash of (key, site, position, feature) in integer arithmetic, the same on every device. Must hold: a sample's mask does
not depend on padding, neighbours, micro-batch or rank, and a layer computed again for its gradient drops the same.

Dropped are T5's residual branches, the inside of its feed-forward layers, and both ends of encoder and decoder.
Attention weights are not: the fused kernel draws that mask itself, out of reach of a key.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers.modeling_layers import GradientCheckpointingLayer

LEVELS = 1 << 16
"""Rates are multiples of 1/65536: one hash of 32 bits serves two features."""
CALLS = 2
"""Most calls of one site in a forward pass: encoder and decoder use one module at their beginning and at their end."""


def dropped(keys_B: Tensor, site: int, length: int, width: int, threshold: int) -> Tensor:
    """Bool [B, length, width]: True with probability `threshold` / 65536, by the hash of (key, site, place)."""
    # splitmix64's finaliser over sites and positions (64 bits), then murmur3's over features (32 bits), where most of
    # the work is. Both rely on multiplication modulo 2 ** bits, which is what all devices do. Counters come in by xor:
    # torch.compile computes sums and products of a range in unbounded integers, and they would not fit.
    site_B = _mixed(keys_B ^ site)
    base_BS1 = (_mixed(site_B[:, None] ^ torch.arange(length, device=keys_B.device)) >> 32).to(torch.int32)[..., None]
    word_BSW = base_BS1 ^ torch.arange(-(-width // 2), device=keys_B.device, dtype=torch.int32)
    word_BSW ^= _shifted(word_BSW, 16, 32)
    word_BSW *= -0x7A143595
    word_BSW ^= _shifted(word_BSW, 13, 32)
    word_BSW *= -0x3D4D51CB
    word_BSW ^= _shifted(word_BSW, 16, 32)
    return word_BSW.view(torch.int16)[..., :width] < threshold - LEVELS // 2


def _mixed(word: Tensor) -> Tensor:
    """The finaliser of splitmix64."""
    word = (word ^ _shifted(word, 30, 64)) * -0x40A7B892E31B1A47
    word = (word ^ _shifted(word, 27, 64)) * -0x6B2FB644ECCEEE15
    return word ^ _shifted(word, 31, 64)


def _shifted(word: Tensor, by: int, bits: int) -> Tensor:
    """Logical shift to the right; torch's keeps the sign."""
    return (word >> by).bitwise_and_((1 << (bits - by)) - 1)


class KeyedDropout(nn.Module):
    """Dropout of [B, S, D] by the keys set for the pass (`keyed`); nothing in eval mode."""

    def __init__(self, rate: float, site: int) -> None:
        super().__init__()
        self.threshold = min(round(rate * LEVELS), LEVELS - 1)
        self.site = site
        self.keys_B: Tensor | None = None
        self.calls = 0

    def forward(self, hidden_BSD: Tensor) -> Tensor:
        if not self.training:
            return hidden_BSD
        assert self.keys_B is not None, "a model with keyed dropout is trained inside `keyed`, with the batch's keys"
        assert self.calls < CALLS, "one forward pass for each `keyed`"
        site = self.site * CALLS + self.calls
        self.calls += 1
        dropped_BSD = dropped(self.keys_B, site, hidden_BSD.shape[1], hidden_BSD.shape[2], self.threshold)
        return (hidden_BSD * (LEVELS / (LEVELS - self.threshold))).masked_fill_(dropped_BSD, 0.0)

    def extra_repr(self) -> str:
        return f"rate={self.threshold / LEVELS:g}, site={self.site}"


def key_dropout(model: nn.Module, rate: float) -> None:
    """Put a `KeyedDropout` in the place of every dropout module of `model`, numbered in the order of their names.

    A rate of 0 leaves the model as it is. ValueError unless 0 <= rate < 1.
    """
    if not 0 <= rate < 1:
        raise ValueError(f"dropout is {rate}; it must be at least 0 and below 1")
    if rate == 0:
        return
    sites = [name for name, module in model.named_modules() if isinstance(module, nn.Dropout | KeyedDropout)]
    for site, name in enumerate(sites):
        parent, _, child = name.rpartition(".")
        new = KeyedDropout(rate, site).train(model.get_submodule(name).training)
        setattr(model.get_submodule(parent), child, new)


@contextmanager
def keyed(model: nn.Module, keys_B: Tensor | None) -> Iterator[None]:
    """One forward pass of `model` over rows with these keys. A model without keyed dropout takes no notice."""
    sites = _sites(model)
    if not sites:
        yield
        return
    # A block that is computed again runs in the backward pass, after this context: it takes its keys along.
    blocks: list[Any] = [
        block
        for block in model.modules()
        if isinstance(block, GradientCheckpointingLayer) and block.gradient_checkpointing
    ]
    functions = [block._gradient_checkpointing_func for block in blocks]
    for block, function in zip(blocks, functions, strict=True):
        block._gradient_checkpointing_func = _taking_keys(function, _sites(block), keys_B)
    try:
        with _keys(sites, keys_B):
            yield
    finally:
        for block, function in zip(blocks, functions, strict=True):
            block._gradient_checkpointing_func = function


def _sites(model: nn.Module) -> list[KeyedDropout]:
    return [module for module in model.modules() if isinstance(module, KeyedDropout)]


@contextmanager
def _keys(sites: list[KeyedDropout], keys_B: Tensor | None) -> Iterator[None]:
    before = [(site.keys_B, site.calls) for site in sites]
    for site in sites:
        site.keys_B, site.calls = keys_B, 0
    try:
        yield
    finally:
        for site, (keys, calls) in zip(sites, before, strict=True):
            site.keys_B, site.calls = keys, calls


def _taking_keys(
    checkpoint: Callable[..., Any], sites: list[KeyedDropout], keys_B: Tensor | None
) -> Callable[..., Any]:
    """transformers' checkpoint function, whose function runs with these keys, now and when it is run again."""

    def run(function: Callable[..., Any], *inputs: Any) -> Any:
        def with_keys(*again: Any) -> Any:
            with _keys(sites, keys_B):
                return function(*again)

        return checkpoint(with_keys, *inputs)

    return run
