"""The ranker: a small model that orders candidates by their features; trained on the Fusion, used on any catalogue.

Enters: lists of candidates with features, and which of them came next. Leaves: log-probabilities over a list. Must
hold: no gradient step is taken on the set that is ranked; a function of the lists, the seed and the number of threads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pretrain.ranking.candidates import candidates
from pretrain.ranking.context import Context
from pretrain.ranking.features import Block, Catalogue, feature_names, feature_values
from pretrain.ranking.text_match import item_vectors
from pretrain.runtime.watchdog import beat
from shards import counters
from shards.bounds import Count, NonNegative, Positive, Share

USERS_AT_ONCE = 128
DECIMALS = 9
"""Of a log-probability in double precision: its last bits depend on how many users are asked at once."""
FAR = 8.0
"""Standardised features are cut here: what lies further out in another set says no more."""


@dataclass(frozen=True)
class RankerConfig:
    """How the ranker is trained; values chosen by leaving pretraining categories out."""

    lists: Count = 1000
    """Users of each category and density whose lists are learned from."""
    sparse_share: Share = 0.15
    """Of the users of a category: counts over them alone make the second, sparser world of each category."""
    width: Count = 64
    """Of the first hidden layer of each multi-layer perceptron; the second has half of it."""
    models: Count = 3
    """Multi-layer perceptrons, from one seed each; the mean of their log-probabilities counts."""
    epochs: Count = 8
    """Passes over all lists."""
    learning_rate: Positive = 3e-3
    """Peak of a one-cycle schedule."""
    weight_decay: NonNegative = 1e-4
    """Of AdamW."""


@dataclass(frozen=True)
class Lists:
    """N users' candidates. `features_NKF`: float32; `present_NK`: which places hold an item; `next_N`: the place of the
    item that came next."""

    features_NKF: Tensor
    present_NK: Tensor
    next_N: Tensor


class Ranker(nn.Module):
    """A linear model and several multi-layer perceptrons over standardised features; their log-probabilities over the
    list are averaged (a product of experts), the linear model's counting as much as all the others together."""

    mean_F: Tensor
    deviation_F: Tensor

    def __init__(self, config: RankerConfig, seed: int) -> None:
        super().__init__()
        width, size = config.width, len(feature_names())
        self.register_buffer("mean_F", torch.zeros(size))
        self.register_buffer("deviation_F", torch.ones(size))
        with torch.random.fork_rng():
            torch.manual_seed(counters.number(seed, "ranker"))
            self.linear = nn.Linear(size, 1)
            self.perceptrons = nn.ModuleList(
                nn.Sequential(
                    nn.Linear(size, width), nn.GELU(), nn.Linear(width, width // 2 or 1), nn.GELU(),
                    nn.Linear(width // 2 or 1, 1),
                )
                for _ in range(config.models)
            )  # fmt: skip

    def parts(self, features_NKF: Tensor, present_NK: Tensor) -> list[Tensor]:
        """Log-probabilities [N, K] by each model, the linear one first; about the smallest float32 where a
        place is empty."""
        standard_NKF = ((features_NKF - self.mean_F) / self.deviation_F).clamp(-FAR, FAR)
        scores = [model(standard_NKF).squeeze(-1) for model in (self.linear, *self.perceptrons)]
        absent_NK, lowest = ~present_NK, torch.finfo(torch.float32).min
        return [F.log_softmax(score_NK.masked_fill(absent_NK, lowest), dim=-1) for score_NK in scores]

    def forward(self, features_NKF: Tensor, present_NK: Tensor) -> Tensor:
        """Log-probabilities [N, K]: those of the models averaged, then normalised again."""
        linear_NK, *others = self.parts(features_NKF, present_NK)
        return F.log_softmax(0.5 * linear_NK + 0.5 * torch.stack(others).mean(0), dim=-1)

    @torch.no_grad()
    def rank(self, block: Block) -> tuple[np.ndarray, np.ndarray]:
        """Candidates of a block of users, best first, and their log-probabilities, both [N, K]; places without a
        candidate come last, -1 and -inf. Of equal ones the lower row comes first."""
        items_NK = candidates(block)
        if not items_NK.size:
            return items_NK, np.zeros(items_NK.shape, dtype=np.float32)
        present_NK = items_NK >= 0
        features_NKF = torch.from_numpy(feature_values(block, items_NK)).to(self.mean_F.dtype)
        scores_NK = self(features_NKF, torch.from_numpy(present_NK)).numpy()
        scores_NK = np.where(present_NK, np.round(scores_NK, DECIMALS), -np.inf)
        order_NK = np.argsort(-scores_NK, axis=1, kind="stable")
        return np.take_along_axis(items_NK, order_NK, axis=1), np.take_along_axis(scores_NK, order_NK, axis=1)


def fit_ranker(batches: Sequence[Lists], config: RankerConfig, seed: int) -> Ranker:
    """A ranker trained on batches of lists by softmax cross-entropy over the list.

    Raises:
        ValueError: there is no list.
    """
    if not batches:
        raise ValueError("the ranker has no list to learn from: in no list of the Fusion is the next item a candidate")
    ranker = Ranker(config, seed)
    values_MF = torch.cat([batch.features_NKF[batch.present_NK] for batch in batches])
    ranker.mean_F.copy_(values_MF.mean(0))
    ranker.deviation_F.copy_(values_MF.std(0).clamp(min=1e-6))
    steps = config.epochs * len(batches)
    optimiser = torch.optim.AdamW(ranker.parameters(), config.learning_rate, weight_decay=config.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, config.learning_rate, total_steps=steps)
    for epoch in range(config.epochs):
        for place in counters.generator(seed, "ranker-order", epoch).permutation(len(batches)):
            beat("training the ranker")
            batch = batches[place]
            losses = [
                F.nll_loss(part_NK, batch.next_N) for part_NK in ranker.parts(batch.features_NKF, batch.present_NK)
            ]
            optimiser.zero_grad()
            torch.stack(losses).sum().backward()  # each model has its own loss: none leans on another
            optimiser.step()
            schedule.step()
    return ranker.eval()


def training_lists(
    texts: list[str], histories: list[np.ndarray], nexts_N: np.ndarray, config: RankerConfig, seed: int, name: str
) -> list[Lists]:
    """Lists of one category at two densities, as an unseen set would show them.

    A test user's history ends with an item that is in no count, and the next one is in none either. So here: the last
    item of a training history is taken out of the counts, and the one behind it is what came next.

    Args:
        texts: of the category's items.
        histories: training histories (sequence[:-2]) of its users, rows of the category, oldest first.
        nexts_N: sequence[-2] of each user, the validation item. No test item is read.
        config: how many users, and which share of them makes the sparse world.
        seed: of the users drawn.
        name: of the category.
    """
    draw = counters.generator(seed, "ranker-lists", name)
    vectors_IT = item_vectors(texts)
    batches: list[Lists] = []
    for share in (1.0, config.sparse_share):
        users = draw.permutation(len(histories))[: max(1, round(share * len(histories)))]
        context = Context([histories[user][:-1] for user in users], len(texts))
        catalogue = Catalogue(context, vectors_IT)
        able = [user for user in users if len(histories[user]) and nexts_N[user] not in histories[user]]
        for first in range(0, len(able[: config.lists]), USERS_AT_ONCE):
            beat(f"{name}: lists for the ranker")
            chosen = able[: config.lists][first : first + USERS_AT_ONCE]
            batches += _lists(Block(catalogue, [histories[user] for user in chosen]), nexts_N[chosen])
    return batches


def _lists(block: Block, nexts_N: np.ndarray) -> list[Lists]:
    """The lists in which what came next is a candidate; none where there is no such list."""
    items_NK = candidates(block)
    hits_NK = items_NK == nexts_N[:, None]
    users = np.flatnonzero(hits_NK.any(axis=1))
    if not len(users):
        return []
    features_NKF = torch.from_numpy(feature_values(block, items_NK)[users])
    return [Lists(features_NKF, torch.from_numpy(items_NK[users] >= 0), torch.from_numpy(hits_NK[users].argmax(1)))]
