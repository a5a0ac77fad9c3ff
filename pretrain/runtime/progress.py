"""What long work tells the person who waits for it; how it is shown is decided upstairs, by the console."""

from __future__ import annotations

from typing import Protocol


class Reporter(Protocol):
    """Receives lines and progress. Every rank may call it; what ranks other than 0 say is dropped by the console."""

    def line(self, text: str) -> None:
        """One finished statement."""
        ...

    def progress(self, what: str, done: int, total: int, unit: str, note: str = "") -> None:
        """`done` of `total` units of `what`; `note` holds the figures of the moment. `done == total` ends the bar."""
        ...


class Silent:
    """Says nothing."""

    def line(self, text: str) -> None:
        del text

    def progress(self, what: str, done: int, total: int, unit: str, note: str = "") -> None:
        del what, done, total, unit, note


SILENT = Silent()
