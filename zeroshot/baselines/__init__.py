"""Recommenders that a trained model has to beat, through one interface.

Enters: a task's texts, item names, training histories and validation items, and for two of them the Fusion the model
was trained on. Leaves: recommenders. What must hold: no baseline is given a target; each scores everything, and taking
the history out for the protocol `new` is the judge's work; what is costly is made when it is first asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from pretrain.reporter import SILENT, Reporter
from zeroshot.baselines.fit import JUDGED_BY, Epoch
from zeroshot.baselines.item_order import ItemOrder
from zeroshot.baselines.neighbours import Neighbours
from zeroshot.baselines.sasrec import Sasrec
from zeroshot.baselines.simple import Popularity, Random, Repeat
from zeroshot.baselines.tfidf import TfidfDecayed, TfidfLast, item_vectors
from zeroshot.interface import Recommender
from zeroshot.tasks import Task

__all__ = [
    "ENCODER", "KNOWN", "SUPERVISED", "TRAINED", "TRAINING_FREE", "BaselineContext", "ItemOrder", "Neighbours",
    "Popularity", "Random", "Recommender", "Repeat", "Sasrec", "TfidfDecayed", "TfidfLast", "build", "check_names",
    "item_vectors", "kind",
]  # fmt: skip

TRAINING_FREE = ("random", "popularity", "repeat", "neighbours", "item-order", "tfidf-last", "tfidf-decayed")
"""Those of every report: nothing is trained and nothing has to be given."""
ENCODER = ("encoder-last", "encoder-decayed")
"""Training-free too, but a sentence encoder has to be given."""
TRAINED = ("frozen-text",)
"""Trained on the Fusion, as the model is, and never on the unseen set."""
SUPERVISED = ("sasrec",)
"""Trained on the unseen set itself: a ceiling, not a peer."""
KNOWN = (*TRAINING_FREE, *ENCODER, *TRAINED, *SUPERVISED)


@dataclass(frozen=True)
class BaselineContext:
    """What baselines may need beside a task.

    Attributes:
        shards: the shard folder whose train members are the Fusion; for "frozen-text".
        seed: of whatever is drawn or trained.
        device: where encoders and small transformers run.
        threads: CPU threads of this process; bits of what is trained depend on it, so caches are keyed by it.
        encoder: Hugging Face name or folder of a sentence encoder; for "encoder-last", "encoder-decayed", "frozen-text".
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


def check_names(names: tuple[str, ...] | list[str], encoder: str | None) -> None:
    """ValueError for a name that is not known, one that comes twice, or one that needs an encoder without one."""
    unknown = [name for name in names if name not in KNOWN]
    if unknown:
        raise ValueError(f"no baseline is called {', '.join(unknown)}; known are {', '.join(KNOWN)}")
    twice = sorted({name for name in names if list(names).count(name) > 1})
    if twice:
        raise ValueError(f"baseline {', '.join(twice)} is named twice")
    wanting = [name for name in names if name in (*ENCODER, *TRAINED)]
    if wanting and encoder is None:
        raise ValueError(f"{', '.join(wanting)} needs a sentence encoder; give its name or folder with --encoder")


def kind(name: str) -> str:
    """The kind of a baseline in results: "supervised" or "baseline"."""
    return "supervised" if name in SUPERVISED else "baseline"


def build(names: tuple[str, ...] | list[str], task: Task, context: BaselineContext) -> list[Recommender]:
    """The baselines of these names, in this order, for one task.

    Raises:
        ValueError: a name is unknown, or something that it needs is not given.
    """
    check_names(names, context.encoder)
    num_items = len(task.items)
    words = item_vectors(task.texts) if {"tfidf-last", "tfidf-decayed"} & set(names) else None
    makers: dict[str, Callable[[], Recommender]] = {
        "random": lambda: Random(num_items, context.seed),
        "popularity": lambda: Popularity(task.training_histories, num_items),
        "repeat": lambda: Repeat(num_items),
        "neighbours": lambda: Neighbours(task.training_histories, num_items),
        "item-order": lambda: ItemOrder(task.items),
        "tfidf-last": lambda: TfidfLast(words),
        "tfidf-decayed": lambda: TfidfDecayed(words),
        "sasrec": lambda: Sasrec(
            task, context.seed, None, context.device, context.threads, context.cache,
            partial(tell, context.reporter, f"{task.name}, sasrec"),
        ),
    }  # fmt: skip
    return [makers[name]() for name in names]


def tell(reporter: Reporter, what: str, epoch: Epoch) -> None:
    """One line for each epoch of training."""
    figure = epoch.validation[JUDGED_BY]
    reporter.line(f"  {what}: epoch {epoch.number + 1}, loss {epoch.loss:.3f}, validation {JUDGED_BY} {figure:.4f}")
