"""What a person sees: a live bar on a terminal, plain lines in a log, nothing when quiet, objects for a program.

Enters: lines, results and progress of long work; `IDGENREC_OUTPUT`, which the command line sets for its ranks too.
Leaves: text on standard output. Must hold: only rank 0 speaks; nothing but a terminal gets colours or redrawn lines; a
log gets a line at most every few seconds; as JSON each line is one object, and no command prints past the console.
"""

from __future__ import annotations

import atexit
import json
import os
import sys
import time
from collections.abc import Iterable

LOG_INTERVAL = 10.0
OUTPUT = "IDGENREC_OUTPUT"
MODES = {"--quiet": "quiet", "--json": "json"}


class Console:
    """The Reporter of the command line."""

    def __init__(self, speaks: bool = True) -> None:
        self.mode = os.environ.get(OUTPUT, "") if speaks else "silent"
        self.live = not self.mode and sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
        self._begun: dict[str, tuple[float, int]] = {}
        self._last = 0.0
        self._bar = None
        self._drawn: str | None = None

    def line(self, text: str) -> None:
        """Say one line."""
        if self.mode == "json":
            self._say({"line": text})
        elif not self.mode:
            print(text, flush=True)

    def result(self, text: str, **facts: object) -> None:
        """Say what the command was given for, when quiet too; a program gets the facts beside the text."""
        if self.mode == "json":
            if text.strip():  # an empty line is layout
                self._say({"result": text} | facts)
        elif self.mode != "silent":
            print(text, flush=True)

    def results(self, lines: Iterable[str]) -> None:
        """Say a result of several lines."""
        for line in lines:
            self.result(line)

    def progress(self, what: str, done: int, total: int, unit: str, note: str = "") -> None:
        """Show that `done` of `total` units are done, with rate, time left and memory of this process."""
        if self.mode in ("quiet", "silent"):
            return
        now = time.monotonic()
        started, before = self._begun.setdefault(what, (now, done))
        rate = (done - before) / (now - started) if now > started else 0.0
        left = (total - done) / rate if rate and done < total else None
        if self.live:
            self._draw(what, done, total, unit, note, rate)
        elif done >= total or now - self._last >= LOG_INTERVAL:
            self._last = now
            if self.mode == "json":
                seconds_left = None if left is None else round(left, 1)
                self._say(
                    {
                        "what": what, "done": done, "total": total, "unit": unit, "per_second": round(rate, 3),
                        "seconds_left": seconds_left, "memory_gb": round(memory_gb(), 3), "note": note,
                    }
                )  # fmt: skip
            else:
                parts = [f"{done:,} of {total:,} {unit}"]
                parts += [f"{rate:,.1f}/s"] if rate else []
                parts += [f"{left:,.0f} s left"] if left is not None else []
                parts += [f"{memory_gb():.1f} GB"] + ([note] if note else [])
                print(f"  {what}: {', '.join(parts)}", flush=True)
        if done >= total:
            self._begun.pop(what, None)

    def _say(self, value: dict[str, object]) -> None:
        print(json.dumps(value, ensure_ascii=False), flush=True)

    def _draw(self, what: str, done: int, total: int, unit: str, note: str, rate: float) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        speed = f"{rate:,.1f}/s, {memory_gb():.1f} GB"
        if self._bar is None:
            self._bar = Progress(
                TextColumn("  {task.description}"), BarColumn(), MofNCompleteColumn(),
                TextColumn("{task.fields[unit]}, {task.fields[speed]}"),
                TimeRemainingColumn(), TextColumn("{task.fields[note]}"), transient=True,
            )  # fmt: skip
            self._bar.start()
            atexit.register(self._bar.stop)  # whatever ends the process, the cursor is seen again
            self._bar.add_task(what, unit=unit, note=note, speed=speed)
        (task,) = self._bar.task_ids
        if what != self._drawn:  # work that gives way to other work, such as a phase to a validation, ends no bar
            self._bar.reset(task, total=total, description=what, unit=unit, note=note, speed=speed)
            self._drawn = what
        self._bar.update(task, completed=done, total=total, note=note, speed=speed)
        if done >= total:
            self._bar.stop()
            self._bar = self._drawn = None
            print(f"  {what}: {total:,} {unit}, {speed}{', ' + note if note else ''}", flush=True)


def memory_gb() -> float:
    """Resident memory of this process."""
    import psutil

    return psutil.Process().memory_info().rss / 1e9
