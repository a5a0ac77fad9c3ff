"""What a person sees: a live bar on a terminal, plain lines in a log.

Enters: lines and progress of long work. Leaves: text on standard output. Must hold: only rank 0 speaks; nothing but a
terminal gets colours or redrawn lines; a log gets a line at most every few seconds.
"""

from __future__ import annotations

import sys
import time

LOG_INTERVAL = 10.0


class Console:
    """The Reporter of the command line."""

    def __init__(self, speaks: bool = True) -> None:
        self.speaks = speaks
        self.live = speaks and sys.stdout.isatty()
        self._started: dict[str, float] = {}
        self._last = 0.0
        self._bar = None

    def line(self, text: str) -> None:
        """Print one line."""
        if self.speaks:
            print(text, flush=True)

    def progress(self, what: str, done: int, total: int, unit: str, note: str = "") -> None:
        """Show that `done` of `total` units are done, with rate and time left."""
        if not self.speaks:
            return
        now = time.monotonic()
        started = self._started.setdefault(what, now)
        if self.live:
            self._draw(what, done, total, unit, note)
        elif done >= total or now - self._last >= LOG_INTERVAL:
            self._last = now
            rate = done / max(now - started, 1e-9)
            left = f", {(total - done) / rate:,.0f} s left" if done < total and now > started else ""
            print(f"  {what}: {done:,} of {total:,} {unit}{left}{', ' + note if note else ''}", flush=True)
        if done >= total:
            self._started.pop(what, None)

    def _draw(self, what: str, done: int, total: int, unit: str, note: str) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        if self._bar is None:
            self._bar = Progress(
                TextColumn("  {task.description}"), BarColumn(), MofNCompleteColumn(),
                TextColumn("{task.fields[unit]}"),
                TimeRemainingColumn(), TextColumn("{task.fields[note]}"), transient=True,
            )  # fmt: skip
            self._bar.start()
            self._bar.add_task(what, total=total, unit=unit, note=note)
        self._bar.update(self._bar.task_ids[0], completed=done, note=note)
        if done >= total:
            self._bar.stop()
            self._bar = None
            print(f"  {what}: {total:,} {unit}{', ' + note if note else ''}", flush=True)
