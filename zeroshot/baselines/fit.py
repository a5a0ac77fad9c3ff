"""Training of a small model in epochs, ended by its validation.

Enters: a model, its batches and its loss, and how it is validated. Leaves: the model with the weights of its best
epoch. What must hold: a function of the seed, the data and the number of threads alone, whatever was drawn before.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn

from pretrain.runtime.watchdog import beat
from shards import counters

JUDGED_BY = "NDCG@10"
B = TypeVar("B")


@dataclass(frozen=True)
class FitConfig:
    """AdamW at a constant rate; what is validated and used is the running average of the weights."""

    learning_rate: float = 2e-3
    weight_decay: float = 0.0
    batch_users: int = 128
    max_epochs: int = 100
    patience: int = 5
    """Epochs without a better validation after which training ends."""
    average: float = 0.997
    """Share of the running average that each step keeps, less in the first steps; 0 = the weights themselves."""


@dataclass(frozen=True)
class Epoch:
    """One epoch: the mean loss of a target, metrics of the validation items after it, seconds since the start."""

    number: int
    loss: float
    validation: dict[str, float]
    seconds: float


def fit(
    model: nn.Module,
    batches: Callable[[int], Iterable[B]],
    loss_of: Callable[[B], tuple[Tensor, Tensor]],
    validate: Callable[[], dict[str, float]] | None,
    config: FitConfig,
    seed: int,
    progress: Callable[[Epoch], None],
) -> list[Epoch]:
    """Trains `model` in place, leaves it in eval mode with its best weights, and returns all epochs.

    Args:
        model: what is trained.
        batches: those of an epoch by its number.
        loss_of: summed loss of a batch and the number of its targets.
        validate: metrics of the model in eval mode; None = all epochs are trained and the last one is the best.
        config: the optimiser and the end.
        seed: of dropout and of whatever else `loss_of` draws from torch.
        progress: is told each epoch.
    """
    optimiser = torch.optim.AdamW(
        model.parameters(), config.learning_rate, weight_decay=config.weight_decay, fused=True
    )
    parameters = list(model.parameters())
    average = [parameter.detach().clone() for parameter in parameters]
    epochs: list[Epoch] = []
    best, best_weights, steps = -1, [parameter.clone() for parameter in average], 0
    started = time.monotonic()
    for number in range(config.max_epochs):
        total, targets = 0.0, 0
        model.train()
        with torch.random.fork_rng():
            torch.manual_seed(counters.number(seed, "baseline-epoch", number))
            for batch in batches(number):
                beat()
                loss, count = loss_of(batch)
                optimiser.zero_grad()
                (loss / count).backward()
                optimiser.step()
                steps += 1
                # The first steps' average is the plain mean, so that the start is forgotten as fast as it can be.
                share = min(config.average, 1 - 1 / steps)
                follow(average, parameters, share)
                total, targets = total + loss.item(), targets + int(count)
        model.eval()
        with torch.no_grad():
            swap(parameters, average)
            metrics = validate() if validate is not None else {}
        epochs.append(Epoch(number, total / max(targets, 1), metrics, time.monotonic() - started))
        progress(epochs[-1])
        if validate is None or best < 0 or metrics[JUDGED_BY] > epochs[best].validation[JUDGED_BY]:
            best, best_weights = number, [parameter.detach().clone() for parameter in parameters]
        elif number - best >= config.patience:
            break
        swap(parameters, average)
    with torch.no_grad():
        for parameter, best_weight in zip(parameters, best_weights, strict=True):
            parameter.copy_(best_weight)
    return epochs


def follow(average: Sequence[Tensor], parameters: Sequence[Tensor], share: float) -> None:
    """Move the running average of the weights, which keeps `share` of itself."""
    with torch.no_grad():
        for mean, now in zip(average, parameters, strict=True):
            mean.lerp_(now, 1 - share)


def swap(some: Sequence[Tensor], others: Sequence[Tensor]) -> None:
    """Exchange the values of two lists of tensors."""
    with torch.no_grad():
        for one, other in zip(some, others, strict=True):
            held = one.clone()
            one.copy_(other)
            other.copy_(held)


def best_epoch(epochs: list[Epoch]) -> Epoch:
    """The first of the epochs with the best validation: the one whose weights `fit` leaves."""
    return max(epochs, key=lambda epoch: epoch.validation[JUDGED_BY])
