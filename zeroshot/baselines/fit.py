"""Training of a small model in epochs, ended by its validation.

Enters: a model, its batches and its loss, and how it is validated. Leaves: the model with the weights of its best
epoch. What must hold: a function of the seed, the data and the number of threads alone, whatever was drawn before.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn

from shards import counters

JUDGED_BY = "NDCG@10"
B = TypeVar("B")


@dataclass(frozen=True)
class FitConfig:
    """AdamW at a constant rate; `patience` is the number of epochs without a better validation after which it ends."""

    learning_rate: float = 2e-3
    weight_decay: float = 0.0
    batch_users: int = 128
    max_epochs: int = 100
    patience: int = 5


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
    loss_of: Callable[[B], tuple[Tensor, int]],
    validate: Callable[[], dict[str, float]],
    config: FitConfig,
    seed: int,
    progress: Callable[[Epoch], None],
) -> list[Epoch]:
    """Trains `model` in place, leaves it in eval mode with its best weights, and returns all epochs.

    Args:
        model: what is trained.
        batches: those of an epoch by its number.
        loss_of: summed loss of a batch and the number of its targets.
        validate: metrics of the model in eval mode.
        config: the optimiser and the end.
        seed: of dropout and of whatever else `loss_of` draws from torch.
        progress: is told each epoch.
    """
    optimiser = torch.optim.AdamW(
        model.parameters(), config.learning_rate, weight_decay=config.weight_decay, fused=True
    )
    epochs: list[Epoch] = []
    best, best_weights = -1, copy.deepcopy(model.state_dict())
    started = time.monotonic()
    for number in range(config.max_epochs):
        total, targets = 0.0, 0
        model.train()
        with torch.random.fork_rng():
            torch.manual_seed(counters.number(seed, "baseline-epoch", number))
            for batch in batches(number):
                loss, count = loss_of(batch)
                optimiser.zero_grad()
                (loss / count).backward()
                optimiser.step()
                total, targets = total + loss.item(), targets + count
        model.eval()
        with torch.no_grad():
            found = validate()
        epochs.append(Epoch(number, total / max(targets, 1), found, time.monotonic() - started))
        progress(epochs[-1])
        if best < 0 or found[JUDGED_BY] > epochs[best].validation[JUDGED_BY]:
            best, best_weights = number, copy.deepcopy(model.state_dict())
        elif number - best >= config.patience:
            break
    model.load_state_dict(best_weights)
    return epochs


def best_epoch(epochs: list[Epoch]) -> Epoch:
    """The first of the epochs with the best validation: the one whose weights `fit` leaves."""
    return max(epochs, key=lambda epoch: epoch.validation[JUDGED_BY])
