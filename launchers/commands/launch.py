"""`idgenrec launch slurm | local | debug | write [options] -- COMMAND`: any long command of ours, somewhere else.

Enters: options of the launch, and behind `--` an ordinary command line. Leaves: a SLURM job, ranks of this machine, or
a job file. Must hold: what stands behind `--` is read and checked as if it were given alone, before anything starts.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import tyro

from launchers.jobs.request import JobRequest, job_request
from launchers.line.console import Console
from launchers.slurm.options import SlurmOptions
from shards.bounds import Count, check
from shards.files.atomic import write_whole


@dataclass(frozen=True)
class Slurm:
    """Submit a SLURM job that saves and comes back by itself when it is preempted or its time is over.

    In: behind `--`, a pretrain, ids, zeroshot or shard build command; its folders lie where all nodes see them.

    Out: a job, its number, and RUN/launch/NNN with code and configuration as they are now, which the job runs, and its
    logs. With --after jobs form a pipeline, with --each an array.

    Example: idgenrec launch slurm --nodes 2 --gpus-per-node 8 --partition gpu --minutes 240 --
    pretrain --recipe foundation --shards shards --out runs/first
    """

    options: Annotated[SlurmOptions, tyro.conf.arg(name="")] = field(default_factory=SlurmOptions)
    after: tuple[str, ...] = ()
    """Launched runs (shard folders, ID books, reports) whose jobs must end well before this one starts. When one fails
    or is cancelled this job is cancelled too, and `idgenrec jobs` says why."""
    each: tuple[str, ...] = ()
    """An array: a job for each of these values, which stands where the command says {each}."""
    dry_run: bool = False
    """Print the sbatch file and the plan; submit and write nothing."""

    def commands(self, behind: Sequence[str]) -> list[list[str]]:
        """What stands behind `--`, once for each job."""
        if any("{each}" in word for word in behind) != bool(self.each):
            raise ValueError("--each VALUES and {each} in the command belong together; give both or neither")
        return [[word.replace("{each}", one) for word in behind] for one in self.each] or [list(behind)]

    def start(self, requests: list[JobRequest]) -> None:
        from launchers.slurm.submit import dry_run, submit

        outs = [str(request.config.out) for request in requests]
        if len(set(outs)) < len(outs):
            raise ValueError(f"two jobs of the array would write {outs[0]}; put {{each}} into --out")
        after = [Path(run) for run in self.after]
        plan = [line for request in requests for line in self._check(request)]
        if self.dry_run:
            Console().results([*dry_run(requests, self.options, after), "", *plan])
        else:
            Console().results(submit(requests, self.options, after))

    def _check(self, request: JobRequest) -> list[str]:
        missing = [path for path in request.inputs() if not Path(path).exists()] if self.after else []
        if missing:
            return [
                f"{request.task}: {request.config.out}; {', '.join(missing)} is not there yet: "
                "checked when the job starts"
            ]
        if request.task == "pretrain":
            self._check_signal(Path(request.config.out))
        return request.check(self.options.ranks, here=False)

    def _check_signal(self, run: Path) -> None:
        """Raise ValueError where a run that is taken up has shown that it cannot save within --signal-seconds."""
        from launchers.checks.probes import longest_step, save_seconds

        step, save = longest_step(run), save_seconds(run, math.inf)
        if step is not None and save is not None and step + save > self.options.signal_seconds:
            raise ValueError(
                f"--signal-seconds {self.options.signal_seconds} is too short: in {run} a step took up to {step:.1f} s "
                f"and a checkpoint {save:.1f} s; give {math.ceil(2 * (step + save))}"
            )


@dataclass(frozen=True)
class Local:
    """Ranks on this machine, as the command's own --processes starts them.

    In: behind `--`, a pretrain, ids, zeroshot or shard build command.

    Out: what that command writes and prints.

    Example: idgenrec launch local -n 4 -- pretrain --shards shards --out runs/first
    """

    processes: Annotated[Count, tyro.conf.arg(aliases=["-n"])] = 1
    """Ranks."""
    dry_run: bool = False
    """Print the plan and start nothing."""

    def __post_init__(self) -> None:
        check(self)

    def start(self, request: JobRequest) -> None:
        plan = request.check(self.processes, here=True)
        if self.dry_run:
            Console().results(plan)
            return
        has_ranks = request.task != "shard"
        command = dataclasses.replace(request.command, processes=self.processes) if has_ranks else request.command
        command.run()


@dataclass(frozen=True)
class Debug:
    """One rank in this very process, where a debugger can stop it.

    In: behind `--`, a pretrain, ids, zeroshot or shard build command.

    Out: what that command writes and prints.

    Example: python -m pdb -m launchers.cli launch debug -- pretrain --shards shards --out runs/first
    """

    def start(self, request: JobRequest) -> None:
        from launchers.jobs.rank import ending, perform

        request.check(1, here=True)
        os.environ.update(RANK="0", WORLD_SIZE="1", LOCAL_RANK="0")
        os.environ.pop("MASTER_PORT", None)
        ending(lambda: perform(request.task, dataclasses.asdict(request.config)))


@dataclass(frozen=True)
class Write:
    """Write the job file that torchrun and DeepSpeed's launcher start: `torchrun -m launchers.jobs.rank JOB`.

    In: behind `--`, a pretrain, ids, zeroshot or shard build command.

    Out: a JSON file with its configuration, and the command that starts it on the ranks.

    Example: idgenrec launch write --job job.json --ranks 16 -- pretrain --shards shards --out runs/first
    """

    job: str
    """The file."""
    ranks: Count = 1
    """How many ranks there will be."""

    def __post_init__(self) -> None:
        check(self)

    def start(self, request: JobRequest) -> None:
        request.check(self.ranks, here=False)
        path = Path(self.job)
        if path.exists():
            raise ValueError(f"{path} exists; give another --job")
        write_whole(path, json.dumps(request.values(), indent=1) + "\n")
        console = Console()
        console.result(
            f"{path}: torchrun ... -m launchers.jobs.rank {path}, or deepspeed --module launchers.jobs.rank {path}"
        )
        for name in request.secrets():
            console.result(f"the tracking URI is written without its password: set {name} to the whole for every rank")


@dataclass(frozen=True)
class Launch:
    """Run pretrain, ids, zeroshot or shard build on SLURM, on ranks of this machine, or in this process.

    In: options of the launch, and behind `--` the command as it is given alone.

    Out: a SLURM job, ranks of this machine, or a job file; each way's own --help tells more.

    Example: idgenrec launch slurm --nodes 2 --gpus-per-node 8 -- pretrain --shards shards --out runs/first
    """

    how: Annotated[
        Annotated[Slurm, tyro.conf.subcommand("slurm")]
        | Annotated[Local, tyro.conf.subcommand("local")]
        | Annotated[Debug, tyro.conf.subcommand("debug")]
        | Annotated[Write, tyro.conf.subcommand("write")],
        tyro.conf.arg(name=""),
    ]

    def launch(self, parse: Callable[[Sequence[str]], Any], behind: Sequence[str]) -> None:
        """Read what stands behind `--` with `parse` and start it."""
        if not behind:
            raise ValueError("what is to be launched? give it behind --, as: idgenrec launch slurm -- pretrain ...")
        if isinstance(self.how, Slurm):
            self.how.start([job_request(parse(words)) for words in self.how.commands(behind)])
        else:
            self.how.start(job_request(parse(behind)))


def split(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """The words of the launch, and those behind its `--`; other commands have none behind."""
    words = list(words)
    if words[:1] != ["launch"] or "--" not in words:
        return words, []
    place = words.index("--")
    return words[:place], words[place + 1 :]
