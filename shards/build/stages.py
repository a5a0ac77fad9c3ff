"""Stages: named pieces of work that run once, in any number of processes, and are not repeated after a kill.

Enter functions with arguments; leave their results, in order. It must hold that a piece counts as done only when its
result has been written whole, and that a piece that was cut short starts again from an empty folder.
"""

import json
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from shards.files.atomic import write_whole
from shards.workers import worker_pool

RESULT = "result.json"
Advance = Callable[[int, int, str], None]
"""Hears how many stages are done, of how many, and which one was the last."""


def no_advance(done: int, total: int, last: str) -> None:
    """Nobody waits."""
    del done, total, last


@dataclass(frozen=True)
class Stage:
    """One piece: `function(out, *arguments)` writes into the folder `out` and returns something that JSON can hold.

    The function is a module's own, so that another process can find it.
    """

    name: str
    function: Callable[..., Any]
    arguments: tuple[Any, ...]


class Stages:
    """Runs stages below one folder; leaves `folder/<stage name>/` with what they wrote and result.json."""

    def __init__(self, folder: Path, workers: int, advance: Advance = no_advance) -> None:
        self.folder, self.workers, self.advance = folder, workers, advance
        self.pool: ProcessPoolExecutor | None = None
        # Those of before a kill are done already: they count, and say nothing about how fast it goes.
        self.done = self.total = len(list(folder.glob(f"*/{RESULT}")))

    def __enter__(self) -> "Stages":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self.pool:
            self.pool.shutdown(wait=True, cancel_futures=True)

    def path(self, name: str) -> Path:
        """The folder of a stage."""
        return self.folder / name

    def run(
        self, stages: Sequence[Stage], done: Callable[[Stage, Any], None] = lambda stage, result: None
    ) -> list[Any]:
        """The results, in the order of `stages`; `done` is called with each, in that order.

        ValueError from the first stage that failed, or when a process was killed (out of memory, most often).
        """
        results = []
        waiting = {stage.name for stage in self._waiting(stages)}
        try:
            for stage, result in zip(stages, self._results(stages), strict=True):
                done(stage, result)
                results.append(result)
                if stage.name in waiting:
                    self.done += 1
                    self.advance(self.done, max(self.done, self.total), stage.name)
        except BrokenProcessPool as error:
            raise ValueError(
                "a worker process was killed, out of memory perhaps; the same command goes on where it was: "
                "give fewer workers or less memory_gb"
            ) from error
        return results

    def expect(self, total: int) -> None:
        """So many stages there will be, the finished ones with them."""
        self.total = total
        self.advance(self.done, total, "")

    def _waiting(self, stages: Sequence[Stage]) -> list[Stage]:
        return [stage for stage in stages if not (self.path(stage.name) / RESULT).is_file()]

    def _results(self, stages: Sequence[Stage]) -> Any:
        if self.workers == 1 or len(self._waiting(stages)) < 2:
            return (_run(self.path(stage.name), stage) for stage in stages)
        if self.pool is None:
            self.pool = worker_pool(self.workers, outlive_ctrl_c=False)
        return self.pool.map(_run, [self.path(stage.name) for stage in stages], stages)


def _run(folder: Path, stage: Stage) -> Any:
    result = folder / RESULT
    if not result.is_file():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        value = stage.function(folder, *stage.arguments)
        write_whole(result, json.dumps(value))
    # Read back even when it was just computed: a result is the same before and after a kill.
    return json.loads(result.read_text())
