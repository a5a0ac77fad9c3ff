"""`idgenrec demo`: the whole system on a generated marketplace, embedded and offline.

Enters: a seed and a folder, which must not exist before. Leaves: raw files, shards, a run with checkpoints, an MLflow
store and the zero-shot report. Must hold: it takes the real path; each stage is the same code and the same command that
real data takes.
"""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass
from pathlib import Path

from launchers.line.console import Console
from shards.bounds import Count, Natural, check


@dataclass(frozen=True)
class Demo:
    """The whole system on a generated marketplace: shards, alternating training on two processes, zero-shot report.

    In: nothing; the data are generated from the seed, and no network is used.

    Out: a folder with raw files, shards, a run, an MLflow store and report/report.html. Two to three minutes on two
    cores.

    Example: idgenrec demo --seed 1
    """

    out: str | None = None
    """Folder to write (must not exist); default: the next free runs/demo-NNN."""
    seed: Natural = 0
    """Seed of the data, the models and the training."""
    transfer: bool = True
    """Off: item words say nothing about tastes, so nothing can transfer and the model must not win."""
    processes: Count = 2
    """Local processes (ranks)."""

    def __post_init__(self) -> None:
        check(self)

    def run(self) -> None:
        folder = Path(self.out) if self.out else next_folder(Path("runs"))
        run_demo(folder, self.seed, self.transfer, self.processes, Console())


def run_demo(folder: Path, seed: int, transfer: bool, processes: int, console: Console) -> Path:
    """Generate, shard, pretrain, judge, report. Returns the report's path. Raises ValueError when `folder` exists."""
    from launchers.commands.zeroshot import headline_lines
    from launchers.jobs import recipes
    from launchers.jobs.local import launch
    from launchers.jobs.rank import build_shards
    from pretrain.config.tracking_uri import default_uri
    from shards.config import BuildConfig
    from shards.readers.marketplace import write_marketplace
    from zeroshot.protocol.config import TRAINING_FREE, EvaluateConfig

    if folder.exists():
        raise ValueError(f"{folder} exists; give another --out")
    started = time.monotonic()
    console.line(f"[1/4] a generated marketplace: four categories to learn from, two unseen data sets -> {folder}/raw")
    roles = write_marketplace(folder / "raw", seed, transfer)
    console.line(f"[2/4] tokenizer and WebDataset shards -> {folder}/shards")
    shards = folder / "shards"
    by_role = {role: tuple(str(folder / "raw" / name) for name, r in roles if r == role) for role in ("train", "test")}
    build_shards(BuildConfig(train=by_role["train"], test=by_role["test"], out=str(shards), seed=seed), console)
    console.line(f"[3/4] two T5s trained in turn, {processes} processes, DeepSpeed ZeRO over gloo -> {folder}/run")
    config = recipes.demo(str(shards), str(folder / "run"), seed)
    launch("pretrain", dataclasses.asdict(config), processes)
    console.line(f"[4/4] zero-shot on the unseen data sets -> {folder}/report")
    beside = (*TRAINING_FREE, "ranker")
    judged = EvaluateConfig(str(folder / "run"), str(shards), str(folder / "report"), baselines=beside, seed=seed)
    launch("zeroshot", dataclasses.asdict(judged), processes)
    console.results(headline_lines(folder / "report" / "results.json"))
    console.line(f"done in {time.monotonic() - started:.0f} s")
    page = folder / "report" / "report.html"
    console.result(f"report:  {page}", file=str(page))
    console.result(f"MLflow:  mlflow ui --backend-store-uri {default_uri(folder)}")
    return page


def next_folder(parent: Path) -> Path:
    """The first of `<parent>/demo-001`, `demo-002`, ... that does not exist."""
    number = 1
    while (parent / f"demo-{number:03d}").exists():
        number += 1
    return parent / f"demo-{number:03d}"
