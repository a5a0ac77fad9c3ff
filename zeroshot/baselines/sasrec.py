"""SASRec with cross-entropy over all items, trained on the unseen set itself: the supervised ceiling.

Enters: the training histories (sequence[:-2]) of all users and their validation items (sequence[-2]). Leaves: a
recommender that answers histories (sequence[:-1]). What must hold: no test item is read; the weights are those of the
epoch with the best NDCG@10 of the validation items among all items; the order of the users changes nothing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pretrain.model.vocabulary_loss import cross_entropy
from pretrain.ranking.metrics import mid_ranks, summary
from shards import counters
from zeroshot.baselines.cache import Arrays, cached, hash_of
from zeroshot.baselines.causal import CausalTransformer, Shape, last_states, padded, training_batches
from zeroshot.baselines.fit import Epoch, FitConfig, best_epoch, fit
from zeroshot.protocol.recommender import ProtocolName, Ranking
from zeroshot.tasks.task import Task

BLOCK = 128
"""Users scored at once; larger blocks cost new pages each time, and the judge asks for more anyway."""
DECIMALS = 9


@dataclass(frozen=True)
class SasrecConfig:
    """Size and training of the model: first values tried; `python -m benchmarks.zeroshot.sasrec` chooses by
    validation."""

    shape: Shape = field(default_factory=Shape)
    fit: FitConfig = field(default_factory=FitConfig)
    temperature: float | None = None
    """Scores are cosines divided by this; none = plain dot products."""
    refit: bool = True
    """Once the validation items have said after how many epochs to stop, train anew with them (sequence[:-1])."""


class SasrecModel(nn.Module):
    """Item embeddings, shared by the input and the output, and a causal transformer between them."""

    def __init__(self, num_items: int, config: SasrecConfig, seed: int) -> None:
        super().__init__()
        self.temperature = config.temperature
        self.transformer = CausalTransformer(config.shape, seed)
        with torch.random.fork_rng():
            torch.manual_seed(counters.number(seed, "item-embeddings"))
            self.items_ID = nn.Parameter(torch.randn(num_items, config.shape.width) * 0.02)

    def loss(self, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Summed cross-entropy of the next items [B, T] after the inputs [B, T], and how many there are."""
        inputs_BT, labels_BT = (rows_BT.to(self.items_ID.device) for rows_BT in batch)
        states_BTD = self.transformer(F.embedding(inputs_BT, self.items_ID))
        return cross_entropy(*self.compared(states_BTD.flatten(0, 1)), labels_BT.flatten())

    def compared(self, states_ND: Tensor) -> tuple[Tensor, Tensor]:
        """States and items whose dot products are the scores."""
        if self.temperature is None:
            return states_ND, self.items_ID
        return F.normalize(states_ND, dim=1) / self.temperature, F.normalize(self.items_ID, dim=1)

    @torch.no_grad()
    def scores(self, histories: list[np.ndarray]) -> np.ndarray:
        """Scores [N, I] of all items after each history."""
        kept_rows = [history[-self.transformer.shape.max_length :] for history in histories]
        inputs_BT = padded(kept_rows, 0).to(self.items_ID.device)
        states_BD = last_states(self.transformer, F.embedding(inputs_BT, self.items_ID), kept_rows)
        states_BD, items_ID = self.compared(states_BD)
        return (states_BD @ items_ID.T).cpu().numpy()


def train_sasrec(
    training_histories: list[np.ndarray], validation_N: np.ndarray, num_items: int, config: SasrecConfig, seed: int,
    device: torch.device, progress: Callable[[Epoch], None],
) -> tuple[SasrecModel, list[Epoch]]:  # fmt: skip
    """The model, and all epochs of the choice. Users may come in any order."""
    order = canonical_order(training_histories, validation_N)
    sequences, targets_N = [training_histories[user] for user in order], validation_N[order]
    model = SasrecModel(num_items, config, seed)
    nn.Module.to(model, device)

    def validate() -> dict[str, float]:
        ranks = [
            mid_ranks(model.scores(sequences[start : start + BLOCK]), None, targets_N[start : start + BLOCK], num_items)
            for start in range(0, len(sequences), BLOCK)
        ]
        return summary(np.concatenate(ranks))

    epochs = fit(
        model,
        lambda epoch: training_batches(sequences, config.shape.max_length, config.fit.batch_users, seed, epoch),
        model.loss, validate, config.fit, seed, progress,
    )  # fmt: skip
    if not config.refit:
        return model, epochs
    model = SasrecModel(num_items, config, seed)
    nn.Module.to(model, device)
    longer = [np.append(sequence, target) for sequence, target in zip(sequences, targets_N, strict=True)]
    chosen = replace(config.fit, max_epochs=best_epoch(epochs).number + 1)
    fit(
        model,
        lambda epoch: training_batches(longer, config.shape.max_length, config.fit.batch_users, seed, epoch),
        model.loss, None, chosen, seed, lambda epoch: None,
    )  # fmt: skip
    return model, epochs


def canonical_order(training_histories: list[np.ndarray], validation_N: np.ndarray) -> list[int]:
    """Rows of the users sorted by what they did, so that training does not depend on the order they stand in."""
    return sorted(range(len(validation_N)), key=lambda user: (training_histories[user].tolist(), validation_N[user]))


class Sasrec:
    """SASRec as a recommender. It is trained when it is first asked, or read from the cache."""

    name = "sasrec"

    def __init__(
        self, task: Task, seed: int = 0, config: SasrecConfig | None = None, device: torch.device | None = None,
        threads: int = 1, cache: str | Path | None = None, progress: Callable[[Epoch], None] = lambda epoch: None,
    ) -> None:  # fmt: skip
        if task.validation is None:
            raise ValueError(f"task {task.name} has no validation items, which SASRec needs to know when to stop")
        self.training_histories, self.validation_N = task.training_histories, task.validation
        self.num_items, self.seed, self.config = len(task.items), seed, config or SasrecConfig()
        self.device, self.threads, self.cache, self.progress = device or torch.device("cpu"), threads, cache, progress

    @cached_property
    def model(self) -> SasrecModel:
        """The trained model, in double precision."""
        order = canonical_order(self.training_histories, self.validation_N)
        key = {
            "config": dataclasses.asdict(self.config),
            "seed": self.seed,
            "device": self.device.type,
            "threads": self.threads,
            "num_items": self.num_items,
            "data": hash_of([*(self.training_histories[user] for user in order), self.validation_N[order]]),
        }
        model = SasrecModel(self.num_items, self.config, self.seed)
        model.load_state_dict(cached(self.cache, "sasrec", key, self._train))
        nn.Module.to(model, self.device, torch.float64)
        return model.eval()

    def _train(self) -> Arrays:
        trained, _ = train_sasrec(
            self.training_histories, self.validation_N, self.num_items, self.config, self.seed, self.device,
            self.progress,
        )  # fmt: skip
        return dict(trained.state_dict())

    def rank(self, histories: list[np.ndarray], protocols: Sequence[ProtocolName]) -> Ranking:
        """Dense scores of the next item.

        In double precision and rounded, because the last bits depend on how many users are asked at once.
        """
        return Ranking(np.round(self.model.scores(histories), DECIMALS))
