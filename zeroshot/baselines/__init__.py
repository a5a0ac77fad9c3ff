"""Recommenders that a trained model has to beat, through one interface.

Enters: a task's texts, item names, training histories and validation items, and for two of them the Fusion the model
was trained on. Leaves: recommenders. What must hold: no baseline is given a target; each scores everything, and taking
the history out for the protocol `new` is the judge's work; what is costly is made when it is first asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import torch

from pretrain.ranking.context import Context
from pretrain.ranking.features import Catalogue
from pretrain.ranking.text_match import item_vectors
from pretrain.runtime.progress import SILENT, Reporter
from zeroshot.baselines.cooccurrence import Star, TextPopularityCooccurrence
from zeroshot.baselines.encoder import EncoderDecayed, EncoderLast, SentenceEncoder
from zeroshot.baselines.fit import JUDGED_BY, Epoch
from zeroshot.baselines.frozen_text import FrozenText
from zeroshot.baselines.heuristics import ItemOrder, Neighbours, Popularity, Random, Repeat
from zeroshot.baselines.in_context import InContextRanker
from zeroshot.baselines.sasrec import Sasrec
from zeroshot.baselines.text_popularity import TextPopularity
from zeroshot.baselines.tfidf import TfidfDecayed, TfidfLast
from zeroshot.protocol.config import ENCODER, KNOWN, SUPERVISED, TRAINED, TRAINING_FREE, baseline_kind, check_names
from zeroshot.protocol.recommender import Recommender
from zeroshot.tasks.task import Task

__all__ = [
    "ENCODER", "KNOWN", "SUPERVISED", "TRAINED", "TRAINING_FREE", "BaselineContext", "EncoderDecayed", "EncoderLast",
    "FrozenText", "InContextRanker", "ItemOrder", "Neighbours", "Popularity", "Random", "Recommender", "Repeat",
    "Sasrec", "SentenceEncoder", "Star", "TextPopularity", "TextPopularityCooccurrence", "TfidfDecayed", "TfidfLast",
    "baseline_kind", "build", "check_names", "item_vectors",
]  # fmt: skip


@dataclass(frozen=True)
class BaselineContext:
    """What baselines may need beside a task.

    Attributes:
        shards: the shard folder whose train members are the Fusion; for "frozen-text".
        seed: of whatever is drawn or trained.
        device: where encoders and small transformers run.
        threads: CPU threads of this process; bits of what is trained depend on it, so caches are keyed by it.
        encoder: Hugging Face name or folder of a sentence encoder; for "encoder-..." and "frozen-text".
        cache: folder for embeddings and weights; none = nothing is kept.
        reporter: is told of epochs.
    """

    shards: str | None = None
    seed: int = 0
    device: torch.device = torch.device("cpu")
    threads: int = 1
    encoder: str | None = None
    cache: str | Path | None = None
    reporter: Reporter = SILENT


def build(names: tuple[str, ...] | list[str], task: Task, context: BaselineContext) -> list[Recommender]:
    """The baselines of these names, in this order, for one task.

    Raises:
        ValueError: a name is unknown, or something that it needs is not given.
    """
    check_names(names, context.encoder)
    for name in names:
        if name in TRAINED and context.shards is None:
            raise ValueError(f"{name} is trained on the Fusion; give the shard folder")
    num_items, seed, hear = len(task.items), context.seed, partial(epoch_reporter, context.reporter, task.name)
    words = lru_cache(lambda: item_vectors(task.texts))
    counted = lru_cache(lambda: Context(task.training_histories, num_items))
    encoder = SentenceEncoder(
        context.encoder or "", context.device, context.threads, context.cache,
        lambda done, total: context.reporter.progress(f"{task.name}, encoder", done, total, "texts"),
    )  # fmt: skip
    makers: dict[str, Callable[[], Recommender]] = {
        "random": lambda: Random(num_items, seed),
        "popularity": lambda: Popularity(task.training_histories, num_items),
        "repeat": lambda: Repeat(num_items),
        "neighbours": lambda: Neighbours(task.training_histories, num_items),
        "item-order": lambda: ItemOrder(task.items),
        "tfidf-last": lambda: TfidfLast(words()),
        "tfidf-decayed": lambda: TfidfDecayed(words()),
        "text+popularity": lambda: TextPopularity(words(), task.training_histories),
        "text+popularity+cooccurrence": lambda: TextPopularityCooccurrence(
            words(), task.training_histories, counted()
        ),
        "star": lambda: Star(words(), counted()),
        "encoder-last": lambda: EncoderLast(encoder, task.texts),
        "encoder-decayed": lambda: EncoderDecayed(encoder, task.texts),
        "frozen-text": lambda: FrozenText(encoder, task.texts, str(context.shards), seed, None, hear("frozen-text")),
        "ranker": lambda: InContextRanker(
            Catalogue(counted(), words()), task.training_histories, str(context.shards), seed, None, context.cache
        ),
        "sasrec": lambda: Sasrec(
            task, seed, None, context.device, context.threads, context.cache, hear("sasrec")
        ),
    }  # fmt: skip
    return [makers[name]() for name in names]


def epoch_reporter(reporter: Reporter, task: str, baseline: str) -> Callable[[Epoch], None]:
    """What tells the reporter one line for each epoch."""

    def tell(epoch: Epoch) -> None:
        figure = f"validation {JUDGED_BY} {epoch.validation[JUDGED_BY]:.4f}"
        reporter.line(f"  {task}, {baseline}: epoch {epoch.number + 1}, loss {epoch.loss:.3f}, {figure}")

    return tell
