"""A wish to stop, agreed on by all ranks between the same two steps.

Enters: SIGTERM, SIGUSR2 (a scheduler that takes the job away) or Ctrl-C on any rank. Leaves: the same answer on every
rank, when all ask. Must hold: a handler only remembers; what follows is collective (a checkpoint is written by all
ranks together, and one that stood still in a handler would leave the others waiting).
"""

from __future__ import annotations

import signal
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # launchers read the constants; torch takes seconds to import
    from pretrain.runtime.world import World

SIGNALS = (signal.SIGTERM, signal.SIGUSR2, signal.SIGINT)
STATUS = 75
"""Exit status of a rank that has stopped as wished, all of its work saved (EX_TEMPFAIL: try again)."""


class Interrupted(Exception):
    """The job was asked to stop and has done so, with nothing lost. `signal`: the number of what asked."""

    def __init__(self, number: int, saved: str) -> None:
        self.signal = number
        super().__init__(f"stopped by {signal.Signals(number).name}; {saved}, and the same command goes on from there")


class Interrupt:
    """Listens while it is entered as a context, in the main thread. A second Ctrl-C ends the process at once."""

    def __init__(self, world: World) -> None:
        self.world, self.heard = world, 0
        self._pressed = False  # apart from `heard`: a launcher passes a Ctrl-C on as a SIGTERM of its own
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interrupt:
        self._before = {number: signal.signal(number, self._hear) for number in SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and self._pressed:
            raise KeyboardInterrupt
        self._pressed |= number == signal.SIGINT
        self.heard = number

    def agreed(self) -> int:
        """The signal that any rank has heard by now, else 0; the same on every rank. Collective."""
        return self.world.max(self.heard)
