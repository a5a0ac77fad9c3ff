"""One rank of one job: the entry point that the local spawner, torchrun and submitit call.

Enters: RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT in the environment and a JSON job file
`{"task": "pretrain" | "ids" | "zeroshot" | "shard", "config": {...}}`. Leaves: what the task writes. Must hold: a
mistake of the user is one line on standard error of rank 0 and exit status 2; a failed audit is status 3, with its
results written.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from launchers.line.errors import refusal
from pretrain.runtime.interrupt import STATUS, Interrupted

if TYPE_CHECKING:
    from launchers.line.console import Console
    from shards.config import BuildConfig

SPEAK_AFTER, SILENT_FOR = 10.0, 180.0
"""Seconds that a rank other than 0 waits before it says a mistake of its own, and before it ends with one that rank 0
says too: that closes its tracker first, which may wait for MLflow, and the first rank to end stops the others."""


def main(job_file: str) -> None:
    """Run this rank's share of the job."""
    warnings.filterwarnings("ignore", category=FutureWarning)
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    from launchers.jobs.request import restored

    job = json.loads(Path(job_file).read_text())
    perform(job["task"], restored(job))


def perform(task: str, values: dict[str, Any]) -> str:
    """Join the world and do the task. Returns the path of its result."""
    _quiet()
    from launchers.line.console import Console
    from pretrain.config.run import PretrainConfig
    from pretrain.config.serialization import from_dict
    from pretrain.runtime.world import joined_world

    rank = int(os.environ.get("RANK", "0"))
    console = Console(speaks=rank == 0)
    if task == "pretrain":
        from pretrain.training.train import train

        config = from_dict(PretrainConfig, values)
        with joined_world(config.threads) as world:
            return str(train(config, world, console))
    if task == "zeroshot":
        from zeroshot.harness import evaluate
        from zeroshot.protocol.config import EvaluateConfig

        config = from_dict(EvaluateConfig, values)
        with joined_world(config.threads) as world:
            return str(evaluate(config, world, console))
    if task == "ids":
        from launchers.jobs.ids import write_book
        from launchers.jobs.request import IdsConfig

        config = from_dict(IdsConfig, values)
        with joined_world(config.threads) as world:
            return str(write_book(config, world, console))
    if task == "shard":  # one process, no world
        from shards.config import BuildConfig

        config = from_dict(BuildConfig, values)
        build_shards(config, console)
        return config.out
    raise ValueError(f"unknown task '{task}'; known: pretrain, ids, zeroshot, shard")


def build_shards(config: BuildConfig, console: Console) -> None:
    """Build a shard folder. A tokenizer that is trained on the way learns the words of the prompts too."""
    from pretrain.config.prompt import tokenizer_lines
    from shards.build.build import build

    if config.tokenizer is None and not config.tokenizer_text:
        config = dataclasses.replace(config, tokenizer_text=tokenizer_lines())
    build(config, console.line, partial(show_stages, console))


def show_stages(console: Console, done: int, total: int, last: str) -> None:
    """How far a build is."""
    console.progress("shards", done, total, "stages", last)


def _quiet() -> None:
    import logging

    for name in ("DeepSpeed", "deepspeed", "torch.distributed", "alembic"):
        logging.getLogger(name).setLevel(logging.ERROR)
    from transformers.utils import logging as of_transformers

    of_transformers.set_verbosity_error()
    of_transformers.disable_progress_bar()


def cli() -> None:
    """`python -m launchers.jobs.rank JOB_FILE`. DeepSpeed's launcher puts a --local_rank before it."""
    ending(lambda: main(sys.argv[-1]))


def ending(work: Callable[[], object]) -> None:
    """Do the work of a rank; what ends it early becomes a line and an exit status."""
    try:
        work()
    except ValueError as error:
        _give_up(str(error), error)
    except KeyboardInterrupt:
        sys.exit(130)
    except Interrupted as interrupted:
        if os.environ.get("RANK", "0") == "0":
            print(interrupted, file=sys.stderr)
        sys.exit(STATUS)
    except Exception as error:
        from zeroshot.audit.findings import AuditFailed
        from zeroshot.protocol.config import AUDIT_FAILED

        if isinstance(error, AuditFailed):
            sys.exit(AUDIT_FAILED)  # rank 0 has named the checks
        why = refusal(error)
        if why is None:
            raise
        _give_up(why, error)


def _give_up(why: str, error: Exception) -> NoReturn:
    if os.environ.get("RANK", "0") != "0":
        from pretrain.runtime.world import Agreed

        if isinstance(error, Agreed):
            time.sleep(SILENT_FOR)
            sys.exit(2)
        time.sleep(SPEAK_AFTER)  # rank 0 mostly finds the same mistake; its failure stops us before we repeat it
    print(f"error: {why}", file=sys.stderr)
    sys.exit(2)


if __name__ == "__main__":
    cli()
