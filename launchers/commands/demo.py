"""`idgenrec demo`: the whole system on generated data.

Enters: words. Leaves: a folder of a demo. Must hold: it must not exist before.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

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
        from launchers.commands.demo_run import next_folder, run_demo
        from launchers.line.console import Console

        folder = Path(self.out) if self.out else next_folder(Path("runs"))
        run_demo(folder, self.seed, self.transfer, self.processes, Console())
