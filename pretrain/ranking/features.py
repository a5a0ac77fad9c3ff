"""The features of an item for a user: what the ranker reads. Each is a named function with its formula.

Enters: histories, the context of the catalogue, the vectors of its texts. Leaves: float32 values. Must hold: a feature
reads the history, item texts and training interactions, so it is the same whatever the targets are; its kind says
whether it reads anything that was counted over other users.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from scipy import sparse

from pretrain.ranking.context import Context
from pretrain.ranking.text_match import cosines, decayed_profiles, nearest_texts

Kind = Literal["zero-shot", "in-context"]
NEIGHBOURS = 15
SATURATION = 40.0
"""Of a co-occurrence: its logarithm log(1 + SATURATION x) is read, so that the step from none to some counts most."""


class Catalogue:
    """What is the same for all users of a set of I items: context and texts."""

    def __init__(self, context: Context, vectors_IT: Any) -> None:
        self.context, self.vectors_IT = context, vectors_IT

    @cached_property
    def neighbours_II(self) -> Any:
        """The NEIGHBOURS nearest texts of each item, weights that sum to 1."""
        return nearest_texts(self.vectors_IT, NEIGHBOURS)

    @cached_property
    def nearness_I(self) -> np.ndarray:
        """Of how many items each one is among the nearest texts (hubness)."""
        return np.asarray((self.neighbours_II > 0).sum(axis=0), dtype=np.float64).ravel()


class Block:
    """A block of N users of a catalogue. Dense arrays [N, I], each computed when it is first asked for."""

    def __init__(self, catalogue: Catalogue, histories: list[np.ndarray]) -> None:
        self.catalogue, self.histories = catalogue, histories
        self._profiles: dict[str, Any] = {}
        self._dense: dict[str, np.ndarray] = {}

    def profile(self, name: str) -> Any:
        """CSR [N, I], weights that sum to 1: `last` (the last item), `recent` (20 items, 0.7 per step back) or `long`
        (50 items, 0.95 per step back)."""
        if name not in self._profiles:
            length, decay = {"last": (1, 1.0), "recent": (20, 0.7), "long": (50, 0.95)}[name]
            weights: Any = decayed_profiles(self.histories, self.catalogue.context.num_items, length, decay)
            sums_N = np.asarray(weights.sum(axis=1)).ravel()
            self._profiles[name] = (sparse.diags_array(1.0 / np.maximum(sums_N, 1e-12)) @ weights).tocsr()
        return self._profiles[name]

    def dense(self, name: str) -> np.ndarray:
        """A feature of USERS for every item of the catalogue, float32 [N, I]."""
        if name not in self._dense:
            self._dense[name] = BY_NAME[name].compute(self).astype(np.float32)
        return self._dense[name]


@dataclass(frozen=True)
class Feature:
    """`compute(block)`: [N, I], or [I] where it is the same for all users, or [N, 1] where it is for all items."""

    name: str
    kind: Kind
    formula: str
    compute: Callable[[Block], np.ndarray]


def _spread(weights: Any, pairs: Any) -> np.ndarray:
    return (weights @ pairs).toarray()


def _saturated(values: np.ndarray) -> np.ndarray:
    return np.log1p(SATURATION * np.maximum(values, 0.0))


def _of_profile(profile: str) -> list[Feature]:
    return [
        Feature(
            f"text {profile}",
            "zero-shot",
            f"cosine of the item's TF-IDF vector with the `{profile}` profile's",
            lambda block: cosines(block.profile(profile), block.catalogue.vectors_IT),
        ),
        Feature(
            f"together {profile}",
            "in-context",
            f"log(1 + {SATURATION:g} p C), p the `{profile}` profile, C the co-occurrence cosines",
            lambda block: _saturated(_spread(block.profile(profile), block.catalogue.context.cosines_II)),
        ),
        Feature(
            f"after {profile}",
            "in-context",
            f"log(1 + {SATURATION:g} p T), T the decayed transitions",
            lambda block: _saturated(_spread(block.profile(profile), block.catalogue.context.transitions_II)),
        ),
    ]


def _through_candidate(block: Block, pairs: Any) -> np.ndarray:
    """What the history meets at the item's nearest texts instead of at the item: this reaches items that are new."""
    return np.ascontiguousarray((block.catalogue.neighbours_II @ _spread(block.profile("recent"), pairs).T).T)


PAIRS: tuple[Feature, ...] = (
    *(feature for profile in ("recent", "long", "last") for feature in _of_profile(profile)),
    Feature(
        "before recent", "in-context", f"log(1 + {SATURATION:g} p T'), T' the transitions read backwards",
        lambda block: _saturated(_spread(block.profile("recent"), block.catalogue.context.transitions_II.T)),
    ),
    Feature(
        "share after recent", "in-context", f"log(1 + {SATURATION:g} p S), S the transitions' share of the row's count",
        lambda block: _saturated(_spread(block.profile("recent"), block.catalogue.context.transition_shares_II)),
    ),
    *(
        Feature(
            f"weighted together {profile}", "in-context",
            f"log(1 + {SATURATION:g} p W), W the cosines with each user's pairs over the user's other items",
            lambda block, profile=profile: _saturated(
                _spread(block.profile(profile), block.catalogue.context.user_weighted_II)
            ),
        )
        for profile in ("recent", "long")
    ),
    Feature(
        "together through the item's neighbours", "in-context", f"log(1 + {SATURATION:g} p C N'), N the nearest texts",
        lambda block: _saturated(_through_candidate(block, block.catalogue.context.cosines_II)),
    ),
    Feature(
        "after through the item's neighbours", "in-context", f"log(1 + {SATURATION:g} p T N')",
        lambda block: _saturated(_through_candidate(block, block.catalogue.context.transitions_II)),
    ),
    Feature(
        "together through the history's neighbours", "in-context", f"log(1 + {SATURATION:g} p N C)",
        lambda block: _saturated(
            _spread(block.profile("recent") @ block.catalogue.neighbours_II, block.catalogue.context.cosines_II)
        ),
    ),
    Feature(
        "two hops", "in-context", f"log(1 + {SATURATION:g} p C C)",
        lambda block: _saturated(
            np.ascontiguousarray(
                (
                    block.catalogue.context.cosines_II.T
                    @ _spread(block.profile("recent"), block.catalogue.context.cosines_II).T
                ).T
            )
        ),
    ),
)  # fmt: skip
"""Of a user and an item."""

ITEMS: tuple[Feature, ...] = (
    Feature("popularity", "in-context", "log(1 + users who have the item)",
            lambda block: np.log1p(block.catalogue.context.counts_I)),
    Feature("lateness", "in-context", "log(1 + 10 times the share of last places among the item's users)",
            lambda block: np.log1p(10.0 * block.catalogue.context.last_shares_I)),
    Feature("partners", "in-context", "log(1 + items that share a user with it)",
            lambda block: np.log1p(np.diff(block.catalogue.context.cosines_II.indptr))),
    Feature("hubness", "zero-shot", "log(1 + items among whose nearest texts it is)",
            lambda block: np.log1p(block.catalogue.nearness_I)),
    Feature("words", "zero-shot", "log(1 + distinct words of its text)",
            lambda block: np.log1p(np.diff(block.catalogue.vectors_IT.indptr))),
)  # fmt: skip
"""Of an item alone."""

USERS: tuple[Feature, ...] = (
    Feature("history length", "zero-shot", "log(items of the history)",
            lambda block: np.log(np.array([[max(len(history), 1)] for history in block.histories]))),
    Feature("density", "in-context", "log(training interactions per item of the set)",
            lambda block: np.full((len(block.histories), 1), block.catalogue.context.density)),
)  # fmt: skip
"""Of a user or of the set: the same for all items, so only what is not linear can use them."""

FEATURES = (*PAIRS, *ITEMS, *USERS)
BY_NAME = {feature.name: feature for feature in FEATURES}


def feature_names() -> list[str]:
    """Of the columns of `feature_values`: each feature as it is, then those of pairs and items within the list."""
    return [feature.name for feature in FEATURES] + [f"{feature.name}, in the list" for feature in (*PAIRS, *ITEMS)]


def feature_values(block: Block, items_NK: np.ndarray) -> np.ndarray:
    """Float32 [N, K, F] of lists of items (-1 where a list is short, whose values are 0).

    Behind the features as they are stand those of pairs and items less their mean over the list, over its standard
    deviation: what tells an item from the others that it competes with.
    """
    present_NK1 = (items_NK >= 0)[..., None]
    rows_NK = np.maximum(items_NK, 0)
    pairs = [np.take_along_axis(block.dense(feature.name), rows_NK, axis=1) for feature in PAIRS]
    items = [feature.compute(block)[rows_NK] for feature in ITEMS]
    users = [np.broadcast_to(feature.compute(block), rows_NK.shape) for feature in USERS]
    values_NKF = np.stack([*pairs, *items], axis=-1).astype(np.float32) * present_NK1
    counts_N11 = np.maximum(present_NK1.sum(axis=1, keepdims=True), 1)
    centred_NKF = (values_NKF - values_NKF.sum(axis=1, keepdims=True) / counts_N11) * present_NK1
    deviations_N1F = np.sqrt((centred_NKF**2).sum(axis=1, keepdims=True) / counts_N11)
    within_NKF = centred_NKF / np.maximum(deviations_N1F, 1e-6)
    whole_NKF = np.stack(users, axis=-1).astype(np.float32) * present_NK1
    return np.concatenate([values_NKF, whole_NKF, within_NKF], axis=-1).astype(np.float32)
