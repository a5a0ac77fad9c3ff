"""What SLURM says of a job.

Enters: a job number, of an array's job NUMBER_INDEX. Leaves: SLURM's words. Must hold: a SLURM that does not answer is
no finished job.
"""

from __future__ import annotations

import re
import shutil
import subprocess

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


def job_state(job: str) -> str | None:
    """SLURM's word for the state of a job; None where it does not know the job any more."""
    if shutil.which("scontrol") is None:
        raise ValueError(f"no scontrol here to ask about job {job}: this is no login node of a SLURM cluster")
    found = subprocess.run(["scontrol", "show", "job", "-o", job], capture_output=True, text=True, timeout=60)
    if found.returncode and "Invalid job id" in found.stderr:
        return None
    state = re.search(r"\bJobState=(\w+)", found.stdout)
    if found.returncode or state is None:
        why = found.stderr.strip() or f"scontrol ends with {found.returncode} and says {found.stdout.strip()!r}"
        raise ValueError(f"SLURM does not say what job {job} does ({why}); try again")
    return state[1]
