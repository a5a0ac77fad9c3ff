"""The in-context ranker on an unseen set: trained on the Fusion, reading what is counted in the set's training part.

Enters: the Fusion's held-out users and texts, the unseen set's texts and training histories (sequence[:-2]). Leaves:
lists. What must hold: no gradient step is taken on the unseen set; how often users repeat themselves is counted there.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from pretrain.ranking.features import Block, Catalogue, feature_names
from pretrain.ranking.ranker import Lists, Ranker, RankerConfig, fit_ranker, training_lists
from pretrain.ranking.text_match import DECAY
from shards.manifest import Manifest
from shards.tables import load_holdout, load_items
from zeroshot.baselines.cache import Arrays, cached
from zeroshot.baselines.text_popularity import repeat_share
from zeroshot.protocol.recommender import ProtocolName, Ranking, Rankings


class InContextRanker:
    """An item of the history with the share of repeats, by recency (0.7 per step back); else another one by the ranker.
    It is trained when it is first asked, or read from the cache."""

    name = "ranker"

    def __init__(
        self, catalogue: Catalogue, training_histories: list[np.ndarray], shards: str, seed: int = 0,
        config: RankerConfig | None = None, cache: str | Path | None = None,
    ) -> None:  # fmt: skip
        self.catalogue, self.shards, self.seed, self.cache = catalogue, shards, seed, cache
        self.config = config or RankerConfig()
        self.repeats = repeat_share(training_histories)

    @cached_property
    def ranker(self) -> Ranker:
        """The trained ranker, in double precision."""
        manifest = Manifest.load(self.shards)
        key = {
            "config": dataclasses.asdict(self.config), "seed": self.seed, "manifest": manifest.sha256(),
            "features": feature_names(), "threads": torch.get_num_threads(),
        }  # fmt: skip
        ranker = Ranker(self.config, self.seed)
        ranker.load_state_dict(cached(self.cache, "ranker", key, lambda: self._train(manifest)))
        return ranker.double().eval()

    def _train(self, manifest: Manifest) -> Arrays:
        lists = fusion_lists(self.shards, manifest, self.config, self.seed)
        return dict(fit_ranker(lists, self.config, self.seed).state_dict())

    def rank(self, histories: list[np.ndarray], protocols: Sequence[ProtocolName]) -> Rankings:
        """Lists of candidates with log-probabilities; those of `new` are the ranker's alone."""
        items_NK, scores_NK = self.ranker.rank(Block(self.catalogue, histories))
        rankings: dict[ProtocolName, Ranking] = {"new": Ranking(scores_NK, items_NK)}
        if "all" in protocols:
            rankings["all"] = self._with_repeats(histories, items_NK, scores_NK)
        return {protocol: rankings[protocol] for protocol in protocols}

    def _with_repeats(self, histories: list[np.ndarray], items_NK: np.ndarray, scores_NK: np.ndarray) -> Ranking:
        """The lists with the items of the history at their places."""
        lists = []
        for history, items_K, scores_K in zip(histories, items_NK, scores_NK, strict=True):
            own, place = np.unique(history, return_inverse=True)
            weights = np.bincount(place, DECAY ** np.arange(len(history))[::-1], len(own))
            repeats = np.log(self.repeats * weights / max(weights.sum(), 1e-12))
            present = items_K >= 0
            items = np.concatenate([own, items_K[present]]).astype(np.int64)
            scores = np.concatenate([repeats, np.log1p(-self.repeats) + scores_K[present]])
            order = np.lexsort((items, -scores))
            lists.append((items[order], scores[order]))
        longest = max((len(items) for items, _ in lists), default=0)
        items_NL = np.full((len(lists), longest), -1, dtype=np.int64)
        scores_NL = np.full((len(lists), longest), -np.inf)
        for user, (items, scores) in enumerate(lists):
            items_NL[user, : len(items)], scores_NL[user, : len(items)] = items, scores
        return Ranking(scores_NL, items_NL)


def fusion_lists(folder: str, manifest: Manifest, config: RankerConfig, seed: int) -> list[Lists]:
    """Training lists of every category of the Fusion. Of its users the validation items are read, no test items."""
    items = load_items(folder, manifest)
    lists: list[Lists] = []
    for member in manifest.train_members:
        holdout = load_holdout(folder, member)
        first, end = items.members[member.name]
        histories = [history.astype(np.int64) for history in holdout.histories]
        lists += training_lists(
            items.texts[first:end], histories, holdout.valid.astype(np.int64), config, seed, member.name
        )
    return lists
