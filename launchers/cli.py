"""The command line, `idgenrec COMMAND`: the only door a person uses.

Enters: words. Leaves: what the commands write. Must hold: a mistake of the user is one line on standard error and exit
status 2, a failed audit is status 3; heavy libraries are imported only by the command that needs them.
"""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from launchers.book_command import Book
from launchers.compare_command import Compare
from launchers.doctor_command import Doctor
from launchers.export_command import Export
from launchers.ids_config import IdsConfig
from launchers.jobs_command import Cancel, Jobs, Logs
from launchers.launch_command import Launch, split
from launchers.pretrain_command import Pretrain, with_recipe
from launchers.recommend_command import Recommend
from launchers.shard_commands import Shard
from launchers.track_command import Track
from zeroshot.config import AUDIT_FAILED, EvaluateConfig


@dataclass(frozen=True)
class Demo:
    """The whole system on a generated marketplace: shards, alternating training on two processes, zero-shot report.

    Example: idgenrec demo --seed 1
    """

    out: str | None = None
    """Folder to write (must not exist); default: the next free runs/demo-NNN."""
    seed: int = 0
    """Seed of the data, the models and the training."""
    transfer: bool = True
    """Off: item words say nothing about tastes, so nothing can transfer and the model must not win."""
    processes: int = 2
    """Local processes (ranks)."""

    def run(self) -> None:
        from launchers.console import Console
        from launchers.demo import next_folder, run_demo

        folder = Path(self.out) if self.out else next_folder(Path("runs"))
        run_demo(folder, self.seed, self.transfer, self.processes, Console())


@dataclass(frozen=True)
class Ids:
    """Give every item of a catalogue a unique textual ID (Algorithm 1 over all ranks).

    Example: idgenrec ids --generator runs/first/checkpoints/step-0001000/generator --shards shards --catalogue Beauty
    --out b.arrow
    """

    config: Annotated[IdsConfig, tyro.conf.arg(name="")]
    processes: int = 1
    """Local processes (ranks)."""

    def run(self) -> None:
        _launch("ids", self.config, self.processes)


@dataclass(frozen=True)
class Zeroshot:
    """Judge a run on the unseen data sets of a shard folder, beside the training-free baselines; writes the report.

    Exit status 3: the audit found that these numbers cannot be believed; the results are written all the same.

    Example: idgenrec zeroshot --checkpoint runs/first --shards shards --out runs/first-report
    """

    config: Annotated[EvaluateConfig, tyro.conf.arg(name="")]
    processes: int = 1
    """Local processes (ranks)."""

    def run(self) -> None:
        from launchers.local import RankFailed
        from launchers.summary import failed_checks, headline_lines

        status = 0
        try:
            _launch("zeroshot", self.config, self.processes)
        except RankFailed as error:
            if error.status != AUDIT_FAILED:
                raise
            status = error.status
        results = Path(self.config.out) / "results.json"
        print("\n".join(headline_lines(results)))
        print(f"report: {Path(self.config.out) / 'report.html'}")
        for line in failed_checks(results):
            print(line, file=sys.stderr)
        if status:
            sys.exit(status)


@dataclass(frozen=True)
class Report:
    """Write report.html and report.md again from the results.json and ranks.parquet of a folder.

    Example: idgenrec report --results runs/demo-001/report
    """

    results: str
    """Folder with results.json and ranks.parquet."""

    def run(self) -> None:
        from zeroshot import results
        from zeroshot.ranks import load_ranks
        from zeroshot.report import write_report

        folder = Path(self.results)
        ranks = load_ranks(folder / "ranks.parquet")
        print(write_report(results.load(folder / "results.json"), ranks, folder)[0])


Command = (
    Annotated[Demo, tyro.conf.subcommand("demo")]
    | Annotated[Shard, tyro.conf.subcommand("shard")]
    | Annotated[Pretrain, tyro.conf.subcommand("pretrain")]
    | Annotated[Ids, tyro.conf.subcommand("ids")]
    | Annotated[Book, tyro.conf.subcommand("book")]
    | Annotated[Export, tyro.conf.subcommand("export")]
    | Annotated[Zeroshot, tyro.conf.subcommand("zeroshot")]
    | Annotated[Launch, tyro.conf.subcommand("launch")]
    | Annotated[Jobs, tyro.conf.subcommand("jobs")]
    | Annotated[Cancel, tyro.conf.subcommand("cancel")]
    | Annotated[Logs, tyro.conf.subcommand("logs")]
    | Annotated[Report, tyro.conf.subcommand("report")]
    | Annotated[Track, tyro.conf.subcommand("track")]
    | Annotated[Doctor, tyro.conf.subcommand("doctor")]
    | Annotated[Compare, tyro.conf.subcommand("compare")]
    | Annotated[Recommend, tyro.conf.subcommand("recommend")]
)


DESCRIPTION = "Pretrain and judge the IDGenRec foundation recommender: textual item IDs, zero-shot recommendation."


def _launch(task: str, config: IdsConfig | EvaluateConfig, processes: int) -> None:
    from launchers.local import launch

    launch(task, dataclasses.asdict(config), processes)


def parse(words: Sequence[str]) -> Any:
    """The command that the words ask for."""
    # As the default of the whole, a recipe's values become those of `pretrain`; other commands have none.
    default = with_recipe(words[1:]) if list(words[:1]) == ["pretrain"] else None
    options = {} if default is None else {"default": default}
    return tyro.cli(Command, prog="idgenrec", description=DESCRIPTION, args=list(words), **options)  # type: ignore[arg-type]


def main() -> None:
    """The console script."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    try:
        words, behind = split(sys.argv[1:])
        command = parse(words)
        if isinstance(command, Launch):
            command.launch(parse, behind)
        else:
            command.run()
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted; the same command takes the run up again", file=sys.stderr)
        sys.exit(130)
    except RuntimeError as error:
        from launchers.local import RankFailed
        from pretrain.interrupt import STATUS

        if not isinstance(error, RankFailed):
            raise
        if error.status not in (2, STATUS):  # of these the rank itself has said why
            print(f"error: {error}", file=sys.stderr)
        sys.exit(error.status)


if __name__ == "__main__":
    main()
