"""What a command line asks for, as a value that can be carried to other machines.

Enters: a parsed command of ours, or a job file. Leaves: a task, its configuration, where its launches are kept. Must
hold: what would stop the task is said before anything is started or submitted; a password of the tracking URI stands in
no file and travels in the environment.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pretrain.config.ids import IdConfig
from pretrain.config.run import PretrainConfig
from pretrain.runtime.redaction import HIDDEN, redacted
from shards.bounds import Count, check
from shards.config import BuildConfig
from zeroshot.protocol.config import EvaluateConfig


@dataclass(frozen=True)
class IdsConfig:
    """The book of one catalogue."""

    generator: str
    """A run (its best checkpoint's generator), a generator folder, or any Hugging Face T5 of the shards' tokenizer."""
    shards: str
    """Shard folder, made by `idgenrec shard`."""
    out: str
    """The book's file; must not exist."""
    catalogue: str = "train"
    """"train" (the whole Fusion) or one data set of the shard folder."""
    extend: str | None = None
    """An older book of the same generator: its items keep their IDs, the others get one."""
    ids: IdConfig = field(default_factory=IdConfig)
    threads: Count = 1
    """CPU threads per rank."""

    def __post_init__(self) -> None:
        check(self)


TASKS: dict[type, str] = {
    PretrainConfig: "pretrain",
    IdsConfig: "ids",
    EvaluateConfig: "zeroshot",
    BuildConfig: "shard",
}
URI_VARIABLE = "IDGENREC_TRACKING_URI"
"""The tracking URI of a job whose file has it without its password."""


@dataclass(frozen=True)
class JobRequest:
    """A command, its task and configuration."""

    command: Any
    task: str
    config: Any

    @property
    def launches(self) -> Path:
        """Folder of the launches: in the run's or report's folder, beside what must not exist before."""
        out = Path(self.config.out).absolute()
        return out / "launch" if self.task in ("pretrain", "zeroshot") else out.with_name(f"{out.name}.launch")

    def values(self) -> dict[str, Any]:
        """Task and configuration as a job file has them."""
        config = dataclasses.asdict(self.config)
        if config.get("tracking_uri"):
            config["tracking_uri"] = redacted(config["tracking_uri"])
        return json.loads(json.dumps({"task": self.task, "config": config}))

    def inputs(self) -> list[str]:
        """Files and folders that the task reads, and that another task may make first."""
        config = self.config
        if self.task == "pretrain":
            paths = [config.shards, config.recommender.start_from, config.generator.start_from]
        else:
            paths = [getattr(config, name, None) for name in ("shards", "checkpoint", "generator", "extend")]
        return [path for path in paths if path]

    def secrets(self) -> dict[str, str]:
        """What must be in the environment of a rank beside the job file."""
        uri = getattr(self.config, "tracking_uri", None)
        return {URI_VARIABLE: uri} if uri and redacted(uri) != uri else {}

    def check(self, ranks: int, here: bool) -> list[str]:
        """Raise ValueError for what would stop the task; lines of the plan. `here`: the ranks run on this machine."""
        config = self.config
        if self.task == "shard" and ranks != 1:
            raise ValueError(f"shard build is one process, not {ranks}; leave nodes, tasks and GPUs out")
        if self.task == "pretrain":
            from launchers.checks.plan import plan_lines
            from launchers.checks.preflight import look, refuse_full_disk, refuse_what_cannot_fit

            outlook = look(config, ranks)
            (refuse_what_cannot_fit if here else refuse_full_disk)(outlook)
            return plan_lines(outlook, self.command.device_tflops)
        if self.task == "ids" and Path(config.out).exists():
            raise ValueError(f"{config.out} exists; give another --out")
        if self.task in ("ids", "zeroshot"):
            from shards.manifest import Manifest

            Manifest.load(config.shards)
        return [f"{self.task}: {config.out}"]


def job_request(command: Any) -> JobRequest:
    """The request of a parsed command. Raises ValueError for a command that cannot be launched."""
    inner = getattr(command, "command", command)
    task = TASKS.get(type(getattr(inner, "config", None)))
    if task is None:
        raise ValueError("only pretrain, ids, zeroshot and shard build can be launched")
    if getattr(inner, "plan", False):
        raise ValueError("--plan starts nothing; give it without launch, or launch --dry-run")
    if getattr(inner, "print_config", False):
        raise ValueError("--print-config starts nothing; give it without launch")
    if getattr(inner, "processes", 1) != 1:
        raise ValueError("the number of ranks is said before the --; leave --processes out behind it")
    return JobRequest(inner, task, inner.config)


def restored(job: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration of a job file as it was before its tracking URI was redacted."""
    config = dict(job["config"])
    if HIDDEN in (config.get("tracking_uri") or ""):
        if URI_VARIABLE not in os.environ:
            raise ValueError(f"the job file has no password for {config['tracking_uri']}; set {URI_VARIABLE}")
        config["tracking_uri"] = os.environ[URI_VARIABLE]
    return config
