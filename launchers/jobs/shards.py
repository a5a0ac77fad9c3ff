"""The `shard` job: a build that a console follows, in one process that needs no other rank."""

from __future__ import annotations

import dataclasses
from functools import partial

from launchers.line.console import Console
from pretrain.data.templates import tokenizer_lines
from shards.build.build import build
from shards.config import BuildConfig


def stages_done(console: Console, done: int, total: int, last: str) -> None:
    """How far a build is."""
    console.progress("shards", done, total, "stages", last)


def build_shards(config: BuildConfig, console: Console) -> None:
    """Build a shard folder. A tokenizer that is trained on the way learns the words of the prompts too."""
    if config.tokenizer is None and not config.tokenizer_text:
        config = dataclasses.replace(config, tokenizer_text=tokenizer_lines())
    build(config, console.line, partial(stages_done, console))
