"""What a person says about a SLURM job, and what of it stands in the sbatch file.

Enters: words of the command line. Leaves: submitit's parameters. Must hold: a value cannot run a shell command or add
an option that was not meant; only setup lines are shell, and they are the person's own. Values of variables stand in
no file: they reach the job in its environment.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from typing import Any

from pretrain.runtime.redaction import is_secret, redacted
from shards.bounds import Count, Natural, check

OURS = (
    "nodes", "ntasks", "ntasks-per-node", "gpus-per-node", "partition", "time", "account", "qos", "constraint",
    "exclude", "mem", "cpus-per-task", "signal", "output", "error", "open-mode", "requeue", "no-requeue", "export",
    "export-file", "wrap", "array", "job-name", "dependency", "kill-on-invalid-dep", "chdir", "get-user-env", "wait",
    "test-only",
)  # fmt: skip
"""sbatch options that have an option of ours, or that the launcher needs as they are."""
NAME, LIST, MEMORY = r"[\w.@+-]+", r"[\w.,\[\]-]+", r"\d+[KMGT]?"
CONSTRAINT, VALUE = r"[\w.,:+*&|!()\[\]-]+", r"[\w.,:/@%+=&|*()\[\]-]+"
MODULE, VARIABLE, EXTRA = r"[\w./+-]+", r"[A-Za-z_]\w*", r"[a-z][a-z-]*"
RESERVED = (
    "SLURM_",
    "SLURMD_",
    "SRUN_",
    "SBATCH_",
    "SUBMITIT_",
    "PYTHONPATH",
    "RANK",
    "WORLD_SIZE",
    "LOCAL_RANK",
    "MASTER_",
)


@dataclass(frozen=True)
class SlurmOptions:
    """The job on SLURM."""

    nodes: Count = 1
    """Nodes."""
    gpus_per_node: Natural = 0
    """GPUs of each node, one rank each; 0 = ranks on CPUs (see tasks_per_node)."""
    tasks_per_node: Count = 1
    """Ranks of each node without GPUs."""
    minutes: Count = 60
    """Time limit of one part of the job; at its end the job saves and is queued again."""
    partition: str | None = None
    """Partition; none = the cluster's default."""
    account: str | None = None
    """Account to charge."""
    qos: str | None = None
    """Quality of service."""
    constraint: str | None = None
    """Features that nodes must have, as a100&ib."""
    exclude: str | None = None
    """Nodes to leave out, as gpu[03,07-09]."""
    mem: str | None = None
    """Memory of a node, as 64G."""
    cpus_per_task: Count | None = None
    """Cores of a rank."""
    modules: tuple[str, ...] = ()
    """Environment modules to load, as cuda/12.4."""
    setup: tuple[str, ...] = ()
    """Lines of your own shell that run before the ranks start, after the modules."""
    container: str | None = None
    """What stands before Python in the job, as "apptainer exec --nv image.sif". Words, no shell."""
    python: str | None = None
    """Python of the job; none = this one (in a container give the container's)."""
    environment: tuple[str, ...] = ()
    """Variables for the job, NAME=VALUE; values are shown and kept nowhere."""
    sbatch: tuple[str, ...] = ()
    """More options of sbatch, NAME=VALUE or NAME, as reservation=spring."""
    signal_seconds: Count = 120
    """How long before the time limit the ranks are told to save: more than a step and a checkpoint take."""
    max_requeues: Natural = 100
    """How often the job may come back after it was preempted or has used up its time."""

    @property
    def ranks_per_node(self) -> int:
        return self.gpus_per_node or self.tasks_per_node

    @property
    def ranks(self) -> int:
        return self.nodes * self.ranks_per_node

    def __post_init__(self) -> None:
        check(self, _option)
        if self.gpus_per_node and self.tasks_per_node != 1:
            raise ValueError("each GPU has one rank: leave --tasks-per-node out where there is --gpus-per-node")
        if self.signal_seconds >= self.minutes * 60:
            raise ValueError(
                f"--signal-seconds {self.signal_seconds} leaves nothing of --minutes {self.minutes}; give a longer time"
            )
        for name, shape in (
            ("partition", LIST), ("account", NAME), ("qos", NAME), ("constraint", CONSTRAINT), ("exclude", LIST),
            ("mem", MEMORY),
        ):  # fmt: skip
            _refuse_odd(_option(name), getattr(self, name), shape)
        for module in self.modules:
            _refuse_odd("--modules", module, MODULE)
        for name in ("container", "python"):
            _refuse_odd(_option(name), getattr(self, name), r"[^\x00-\x1f$`;&|<>\\'\"(){}*?!#~]+")
        for line in self.setup:
            self._refuse_line(line)
        self.variables()
        self.more()

    def _refuse_line(self, line: str) -> None:
        if "\n" in line or "\r" in line or "\x00" in line:
            raise ValueError("a line of --setup has a line break; give it as two lines")
        if line.lstrip().startswith("#SBATCH"):
            raise ValueError(f"--setup '{line}' is an option of sbatch; give it with --sbatch")
        named = re.findall(r"([A-Za-z_]\w*)=", line)
        if redacted(line) != line or any(map(is_secret, named)):
            secret = next(filter(is_secret, named), "a URI with a password")
            raise ValueError(f"a line of --setup has {secret}, and would be written down; give it with --environment")

    def variables(self) -> dict[str, str]:
        """The variables of `environment`. Raises ValueError for what is none."""
        values: dict[str, str] = {}
        for entry in self.environment:
            name, equals, value = entry.partition("=")
            if not equals:
                raise ValueError(f"--environment '{redacted(name)}' has no value; give NAME=VALUE")
            _refuse_odd("--environment", name, VARIABLE)
            if any(character in value for character in "\n\r\x00"):
                raise ValueError(f"--environment {name} has a line break in its value")
            if name.startswith(RESERVED):
                raise ValueError(f"--environment {name} is set by SLURM or the launcher; leave it out")
            values[name] = value
        return values

    def more(self) -> dict[str, Any]:
        """The options of `sbatch`. Raises ValueError for what is none or is ours."""
        values: dict[str, Any] = {}
        for entry in self.sbatch:
            name, equals, value = entry.removeprefix("--").partition("=")
            _refuse_odd("--sbatch", name, EXTRA)
            if name in OURS:
                raise ValueError(f"--sbatch {name} is the launcher's; see idgenrec launch slurm --help")
            if equals:
                _refuse_odd(f"--sbatch {name}", value, VALUE)
                if redacted(value) != value:
                    raise ValueError(f"--sbatch {name} has a password, and would be written down; leave it out")
            values[name] = value if equals else True
        return values

    def parameters(self, name: str, setup: list[str], after: list[str]) -> dict[str, Any]:
        """submitit's parameters. `setup`: our lines, after the person's. `after`: jobs that have to end well first."""
        modules = ["module load " + " ".join(self.modules)] if self.modules else []
        never = {"kill-on-invalid-dep": "yes"} if after else {}
        cores = [] if self.cpus_per_task is None else [f"--cpus-per-task={self.cpus_per_task}"]  # srun asks anew
        wanted = {
            "job_name": name, "nodes": self.nodes, "ntasks_per_node": self.ranks_per_node, "time": self.minutes,
            "gpus_per_node": self.gpus_per_node or None, "partition": self.partition, "account": self.account,
            "qos": self.qos, "constraint": self.constraint, "exclude": self.exclude, "mem": self.mem,
            "cpus_per_task": self.cpus_per_task, "wckey": None, "signal_delay_s": self.signal_seconds,
            "setup": [*modules, *self.setup, *setup], "srun_args": ["--kill-on-bad-exit=1", *cores],
            "dependency": "afterok:" + ":".join(after) if after else None,
            # A lost node is no failure: the job comes back. What waits for a job that failed is cancelled.
            "additional_parameters": {"requeue": True, **never, **self.more()},
        }  # fmt: skip
        return {key: value for key, value in wanted.items() if value is not None or key == "wckey"}

    def python_line(self, default: str) -> str:
        """The words that start Python in the job, quoted. -P: the folder where sbatch was called is not imported."""
        return shlex.join([*(self.container or "").split(), *(self.python or default).split(), "-P"])


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")


def _refuse_odd(option: str, value: str | None, shape: str) -> None:
    """Raise ValueError where a value has characters that have no business in it."""
    if value is not None and re.fullmatch(shape, value) is None:
        odd = sorted({character for character in value if re.fullmatch(shape, character) is None})
        why = f"has {' '.join(map(repr, odd))} in it" if odd else "is not of the form expected"
        raise ValueError(f"{option} {redacted(value)!r} {why}; give a plain value")
