"""The configuration of an evaluation, the names of its baselines and blends, and how one ends whose audit failed.

Nothing heavy is imported: a command line refuses a wrong name at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from pretrain.config.run import Precision
from pretrain.config.tracking_uri import check_uri
from pretrain.decoding.config import SearchConfig
from shards.bounds import Count, Natural, NonNegative, check

AUDIT_FAILED = 3
"""Exit status: the results are written, but a check of the audit says that they cannot be believed."""
Repeats = Literal["free", "observed"]
Control = Literal["untrained", "untrained-ids"]
POPULARITY_BLEND, TEXT_BLEND = "idgenrec+popularity", "idgenrec+text+popularity"
"""The model together with what is known of the unseen set, by their names in tables."""
BLENDS = (POPULARITY_BLEND, TEXT_BLEND)


TRAINING_FREE = (
    "random", "popularity", "repeat", "neighbours", "item-order", "tfidf-last", "tfidf-decayed", "text+popularity",
    "text+popularity+cooccurrence", "star",
)  # fmt: skip
"""Those of every report: nothing is trained and nothing has to be given."""
ENCODER = ("encoder-last", "encoder-decayed")
"""Training-free too, but a sentence encoder has to be given."""
TRAINED = ("frozen-text", "ranker")
"""Trained on the Fusion, as the model is, and never on the unseen set."""
READS_VECTORS = (*ENCODER, "frozen-text")
"""Those that need a sentence encoder."""
AUDITED_ANEW = (*TRAINING_FREE, "ranker")
"""Made again from changed data by the audit: what is counted on the unseen set shows itself there, and training is not
done twice (the ranker's weights do not depend on that set)."""
SUPERVISED = ("sasrec",)
"""Trained on the unseen set itself: a ceiling, not a peer."""
KNOWN = (*TRAINING_FREE, *ENCODER, *TRAINED, *SUPERVISED)


def check_names(names: Sequence[str], encoder: str | None) -> None:
    """ValueError for a name that is not known, one that comes twice, or one that needs an encoder without one."""
    unknown = [name for name in names if name not in KNOWN]
    if unknown:
        raise ValueError(f"no baseline is called {', '.join(unknown)}; known are {', '.join(KNOWN)}")
    twice = sorted({name for name in names if list(names).count(name) > 1})
    if twice:
        raise ValueError(f"baseline {', '.join(twice)} is named twice")
    wanting = [name for name in names if name in READS_VECTORS]
    if wanting and encoder is None:
        raise ValueError(f"{', '.join(wanting)}: a sentence encoder is needed; give its name or folder with --encoder")


def baseline_kind(name: str) -> str:
    """The kind of a baseline in results: "supervised" or "baseline"."""
    return "supervised" if name in SUPERVISED else "baseline"


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
    """Test sets by name, NAME@released (a user's items sorted by item id), or TOML files; none = all of the shards."""
    sample: Count | None = None
    """Models judge the published sample of so many users per task (2000: the one of docs/zeroshot.md), whatever the
    seed; classic baselines judge everyone; pairs are compared on common users."""
    max_users: Count | None = None
    """Everyone, baselines included, judges a sample of so many users per task, drawn by the seed; none = all users."""
    search: SearchConfig = field(default_factory=SearchConfig)
    candidates: str | None = None
    """Text file of item ids, one per line: the model and every baseline rank these alone; none = all items."""
    controls: tuple[Control, ...] = ("untrained",)
    """The model with something taken away: untrained (the recommender before training), untrained-ids (the trained one
    over IDs of the generator before training)."""
    precision: Precision = "fp32"
    """Of a recommender's weights and activations in the search; scores are summed, and IDs written, in float32."""
    repeats: Repeats = "free"
    """observed: where no training history of an unseen set holds an item twice, the model lists none of the user's
    history, under either protocol."""
    blend_weight: NonNegative = 0.0
    """Judge a blend too, `idgenrec+text+popularity`: so many times an item's log-probability by the baseline
    `text+popularity` is added to the model's scores, and the search looks ahead to it; 0 = no blend."""
    popularity_weight: NonNegative = 0.0
    """Judge a blend without text too, `idgenrec+popularity`: so many times an item's log-probability before anything is
    read (an item of the history with the share of repeats, else any by its count in training histories of the unseen
    set) is added to the model's scores; 0 = no such blend."""
    baselines: tuple[str, ...] = TRAINING_FREE
    """Whom the model is judged beside: random, popularity, repeat, neighbours, item-order, tfidf-last, tfidf-decayed,
    text+popularity, text+popularity+cooccurrence, star; by request encoder-last, encoder-decayed, frozen-text (with
    --encoder), ranker (trained on the Fusion, reads counts of the unseen set) and sasrec (trained on the unseen
    set)."""
    encoder: str | None = None
    """Hugging Face name or folder of a sentence encoder for the baselines that need one; a T5 serves too."""
    pretraining_shards: str | None = None
    """Shard folder that the checkpoint was trained on, where it is not `shards`: the audit looks users and texts up."""
    sweep_users: Natural = 0
    """Seeded sample of users for other beams (10, 20, 50) and templates (1 to 10); 0 = no sweeps, 500 is plenty."""
    books: str | None = None
    """Folder of ID books that evaluations and runs share (all ranks must see it): what the same generator wrote with
    the same options for the same texts is not made again; none = nothing is shared."""
    seed: Natural = 0
    """Of max_users, the sweeps' sample and the bootstrap."""
    threads: Count = 1
    """CPU threads per rank."""
    tracking_uri: str | None = None
    """MLflow store of the run; none = the one that it was trained with, or mlflow.db beside a run without one."""

    def __post_init__(self) -> None:
        check(self)
        check_uri(self.tracking_uri)
        check_names(self.baselines, self.encoder)
        if self.search.length < 10:
            raise ValueError(f"lists of {self.search.length} items (search.beam, search.list_length); HR@10 needs 10")
        if self.sample is not None and self.sample < 1:
            raise ValueError(f"sample is {self.sample}; it must be at least 1 (2000 is the published one)")
        if self.sample is not None and self.max_users is not None:
            raise ValueError("sample (models alone) and max_users (everyone) exclude each other; give one")

    @property
    def blends(self) -> dict[str, float]:
        """The blends that are asked for, and the weight of what is added to the model."""
        weights = {POPULARITY_BLEND: self.popularity_weight, TEXT_BLEND: self.blend_weight}
        return {name: weight for name, weight in weights.items() if weight}
