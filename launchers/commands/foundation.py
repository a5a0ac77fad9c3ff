"""`idgenrec foundation`: the foundation model, from raw folders to the report.

Enters: words. Leaves: a folder that the same command takes up again. Must hold: exit status 3 where an audit failed,
with the results written.
"""

from __future__ import annotations

import dataclasses
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated

from launchers.jobs import recipes
from pretrain.config.ids import IdConfig
from pretrain.config.prompt import PromptConfig
from pretrain.config.run import EngineConfig, Precision
from pretrain.config.soft_ids import SoftIdConfig
from pretrain.decoding.config import SearchConfig
from shards.bounds import Bounds, Count, Natural, NonNegative, Rate, Share, check
from shards.config import Mixture
from zeroshot.protocol.config import TRAINING_FREE, Control, Repeats

if TYPE_CHECKING:
    from launchers.commands.foundation_run import Asked


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
    users: Count | None = None
    """Users of a pretraining category at most; none = as the size says."""
    total_users: Count | None = None
    """Users of all pretraining categories together; none = --users of each."""
    mixture: Mixture = "proportional"
    """How --total-users is shared among the categories: by their size, evenly, or by size to the power
    1/temperature."""
    temperature: Annotated[float, Bounds(least=1)] = 2.0
    """Only for --mixture temperature: 1 is proportional, large is uniform."""
    steps: Count | None = None
    """Optimiser steps of the recommender; none = as the size says."""
    batch_size: Count | None = None
    """Samples of an optimiser step; none = as the size says."""
    dropout: Rate | None = None
    """Dropout of both models in training; none = as the size says."""
    sample: Count | None = None
    """Users of a data set that models judge; none = as the size says."""
    judge_users: Count | None = None
    """Users of a data set that everyone judges, baselines included, instead of a sample for models; none = the size
    says whom models judge, and baselines judge all."""
    lr: NonNegative = recipes.FOUNDATION_LR
    """Peak learning rate of the recommender, and of teaching the generator."""
    teaching_steps: Natural = 0
    """Optimiser steps that first teach the generator to write an item's informative words, for a T5 that was tuned to
    write something else than tags."""
    generator_steps: Natural | None = None
    """Optimiser steps of the generator between those of the recommender; none = as the size says."""
    generator_lr: NonNegative = recipes.GENERATOR_LR
    """Peak learning rate of the generator."""
    history_dropout: Rate = 0.0
    """Share of the recommender's samples whose prompt leaves the history out; goes with --search.prior-weight."""
    trained_share: Share = 1.0
    """Judge a recommender that keeps so much of what training changed; see `idgenrec interpolate --help`."""
    from_scratch: bool = False
    """Let the recommender start from random weights, as wide and deep as a T5 small, whatever the T5 is."""
    ids: IdConfig = field(default_factory=IdConfig)
    """Algorithm 1. IDs that the generator does not write (--ids.form) go with --train-models recommender."""
    prompt: PromptConfig = field(default_factory=PromptConfig)
    """What stands in a prompt; a user's ID (Table 6) by --prompt.user-id."""
    soft_ids: SoftIdConfig = field(default_factory=SoftIdConfig)
    """The path by which the recommender's loss reaches the generator."""
    seeds: tuple[Natural, ...] = (0,)
    """One run each; their users are pooled in `compared`."""
    search: SearchConfig = field(default_factory=SearchConfig)
    repeats: Repeats = "free"
    """See `idgenrec zeroshot --help`."""
    blend_weight: NonNegative = 0.0
    """Judge the blend with text and popularity too; see `idgenrec zeroshot --help`."""
    popularity_weight: NonNegative = 0.0
    """Judge the blend with popularity and repeats, without text; see `idgenrec zeroshot --help`."""
    judge_precision: Precision = "fp32"
    """Of the recommender when it is judged; in training it is that of the engine."""
    controls: tuple[Control, ...] = ("untrained",)
    """See `idgenrec zeroshot --help`."""
    baselines: tuple[str, ...] = TRAINING_FREE
    """See `idgenrec zeroshot --help`."""
    engine: EngineConfig = field(default_factory=EngineConfig)
    processes: Count = 1
    """Local processes (ranks)."""

    def __post_init__(self) -> None:
        check(self)
        if self.ids.form != "generated" and self.train_models != "recommender":
            raise ValueError(
                f"IDs of the form {self.ids.form} are not the generator's, so it has nothing to learn; give "
                "--train-models recommender beside --ids.form"
            )
        if self.ids.form != "generated" and self.prompt.user_id == "none" and self.teaching_steps:
            raise ValueError(
                f"IDs of the form {self.ids.form} are not the generator's, so it need not be taught; leave "
                "--teaching-steps or --ids.form out, or let it name users by --prompt.user-id"
            )
        if self.sample is not None and self.judge_users is not None:
            raise ValueError(
                "--sample (for models alone) and --judge-users (for everyone) exclude each other; give one"
            )

    def scale(self) -> recipes.Scale:
        """That of the size, with what was asked for instead."""
        asked = {
            "max_users": self.users, "steps": self.steps, "sample": self.sample,
            "teaching_steps": self.teaching_steps, "generator_steps": self.generator_steps,
            "batch_size": self.batch_size, "dropout": self.dropout,
        }  # fmt: skip
        asked = {name: value for name, value in asked.items() if value is not None}
        return dataclasses.replace(recipes.SCALES[self.size], **asked)

    def run(self) -> None:
        from pathlib import Path

        from launchers.commands.foundation_run import run_foundation
        from launchers.line.console import Console

        status = run_foundation(self.asked(), Path(self.out), self.processes, self.engine, Console())
        if status:
            sys.exit(status)

    def asked(self) -> Asked:
        """What decides the results."""
        from launchers.commands.foundation_run import Asked

        return Asked(
            self.train, self.test, self.t5, self.scale(), self.total_users, self.mixture, self.temperature,
            self.train_models, self.ids, self.prompt, self.soft_ids, self.from_scratch, self.lr, self.generator_lr,
            self.history_dropout, self.trained_share, self.seeds, self.search, self.repeats, self.blend_weight,
            self.popularity_weight, self.judge_precision, self.judge_users, self.controls, self.baselines,
        )  # fmt: skip
