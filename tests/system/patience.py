"""Waiting for what happens, where a number of seconds would be a guess."""

import time


def until(is_so, seconds: float = 120.0) -> None:
    """Return when `is_so()` is true; AssertionError after so many seconds, which a busy machine may need."""
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s"
        time.sleep(0.05)
