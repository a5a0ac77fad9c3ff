"""Jobs on SLURM: rendered and submitted.

Enters: one JobRequest or those of an array, SlurmOptions, the runs that are waited for. Leaves: jobs whose records
stand in RUN/launch/NNN. Must hold: one job at most works in a run folder; what a job runs is the snapshot, whatever
becomes of the checkout; nothing is written for a job that was not submitted.
"""

from __future__ import annotations

import dataclasses
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from launchers.jobs.request import JobRequest
from launchers.slurm import launch_folder
from launchers.slurm.options import SlurmOptions
from launchers.slurm.requeue import REQUEUES, run_job
from launchers.slurm.state import LIVE, job_state
from pretrain.runtime.redaction import HIDDEN, redacted


def dry_run(requests: Sequence[JobRequest], options: SlurmOptions, after: Sequence[Path]) -> list[str]:
    """The sbatch file and where things would go."""
    folders = [launch_folder.next_folder(request.launches) for request in requests]
    executor = _executor(requests[0].task, options, folders[0], dependency(after))
    if len(requests) > 1:
        executor.parameters["map_count"] = len(requests)
    text = executor._make_submission_file_text(executor._submitit_command_str, "")
    return [
        *text.splitlines(), "",
        *(f"folder       {folder}" for folder in folders),
        f"ranks        {options.ranks} = {options.nodes} nodes x {options.ranks_per_node}"
        + (f", for each of {len(requests)} jobs" if len(requests) > 1 else ""),
        f"time         {options.minutes} minutes a part; told to save {options.signal_seconds} s before its end; "
        f"back in the queue {options.max_requeues} times at most",
        *(f"environment  {name}={HIDDEN}" for name in sorted(_variables(requests, options))),
    ]  # fmt: skip


def submit(requests: Sequence[JobRequest], options: SlurmOptions, after: Sequence[Path]) -> list[str]:
    """Submit the job, or an array with one job for each request. Returns lines that say what has become of it."""
    if shutil.which("sbatch") is None:
        raise ValueError("no sbatch here: this is no login node of a SLURM cluster (--dry-run needs none)")
    with ExitStack() as locks:
        for request in requests:
            locks.enter_context(launch_folder.locked(request.launches))
        for request in requests:
            refuse_live(request)
        waited_for = dependency(after)
        folders = [launch_folder.next_folder(request.launches) for request in requests]
        executor = _executor(requests[0].task, options, folders[0], waited_for)
        codes = [
            launch_folder.write(folder, request.values()) for folder, request in zip(folders, requests, strict=True)
        ]
        try:
            with _environment(_variables(requests, options) | {REQUEUES: str(options.max_requeues)}):
                jobs = executor.map_array(run_job, [str(folder / launch_folder.JOB) for folder in folders])
        except Exception as error:
            refused = re.findall(r"sbatch: error: (.+)", str(error))
            if not refused:
                raise
            for folder in folders:
                shutil.rmtree(folder)
            raise ValueError(f"sbatch refuses the job: {redacted('; '.join(refused))}") from error
        logs = folders[0] / launch_folder.LOGS
        same = {"logs": str(logs), "after": waited_for}
        for folder, request, job, code in zip(folders, requests, jobs, codes, strict=True):
            launch_folder.write_record(folder, record(request, options, job.job_id, code) | same)
    lines = [f"job {job.job_id}, {options.ranks} ranks: {folder}" for job, folder in zip(jobs, folders, strict=True)]
    return [*lines, *(f"waits for job {job} of {run}" for run, job in waited_for.items()), f"logs: {logs}"]


def record(request: JobRequest, options: SlurmOptions, job: str, code: str) -> dict[str, Any]:
    """What the launch folder says about the job; of variables the names alone."""
    shown = dataclasses.asdict(options) | {"environment": sorted(options.variables())}
    return {"job": job, "task": request.task, "ranks": options.ranks, "options": shown, "code_sha256": code}


def trial(options: SlurmOptions, run: Path) -> tuple[bool, str]:
    """Whether sbatch would take a job of these options in a run folder, and what it says. Nothing is submitted."""
    executor = _executor("doctor", options, launch_folder.next_folder(run.absolute() / "launch"), {})
    with tempfile.NamedTemporaryFile("w", suffix=".sh") as file:
        file.write(executor._make_submission_file_text(executor._submitit_command_str, ""))
        file.flush()
        done = subprocess.run(["sbatch", "--test-only", file.name], capture_output=True, text=True, timeout=60)
    answer = re.findall(r"(?:sbatch|allocation failure|error): (.+)", done.stderr) or [done.stderr.strip()]
    return done.returncode == 0, redacted("; ".join(answer))


def refuse_live(request: JobRequest) -> None:
    """Raise ValueError where a job works, or will work, in the folder of `request`."""
    from pretrain.training.run_identity import differences

    for folder, launched in launch_folder.records(request.launches)[::-1]:
        state = job_state(launched["job"])
        if state not in LIVE:
            continue
        other = launch_folder.read_job(folder)
        changed = differences(other, request.values())
        how = f", with {'; '.join(changed)}" if changed else ", the same as this"
        raise ValueError(
            f"job {launched['job']} ({state}) has {request.config.out}{how}: cancel it or give another --out"
        )


def dependency(after: Sequence[Path]) -> dict[str, str]:
    """Of each launched run in `after`, the job that has not ended yet.

    Raises ValueError for one that did not end well, because what waits for it would never start.
    """
    waited_for = {}
    for run in after:
        _, launched = launch_folder.newest(run)
        job = launched["job"]
        state = job_state(job)
        if state in LIVE:
            waited_for[str(run)] = job
        elif state is None:
            raise ValueError(
                f"SLURM does not know job {job} of {run} any more; if it ended well leave --after {run} out"
            )
        elif state != "COMPLETED":
            raise ValueError(
                f"job {job} of {run} is {state}: what waits for it would never start; launch it again first"
            )
    return waited_for


def _variables(requests: Sequence[JobRequest], options: SlurmOptions) -> dict[str, str]:
    """Variables of the job with their values."""
    values = options.variables()
    for request in requests:
        for name, value in request.secrets().items():
            if values.setdefault(name, value) != value:
                raise ValueError("jobs of one array have one tracking URI; take {each} out of it")
    return values


def _executor(task: str, options: SlurmOptions, folder: Path, waited_for: Mapping[str, str]) -> Any:
    import submitit

    class Executor(submitit.SlurmExecutor):
        @classmethod
        def affinity(cls) -> int:
            return 2  # a dry run needs no SLURM; `submit` has looked for it

    if re.search(r"[%\x00-\x1f]", str(folder)):
        raise ValueError(f"{str(folder)!r} has a % or a line break in it, which SLURM reads as its own; rename it")
    executor = Executor(folder / launch_folder.LOGS, python=options.python_line(sys.executable))
    threads = "${SLURM_CPUS_PER_TASK:-1}"
    setup = [
        # A shell that ends at SIGTERM would take the ranks with it while they save.
        "trap : TERM",
        f"export PYTHONPATH={shlex.quote(str(folder / launch_folder.CODE))}${{PYTHONPATH:+:$PYTHONPATH}}",
        f"export OMP_NUM_THREADS={threads} POLARS_MAX_THREADS={threads}",
    ]
    executor.update_parameters(**options.parameters(f"idgenrec-{task}", setup, list(waited_for.values())))
    return executor


@contextmanager
def _environment(more: Mapping[str, str]) -> Iterator[None]:
    """This process's environment as sbatch passes it on: without the job or the ranks that it may itself belong to."""
    before = dict(os.environ)
    for name in before:
        ours = name.startswith(("SLURM_", "SLURMD_", "SRUN_", "SUBMITIT_", "MASTER_")) and name != "SLURM_CONF"
        if ours or name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"):
            del os.environ[name]
    os.environ.update(more)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
