"""Users who walk round a ring of items: a pattern that small models learn in seconds."""

import numpy as np

from zeroshot import baselines
from zeroshot.baselines.causal import Shape
from zeroshot.baselines.fit import FitConfig
from zeroshot.baselines.sasrec import SasrecConfig
from zeroshot.protocol.recommender import Ranking
from zeroshot.tasks.task import Task

RING = 40
SMALL = SasrecConfig(
    Shape(width=16, heads=2, layers=1, max_length=8, dropout=0.1),
    FitConfig(learning_rate=1e-2, batch_users=32, max_epochs=15, patience=4),
)


def scores(recommender: baselines.Recommender, *histories: list[int] | np.ndarray) -> list[list[float]]:
    """Dense scores of each history."""
    ranking = recommender.rank([np.array(history) for history in histories], ("all",))
    assert isinstance(ranking, Ranking) and ranking.items_NK is None
    return ranking.scores_NK.tolist()


def walkers(num_users: int = 150, seed: int = 1) -> Task:
    """Everyone walks round a ring of items, one or two steps at a time, from a start of their own; a few items are
    starts more often than others, so that popularity says something."""
    draw = np.random.default_rng(seed)
    starts = np.minimum(draw.integers(0, RING, num_users), draw.integers(0, RING, num_users))
    walks = [(start + np.cumsum(draw.choice([1, 1, 1, 2], size=7))) % RING for start in starts]
    return Task(
        name="Ring",
        users=[f"u{number}" for number in range(num_users)],
        texts=[f"title: bead {row // 8} of row {row % 8}" for row in range(RING)],
        items=[f"i{row:02d}" for row in range(RING)],
        histories=[walk[:-1] for walk in walks],
        targets=np.array([walk[-1] for walk in walks]),
        training_histories=[walk[:-2] for walk in walks],
        validation=np.array([walk[-2] for walk in walks]),
    )
