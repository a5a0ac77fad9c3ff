"""`idgenrec ids`: the ID book of one catalogue.

Enters: words. Leaves: one Arrow file. Must hold: it must not exist before.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Annotated

import tyro

from launchers.jobs.ids_config import IdsConfig
from launchers.line.config_file import FromFile
from shards.bounds import Count, check


@dataclass(frozen=True)
class Ids(FromFile):
    """Give every item of a catalogue a unique textual ID (Algorithm 1 over all ranks).

    In: a generator and a shard folder.

    Out: one Arrow file, the ID book. A killed job is taken up again by the same command, on any number of ranks.

    Example: idgenrec ids --generator RUN/checkpoints/step-0001000/generator --shards shards --catalogue Beauty --out
    beauty.arrow
    """

    config: Annotated[IdsConfig, tyro.conf.arg(name="")]
    processes: Count = 1
    """Local processes (ranks)."""

    def __post_init__(self) -> None:
        check(self)

    def run(self) -> None:
        from launchers.jobs.local import launch

        launch("ids", dataclasses.asdict(self.config), self.processes)
