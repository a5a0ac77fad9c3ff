"""The configuration of an evaluation."""

from __future__ import annotations

from dataclasses import dataclass, field

from pretrain.config import SearchConfig
from zeroshot.baseline_names import TRAINING_FREE, check_names


@dataclass(frozen=True)
class EvaluateConfig:
    """What to judge, and where the results go."""

    checkpoint: str
    """Run folder (its best checkpoint) or one checkpoint."""
    shards: str
    """Shard folder with the test sets."""
    out: str
    """Folder for results, ranks, ID books and report."""
    tasks: tuple[str, ...] = ()
    """Names of test sets; none = all of the shard folder."""
    max_users: int | None = None
    """Seeded sample of users per task; none = everyone."""
    search: SearchConfig = field(default_factory=SearchConfig)
    candidates: str | None = None
    """Text file of item ids, one per line: the model and every baseline rank these alone; none = all items."""
    baselines: tuple[str, ...] = TRAINING_FREE
    """Whom the model is judged beside: random, popularity, repeat, neighbours, item-order, tfidf-last, tfidf-decayed;
    by request encoder-last, encoder-decayed, frozen-text (with --encoder) and sasrec (trained on the unseen set)."""
    encoder: str | None = None
    """Hugging Face name or folder of a sentence encoder for the baselines that need one; a T5 serves too."""
    seed: int = 0
    """Of the sample and the bootstrap."""
    threads: int = 1
    """CPU threads per rank."""
    tracking_uri: str | None = None
    """MLflow store of the run; none = mlflow.db beside the run folder."""

    def __post_init__(self) -> None:
        self.search.check()
        check_names(self.baselines, self.encoder)
        if self.search.length < 10:
            raise ValueError(f"lists of {self.search.length} items (search.beam, search.list_length); HR@10 needs 10")
        if self.max_users is not None and self.max_users < 1:
            raise ValueError(f"max_users is {self.max_users}; it must be at least 1")
