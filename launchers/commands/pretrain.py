"""`idgenrec pretrain`: a run of pretraining, its plan, and the recipes it can begin from.

Enters: words. Leaves: a run folder, or with `--plan` a table. Must hold: what would stop the run is said before any
process starts; a recipe only sets defaults, which any further flag overrides.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import tyro

from launchers.jobs import recipes
from launchers.line.config_file import FromFile, load
from pretrain.config.run import PretrainConfig
from shards.bounds import Count, Positive, check

Recipe = Literal["foundation", "standard", "finetune"]


@dataclass(frozen=True)
class Pretrain(FromFile):
    """Train recommender and ID generator in turn. The same command takes an interrupted run up again.

    In: a shard folder, made by `idgenrec shard build`; T5s to start from, or shapes to start from scratch.

    Out: a run folder with hashed checkpoints (both models and the ID book), metrics.jsonl, events.jsonl; an MLflow run.

    With --recipe the defaults below are that recipe's (`idgenrec pretrain --recipe foundation --help` shows them); a
    flag beside it has the last word.

    Example: idgenrec pretrain --recipe foundation --preset clean --shards shards --out runs/first --plan
    """

    config: Annotated[PretrainConfig, tyro.conf.arg(name="")]
    processes: Count = 1
    """Local processes (ranks)."""
    plan: bool = False
    """Print phases, tokens, memory, traffic, disk and time, start nothing; status 2 where it cannot fit."""
    device_tflops: Positive | None = None
    """For the plan's hours: what a device reaches in training, in TFLOP/s; none = measured in matrix products."""
    recipe: Recipe | None = None
    """Defaults of a named run: foundation (all categories, one epoch), standard (one data set, three rounds),
    finetune (a checkpoint on one data set)."""
    preset: recipes.Preset = "clean"
    """Of the recipe: the paper's order and learning rates, or ours."""
    train: recipes.Trained = "both"
    """Of the recipe standard: both in turn, or one alone (the paper's Table 5)."""
    from_checkpoint: str | None = None
    """Of the recipe finetune: a checkpoint, or a run (then its best one)."""

    def __post_init__(self) -> None:
        check(self)

    def run(self) -> None:
        from launchers.checks.preflight import look, refuse_what_cannot_fit
        from launchers.jobs.local import launch

        outlook = look(self.config, self.processes)
        if self.plan:
            from launchers.checks.plan import plan_lines
            from launchers.line.console import Console

            Console().results(plan_lines(outlook, self.device_tflops))
        refuse_what_cannot_fit(outlook)
        if not self.plan:
            launch("pretrain", dataclasses.asdict(self.config), self.processes)


def with_recipe(words: Sequence[str], file: str | None = None) -> Pretrain | None:
    """The defaults that `--recipe` or the file of `--config` asks for; None where neither is named.

    Raises ValueError for choices that do not go together. What is spelt wrongly is left for tyro to say.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    for name in ("recipe", "preset", "train", "from-checkpoint"):
        parser.add_argument(f"--{name}", f"--{name.replace('-', '_')}", dest=name.replace("-", "_"))
    try:
        chosen, _ = parser.parse_known_args(list(words))
    except argparse.ArgumentError:
        return None
    recipe, preset, train = chosen.recipe, chosen.preset or "clean", chosen.train or "both"
    known = recipe in get_args(Recipe) and preset in get_args(recipes.Preset) and train in get_args(recipes.Trained)
    if recipe is None:
        given = [name for name in ("preset", "train", "from_checkpoint") if getattr(chosen, name) is not None]
        if given:
            raise ValueError(f"--{given[0].replace('_', '-')} belongs to a recipe; name one with --recipe")
        return None if file is None else Pretrain(load(PretrainConfig, file), config_file=file)
    if file is not None:
        raise ValueError("--config and --recipe both set the defaults; give one of them")
    if not known:
        return None
    if chosen.train is not None and recipe != "standard":
        raise ValueError(f"--train belongs to the recipe standard, not {recipe}; leave it out")
    if (chosen.from_checkpoint is not None) != (recipe == "finetune"):
        raise ValueError("--from-checkpoint and the recipe finetune belong together; give both or neither")
    missing: Any = tyro.MISSING  # the person gives these
    if recipe == "foundation":
        config = recipes.foundation(missing, missing, preset)
    elif recipe == "standard":
        config = recipes.standard(missing, missing, preset, train)
    else:
        config = recipes.finetune(missing, missing, str(_checkpoint(chosen.from_checkpoint)), preset)
    return Pretrain(config, recipe=recipe, preset=preset, train=train, from_checkpoint=chosen.from_checkpoint)


def _checkpoint(path: str) -> Path:
    from pretrain.training.checkpoint import resolve

    return resolve(Path(path))
