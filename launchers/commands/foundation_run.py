"""`idgenrec foundation`: from raw folders to the judged foundation model, in one call that can be given again.

Enters: what is asked. Leaves: shards, a run and a report per seed, their comparison. Must hold: it takes the real path,
the same code and the same commands as by hand; what is finished is not done again, what was broken off goes on; a
folder that was begun with other options is refused.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launchers.commands.pretrain import Pretrain
from launchers.commands.shard import Build
from launchers.commands.zeroshot import Compare, failed_checks, headline_lines
from launchers.jobs import recipes
from launchers.jobs.local import RankFailed, launch
from launchers.line.console import Console
from pretrain.config.ids import IdConfig
from pretrain.config.prompt import PromptConfig
from pretrain.config.run import EngineConfig, Precision, PretrainConfig
from pretrain.config.soft_ids import SoftIdConfig
from pretrain.config.tracking_uri import default_uri
from pretrain.decoding.config import SearchConfig
from pretrain.export.interpolation import interpolate
from pretrain.training.run_identity import differences
from shards.config import BuildConfig, Mixture
from shards.files.atomic import write_whole
from zeroshot.judge.user_blocks import FOLDER
from zeroshot.protocol.config import AUDIT_FAILED, Control, EvaluateConfig, Repeats

BEGUN = "foundation.json"


@dataclass(frozen=True)
class Asked:
    """What decides the results; see the command for the meaning."""

    train: tuple[str, ...]
    test: tuple[str, ...]
    t5: str
    scale: recipes.Scale
    total_users: int | None
    mixture: Mixture
    temperature: float
    trained: recipes.Trained
    ids: IdConfig
    prompt: PromptConfig
    soft_ids: SoftIdConfig
    from_scratch: bool
    lr: float
    generator_lr: float
    history_dropout: float
    trained_share: float
    seeds: tuple[int, ...]
    search: SearchConfig
    repeats: Repeats
    blend_weight: float
    popularity_weight: float
    judge_precision: Precision
    judge_users: int | None
    controls: tuple[Control, ...]
    baselines: tuple[str, ...]


def run_foundation(asked: Asked, out: Path, processes: int, engine: EngineConfig, console: Console) -> int:
    """Returns the exit status: `AUDIT_FAILED` where an audit failed, else 0. Raises ValueError for other options than
    the folder was begun with, and for what any of the commands would refuse."""
    refuse_others(asked, out)
    shards, failed = out / "shards", []
    build = Build(build_config(asked, shards))  # what is refused is refused before anything is built
    for seed in asked.seeds:
        pretrain_config(asked, shards, out / f"seed-{seed}", seed, engine)
    if not shards.exists():
        out.mkdir(parents=True, exist_ok=True)
        build.run()
    write_whole(out / BEGUN, json.dumps(begun(asked), indent=1).encode())
    for number, seed in enumerate(asked.seeds, start=1):
        folder = out / f"seed-{seed}"
        if not judged(folder / "report"):
            console.line(f"seed {seed} ({number} of {len(asked.seeds)}): training -> {folder}/run")
            Pretrain(pretrain_config(asked, shards, folder, seed, engine), processes=processes).run()
            judging = evaluate_config(asked, shards, folder, number == 1)
            if asked.trained_share < 1:
                judging = dataclasses.replace(judging, checkpoint=str(interpolate(folder / "run", asked.trained_share)))
            console.line(f"seed {seed}: zero-shot -> {folder}/report")
            try:
                launch("zeroshot", dataclasses.asdict(judging), processes)
            except RankFailed as error:
                if error.status != AUDIT_FAILED:
                    raise
        results = folder / "report" / "results.json"
        console.results(headline_lines(results))
        failed += failed_checks(results)
    if len(asked.seeds) > 1:
        Compare(tuple(str(out / f"seed-{seed}" / "report") for seed in asked.seeds), str(out / "compared")).run()
    for line in failed:
        console.line(line)
    return AUDIT_FAILED if failed else 0


def judged(report: Path) -> bool:
    """Whether an evaluation has come to its end there."""
    return (report / "results.json").is_file() and not (report / FOLDER).exists()


def begun(asked: Asked) -> dict[str, Any]:
    """What a folder is begun with, as JSON keeps it; more seeds may be asked for later."""
    values = json.loads(json.dumps(dataclasses.asdict(asked)))
    del values["seeds"]
    return values


def refuse_others(asked: Asked, out: Path) -> None:
    """ValueError where the shards of the folder were built for other options."""
    if (out / BEGUN).is_file():
        changed = differences(json.loads((out / BEGUN).read_text()), begun(asked))
        if changed:
            raise ValueError(f"{out} was begun with {'; '.join(changed)}: give another --out, or those values")


def build_config(asked: Asked, shards: Path) -> BuildConfig:
    """Items and users of the test sets are dropped from the Fusion where ids allow; every category is capped."""
    return BuildConfig(
        str(shards), asked.train, asked.test, tokenizer=asked.t5, max_users=asked.scale.max_users,
        total_users=asked.total_users, mixture=asked.mixture, temperature=asked.temperature,
    )  # fmt: skip


def pretrain_config(asked: Asked, shards: Path, folder: Path, seed: int, engine: EngineConfig) -> PretrainConfig:
    """The recipe, its books kept for all seeds."""
    config = recipes.foundation_small(
        str(shards), str(folder / "run"), asked.t5, asked.scale, asked.trained, asked.from_scratch, asked.lr,
        asked.generator_lr, asked.history_dropout, seed,
    )  # fmt: skip
    return dataclasses.replace(
        config, engine=engine, ids=asked.ids, prompt=asked.prompt, soft_ids=asked.soft_ids,
        books=str(shards.parent / "books"), tracking_uri=default_uri(shards.parent),
    )  # fmt: skip


def evaluate_config(asked: Asked, shards: Path, folder: Path, first: bool) -> EvaluateConfig:
    """The judge over all test sets of the shards. `untrained` is judged with the `first` seed alone where it is the
    same for all: pretrained weights over IDs of a generator that stays as it starts."""
    same = asked.trained == "recommender" and not asked.from_scratch and not asked.scale.teaching_steps
    controls: tuple[Control, ...] = tuple(
        name for name in asked.controls if first or not (same and name == "untrained")
    )
    return EvaluateConfig(
        str(folder / "run"), str(shards), str(folder / "report"),
        sample=None if asked.judge_users else asked.scale.sample, max_users=asked.judge_users, search=asked.search,
        repeats=asked.repeats, blend_weight=asked.blend_weight, popularity_weight=asked.popularity_weight,
        precision=asked.judge_precision, controls=controls, baselines=asked.baselines,
        books=str(shards.parent / "books"), tracking_uri=default_uri(shards.parent),
    )  # fmt: skip
