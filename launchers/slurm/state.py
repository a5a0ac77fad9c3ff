"""What SLURM says of a job.

Enters: a job number, of an array's job NUMBER_INDEX. Leaves: SLURM's words. Must hold: a SLURM that does not answer is
no finished job.
"""

from __future__ import annotations

import re
import shutil
import subprocess

ANSWERS_WITHIN = 60.0
"""Seconds after which a call of scontrol counts as not answered."""
LIVE = (
    "PENDING",
    "RUNNING",
    "SUSPENDED",
    "COMPLETING",
    "CONFIGURING",
    "RESIZING",
    "REQUEUED",
    "REQUEUE_HOLD",
    "STOPPED",
)


class NoAnswer(ValueError):
    """SLURM does not answer now, or not with what it was asked for; it may a little later."""


def job_state(job: str) -> str | None:
    """SLURM's word for the state of a job; None where it does not know the job any more. Raises NoAnswer."""
    if shutil.which("scontrol") is None:
        raise ValueError(f"no scontrol here to ask about job {job}: this is no login node of a SLURM cluster")
    status, output, errors = _scontrol("show", "job", "-o", job)
    if status and "Invalid job id" in errors:
        return None
    state = re.search(r"\bJobState=(\w+)", output)
    if status or state is None:
        why = errors or f"scontrol ends with {status} and says {output!r}"
        raise NoAnswer(f"SLURM does not say what job {job} does ({why}); try again")
    return state[1]


def requeue(job: str) -> None:
    """Put a job back into the queue. Raises NoAnswer."""
    status, _, errors = _scontrol("requeue", job)
    if status:
        raise NoAnswer(f"SLURM does not queue job {job} again ({errors or f'scontrol ends with {status}'}); try again")


def _scontrol(*words: str) -> tuple[int, str, str]:
    """Status, output and errors of a call of scontrol."""
    try:
        done = subprocess.run(["scontrol", *words], capture_output=True, text=True, timeout=ANSWERS_WITHIN)
    except subprocess.TimeoutExpired as error:
        raise NoAnswer(f"scontrol {' '.join(words)} does not end within {ANSWERS_WITHIN:.0f} s; try again") from error
    return done.returncode, done.stdout.strip(), done.stderr.strip()
