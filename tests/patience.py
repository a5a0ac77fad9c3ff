"""The one clock of the tests: waiting for what happens, and how long is too long.

Enters: conditions. Leaves: their values, once they are true. Must hold: no test fails because a machine is busy. A test
waits with `until` for an event and gives no number of seconds; what never happens ends after `HANG` seconds. What the
product or a library wants as a time limit is `limit(seconds)`, which grows with the measured slowness of the machine.
No other test file reads a clock or sleeps (`test_patience.py`).
"""

import hashlib
import os
from collections.abc import Callable
from time import monotonic, sleep  # by name: a test that replaces `time.sleep` does not replace these
from typing import TypeVar

T = TypeVar("T")
QUIET_SECONDS = 0.11
"""What the measured work takes on a quiet core of the machines that CI has."""
MEASURED = "IDGENREC_TEST_SLOWNESS"


def _slowness() -> float:
    """How many times longer work takes than on a quiet core of the reference; at least 1. Measured once a session;
    workers and ranks inherit it."""
    if MEASURED not in os.environ:
        started = monotonic()
        digest = bytes(1 << 20)
        for _ in range(1 << 7):
            digest = hashlib.sha256(digest + bytes(1 << 20)).digest()
        os.environ[MEASURED] = f"{max(1.0, (monotonic() - started) / QUIET_SECONDS):.2f}"
    return float(os.environ[MEASURED])


def limit(seconds: float) -> float:
    """A time limit for a library or for the product: so many seconds on a quiet machine, more on a slow one."""
    return seconds * _slowness()


HANG = limit(1800.0)
"""Seconds after which something that was waited for counts as never happening."""


def until(is_so: Callable[[], T], why: Callable[[], object] = str, pause: float = 0.05) -> T:
    """The value of `is_so()` once it is true; it is asked again after every `pause` seconds.

    AssertionError with `why()` where it never becomes true.
    """
    deadline = monotonic() + HANG
    while not (value := is_so()):
        assert monotonic() < deadline, f"waited {HANG:.0f} s in vain: {why()}"
        sleep(pause)
    return value


def rest(seconds: float) -> None:
    """Let time pass where time itself is what is tested, such as a file's age or a slow disk."""
    sleep(seconds)
