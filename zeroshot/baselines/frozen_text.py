"""A frozen text encoder with a sequence model trained on the same Fusion: what UniSRec does, the zero-shot peer.

Enters: the Fusion's texts and sequences, a sentence encoder, the unseen set's texts. Leaves: a recommender of the
unseen set. What must hold: nothing of the unseen set is read but its texts; the weights are those of the epoch with the
best NDCG@10 of the Fusion's validation items, each among the items of its own category.

As in UniSRec, item vectors are whitened and projected, the sequence model sees nothing else of an item, and likeness is
a cosine over a temperature. Unlike it, there is one projection instead of a mixture, and negatives are drawn from the
whole Fusion.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pretrain.model.vocabulary_loss import IGNORED, cross_entropy
from pretrain.ranking.metrics import mid_ranks, summary
from shards import counters
from shards.manifest import Manifest
from zeroshot.baselines.cache import Arrays, kept
from zeroshot.baselines.causal import CausalTransformer, Shape, last_states, padded, training_batches
from zeroshot.baselines.encoder import DECIMALS, SentenceEncoder
from zeroshot.baselines.fit import Epoch, FitConfig, fit
from zeroshot.baselines.fusion import FusionData, HeldOut, load_fusion
from zeroshot.protocol.recommender import ProtocolName, Ranking

BLOCK = 128
NO_VARIANCE = 1e-6
"""Directions with less than this share of the greatest variance are noise, and are not blown up but left out."""


@dataclass(frozen=True)
class FrozenTextConfig:
    """The size of the model and how it is trained; first values tried, not tuned."""

    shape: Shape = field(default_factory=lambda: Shape(dropout=0.2))
    fit: FitConfig = field(default_factory=lambda: FitConfig(learning_rate=1e-3, max_epochs=50, patience=3))
    temperature: float = 0.07
    negatives: int = 4096
    """Items drawn for each step beside the step's own targets; all items where there are no more than that."""
    validation_users: int = 2000


class FrozenTextModel(nn.Module):
    """Whitened text vectors, a projection, a causal transformer; scores are cosines over a temperature."""

    mean_E: Tensor
    whitening_ED: Tensor

    def __init__(self, text_width: int, config: FrozenTextConfig, seed: int) -> None:
        super().__init__()
        self.temperature = config.temperature
        self.transformer = CausalTransformer(config.shape, seed)
        # Fixed by the Fusion's texts before training.
        self.register_buffer("mean_E", torch.zeros(text_width))
        self.register_buffer("whitening_ED", torch.zeros(text_width, config.shape.width))
        self.project = nn.Linear(config.shape.width, config.shape.width)
        with torch.random.fork_rng():
            torch.manual_seed(counters.number(seed, "projection"))
            nn.init.orthogonal_(self.project.weight)
            nn.init.zeros_(self.project.bias)

    def whiten(self, text_vectors_IE: Tensor) -> None:
        """Fix mean and whitening: the directions in which these texts differ most, each to unit variance."""
        mean_E = text_vectors_IE.double().mean(0)
        covariance_EE = torch.cov((text_vectors_IE.double() - mean_E).T)
        variances_E, directions_EE = torch.linalg.eigh(covariance_EE)
        width = self.whitening_ED.shape[1]
        top = variances_E.flip(0)[:width]
        scales = torch.where(top > NO_VARIANCE * top[0], top.clamp(min=1e-30).rsqrt(), 0.0)
        directions = directions_EE.flip(1)[:, :width]
        # An eigenvector's sign is arbitrary: its largest entry is made positive.
        signs = directions.gather(0, directions.abs().argmax(0, keepdim=True)).sign()
        self.mean_E.copy_(mean_E)
        self.whitening_ED[:, : len(top)].copy_(directions * signs * scales)

    def items(self, text_vectors_IE: Tensor) -> Tensor:
        """Item vectors [I, D], as inputs; normalised they are what states are compared with."""
        return self.project((text_vectors_IE - self.mean_E) @ self.whitening_ED)

    def loss(self, items_ID: Tensor, inputs_BT: Tensor, labels_BT: Tensor) -> tuple[Tensor, Tensor]:
        """Summed cross-entropy of the next items among `items_ID`, rows of which inputs and labels are."""
        states_BTD = self.transformer(F.embedding(inputs_BT, items_ID))
        states_ND = F.normalize(states_BTD.flatten(0, 1), dim=1) / self.temperature
        return cross_entropy(states_ND, F.normalize(items_ID, dim=1), labels_BT.flatten())

    @torch.no_grad()
    def scores(self, items_ID: Tensor, histories: list[np.ndarray]) -> np.ndarray:
        """Scores [N, I] of all items after each history."""
        last = [history[-self.transformer.shape.max_length :] for history in histories]
        inputs_BT = padded(last, 0).to(items_ID.device)
        states_BD = last_states(self.transformer, F.embedding(inputs_BT, items_ID), last)
        return (F.normalize(states_BD, dim=1) @ F.normalize(items_ID, dim=1).T).cpu().numpy()


def train_frozen_text(
    fusion: FusionData, text_vectors_IE: Tensor, config: FrozenTextConfig, seed: int,
    progress: Callable[[Epoch], None],
) -> tuple[FrozenTextModel, list[Epoch]]:  # fmt: skip
    """The model of the best epoch on the device of the text vectors, and all epochs."""
    device, num_items = text_vectors_IE.device, len(text_vectors_IE)
    model = FrozenTextModel(text_vectors_IE.shape[1], config, seed)
    model.whiten(text_vectors_IE.cpu())
    nn.Module.to(model, device)

    def loss_of(batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        inputs_BT, labels_BT = batch
        if num_items <= config.negatives:
            rows_C = torch.arange(num_items)
        else:  # the batch's own items and others at random
            own = torch.cat([inputs_BT.flatten(), labels_BT[labels_BT != IGNORED]])
            rows_C = torch.unique(torch.cat([own, torch.randint(num_items, (config.negatives,))]))
        places_BT = torch.searchsorted(rows_C, labels_BT.clamp(min=0))
        labels_BT = torch.where(labels_BT == IGNORED, IGNORED, places_BT)
        inputs_BT = torch.searchsorted(rows_C, inputs_BT)
        items_CD = model.items(text_vectors_IE[rows_C.to(device)])
        return model.loss(items_CD, inputs_BT.to(device), labels_BT.to(device))

    def validate() -> dict[str, float]:
        ranks = [category_ranks(model, text_vectors_IE, part) for part in fusion.held_out]
        return summary(np.concatenate(ranks))

    epochs = fit(
        model,
        lambda epoch: training_batches(fusion.sequences, config.shape.max_length, config.fit.batch_users, seed, epoch),
        loss_of, validate, config.fit, seed, progress,
    )  # fmt: skip
    return model, epochs


def category_ranks(model: FrozenTextModel, text_vectors_IE: Tensor, part: HeldOut) -> np.ndarray:
    """Ranks of a category's validation items among the items of the category."""
    items_ID = model.items(text_vectors_IE[part.first : part.end])
    ranks = []
    for start in range(0, len(part.targets), BLOCK):
        histories = [history - part.first for history in part.histories[start : start + BLOCK]]
        targets_N = part.targets[start : start + BLOCK] - part.first
        ranks.append(mid_ranks(model.scores(items_ID, histories), None, targets_N, len(items_ID)))
    return np.concatenate(ranks)


class FrozenText:
    """The trained model on an unseen catalogue. It is trained when it is first asked, or read from the cache."""

    name = "frozen-text"

    def __init__(
        self, encoder: SentenceEncoder, texts: list[str], shards: str, seed: int = 0,
        config: FrozenTextConfig | None = None, progress: Callable[[Epoch], None] = lambda epoch: None,
    ) -> None:  # fmt: skip
        self.encoder, self.texts, self.shards, self.seed = encoder, texts, shards, seed
        self.config, self.progress = config or FrozenTextConfig(), progress

    @cached_property
    def model(self) -> FrozenTextModel:
        """The trained model, in double precision."""
        manifest = Manifest.load(self.shards)
        key = {
            "config": dataclasses.asdict(self.config), "seed": self.seed, "manifest": manifest.sha256(),
            "encoder": self.encoder.weights_hash, "device": self.encoder.device.type, "threads": self.encoder.threads,
        }  # fmt: skip
        weights = kept(self.encoder.cache, "frozen-text", key, lambda: self._train(manifest))
        model = FrozenTextModel(len(weights["mean_E"]), self.config, self.seed)
        model.load_state_dict(weights)
        nn.Module.to(model, self.encoder.device, torch.float64)
        return model.eval()

    def _train(self, manifest: Manifest) -> Arrays:
        fusion = load_fusion(self.shards, manifest, self.config.validation_users, self.seed)
        vectors_IE = self.encoder.vectors(fusion.texts).to(self.encoder.device)
        trained, _ = train_frozen_text(fusion, vectors_IE, self.config, self.seed, self.progress)
        return dict(trained.state_dict())

    @cached_property
    def items_ID(self) -> Tensor:
        """Vectors of the unseen items."""
        with torch.no_grad():
            return self.model.items(self.encoder.vectors(self.texts).to(self.encoder.device, torch.float64))

    def rank(self, histories: list[np.ndarray], protocols: Sequence[ProtocolName]) -> Ranking:
        """Dense scores of the next item, rounded, because the last bits depend on how many users are asked at once."""
        return Ranking(np.round(self.model.scores(self.items_ID, histories), DECIMALS))
