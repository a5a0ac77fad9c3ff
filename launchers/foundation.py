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

from launchers import recipes
from launchers.console import Console
from launchers.local import RankFailed, launch
from launchers.summary import failed_checks, headline_lines
from pretrain.config import EngineConfig, PretrainConfig
from pretrain.decoding.config import SearchConfig
from pretrain.identity import differences
from pretrain.ids.config import Form
from pretrain.tracking import default_uri
from shards.build import build
from shards.config import BuildConfig
from shards.whole import write_whole
from zeroshot.blocks import FOLDER
from zeroshot.config import AUDIT_FAILED, Control, EvaluateConfig

BEGUN = "foundation.json"


@dataclass(frozen=True)
class Asked:
    """What decides the results; see the command for the meaning."""

    train: tuple[str, ...]
    test: tuple[str, ...]
    t5: str
    size: recipes.Size
    trained: recipes.Trained
    form: Form
    seeds: tuple[int, ...]
    search: SearchConfig
    text_weight: float
    controls: tuple[Control, ...]
    baselines: tuple[str, ...]


def run_foundation(asked: Asked, out: Path, processes: int, engine: EngineConfig, console: Console) -> int:
    """Returns the exit status: `AUDIT_FAILED` where an audit failed, else 0. Raises ValueError for other options than
    the folder was begun with."""
    begin(asked, out)
    shards, failed = out / "shards", []
    if not shards.exists():
        console.line(f"shards -> {shards}")
        build(build_config(asked, shards), console.line)
    for number, seed in enumerate(asked.seeds, start=1):
        folder = out / f"seed-{seed}"
        if not judged(folder / "report"):
            console.line(f"seed {seed} ({number} of {len(asked.seeds)}): training -> {folder}/run")
            launch("pretrain", dataclasses.asdict(pretrain_config(asked, shards, folder, seed, engine)), processes)
            console.line(f"seed {seed}: zero-shot -> {folder}/report")
            try:
                launch("zeroshot", dataclasses.asdict(evaluate_config(asked, shards, folder, seed)), processes)
            except RankFailed as error:
                if error.status != AUDIT_FAILED:
                    raise
        results = folder / "report" / "results.json"
        for line in headline_lines(results):
            console.result(line)
        failed += failed_checks(results)
    if len(asked.seeds) > 1:
        from zeroshot.compare import compare, load_runs
        from zeroshot.compare_report import write_comparison

        reports = [str(out / f"seed-{seed}" / "report") for seed in asked.seeds]
        console.result(f"comparison: {write_comparison(compare(load_runs(reports), 0), str(out / 'compared'))[1]}")
    for line in failed:
        console.line(line)
    return AUDIT_FAILED if failed else 0


def judged(report: Path) -> bool:
    """Whether an evaluation has come to its end there."""
    return (report / "results.json").is_file() and not (report / FOLDER).exists()


def begin(asked: Asked, out: Path) -> None:
    """Note what is asked; ValueError where the folder was begun with something else. More seeds may be asked for."""
    out.mkdir(parents=True, exist_ok=True)
    ours = json.loads(json.dumps(dataclasses.asdict(asked)))
    ours.pop("seeds")
    file = out / BEGUN
    if file.is_file():
        changed = differences(json.loads(file.read_text()), ours)
        if changed:
            raise ValueError(f"{out} was begun with {'; '.join(changed)}: give another --out, or those values")
    write_whole(file, json.dumps(ours, indent=1).encode())


def build_config(asked: Asked, shards: Path) -> BuildConfig:
    """Items and users of the test sets are dropped from the Fusion where ids allow; every category is capped."""
    return BuildConfig(
        str(shards), asked.train, asked.test, tokenizer=asked.t5, max_users=recipes.SCALES[asked.size].max_users
    )


def pretrain_config(asked: Asked, shards: Path, folder: Path, seed: int, engine: EngineConfig) -> PretrainConfig:
    """The recipe, its books kept for all seeds."""
    config = recipes.foundation_small(str(shards), str(folder / "run"), asked.t5, asked.size, asked.trained, seed)
    return dataclasses.replace(
        config, engine=engine, ids=dataclasses.replace(config.ids, form=asked.form),
        books=str(shards.parent / "books"), tracking_uri=default_uri(shards.parent),
    )  # fmt: skip


def evaluate_config(asked: Asked, shards: Path, folder: Path, seed: int) -> EvaluateConfig:
    """The judge over all test sets of the shards."""
    return EvaluateConfig(
        str(folder / "run"), str(shards), str(folder / "report"), sample=recipes.SCALES[asked.size].sample,
        search=asked.search, text_weight=asked.text_weight, controls=asked.controls, baselines=asked.baselines,
        books=str(shards.parent / "books"), seed=0, tracking_uri=default_uri(shards.parent),
    )  # fmt: skip
