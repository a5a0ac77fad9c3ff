"""`idgenrec foundation`: the foundation model, from raw folders to the report.

Enters: words. Leaves: a folder that the same command takes up again. Must hold: exit status 3 where an audit failed,
with the results written.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field

from launchers import recipes
from pretrain.config import EngineConfig
from pretrain.decoding.config import SearchConfig
from pretrain.ids.config import Form
from zeroshot.baseline_names import TRAINING_FREE
from zeroshot.config import Control


@dataclass(frozen=True)
class Foundation:
    """Build shards, pretrain the recipe foundation_small once per seed, judge every unseen data set, pool the seeds.

    In: folders of raw data, some to learn from, the others unseen; a folder with a small T5 and its tokenizer. To
    choose something, name one of the pretraining categories with --test and leave it out of --train.

    Out: a folder with shards, seed-N/run, seed-N/report, books (ID books that all seeds share), compared and mlflow.db.
    An interrupted call is taken up again by the same command; more seeds can be asked for later.

    Exit status 3: an audit found that its numbers cannot be believed; the results are written all the same.

    Example: idgenrec foundation --train data/Games data/Phones --test data/Beauty --t5 t5 --size small --out
    runs/foundation
    """

    train: tuple[str, ...]
    """Folders of raw data to pretrain on."""
    test: tuple[str, ...]
    """Folders of unseen data sets."""
    t5: str
    """Hugging Face folder with the T5 that both models start from, and its tokenizer."""
    out: str
    """Folder to write; one that this command began is taken up."""
    size: recipes.Size = "full"
    """full: 30,000 users a category, one epoch, everyone judged. small: a sample of everything, for a machine without a
    GPU."""
    train_models: recipes.Trained = "both"
    """Both models in turn, or one alone for as long as it trains there."""
    form: Form = "generated"
    """Who writes IDs: the generator, or as controls the first words of an item's text, or random words; these go with
    --train-models recommender."""
    seeds: tuple[int, ...] = (0,)
    """One run each; their users are pooled in `compared`."""
    search: SearchConfig = field(default_factory=SearchConfig)
    text_weight: float = 0.0
    """Judge the blend with a text match too; see `idgenrec zeroshot --help`."""
    controls: tuple[Control, ...] = ("untrained",)
    """See `idgenrec zeroshot --help`."""
    baselines: tuple[str, ...] = TRAINING_FREE
    """See `idgenrec zeroshot --help`."""
    engine: EngineConfig = field(default_factory=EngineConfig)
    processes: int = 1
    """Local processes (ranks)."""

    def __post_init__(self) -> None:
        if self.form != "generated" and self.train_models != "recommender":
            raise ValueError(
                f"IDs of the form {self.form} are not the generator's, so it has nothing to learn; give --train-models "
                "recommender beside --form"
            )

    def run(self) -> None:
        from pathlib import Path

        from launchers.console import Console
        from launchers.foundation import Asked, run_foundation

        asked = Asked(
            self.train, self.test, self.t5, self.size, self.train_models, self.form, self.seeds, self.search,
            self.text_weight, self.controls, self.baselines,
        )  # fmt: skip
        status = run_foundation(asked, Path(self.out), self.processes, self.engine, Console())
        if status:
            sys.exit(status)
