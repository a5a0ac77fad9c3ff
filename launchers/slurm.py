"""Jobs on SLURM: rendered, submitted, run, and queued again. The only file that imports submitit.

Enters: a Work and SlurmOptions; in the job, the file that the launch wrote. Leaves: a job whose record stands in
RUN/launch/NNN. Must hold: one job at most works in a run folder; what a job runs is the snapshot, whatever becomes of
the checkout; a job that is taken away saves on all ranks together, and then comes back by itself.
"""

from __future__ import annotations

import dataclasses
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from launchers import launch_folder
from launchers.slurm_options import SlurmOptions
from launchers.work import Work
from pretrain.interrupt import SIGNALS, STATUS, Interrupted
from pretrain.secrets import HIDDEN, redacted

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
REQUEUES = "IDGENREC_MAX_REQUEUES"
FIRST_PORT, PORTS = 20000, 12000
"""Below the ports that Linux gives out by itself, from 32768 on."""
ENDED_WITHIN = 120.0
"""Seconds in which SLURM ends the ranks of a job that it has queued again."""


class Asked(BaseException):
    """A signal before the work listens, or where it has nothing to save; no library may catch it."""

    def __init__(self, number: int) -> None:
        self.signal = number
        super().__init__(f"stopped by {signal.Signals(number).name}; what was written is kept")


def dry_run(work: Work, options: SlurmOptions) -> list[str]:
    """The sbatch file and where things would go."""
    folder = launch_folder.next_folder(work.launches)
    executor = _executor(work, options, folder)
    text = executor._make_submission_file_text(executor._submitit_command_str, "")
    variables = sorted(options.variables() | work.secrets())
    return [
        *text.splitlines(), "",
        f"folder       {folder}",
        f"ranks        {options.ranks} = {options.nodes} nodes x {options.ranks_per_node}",
        f"time         {options.minutes} minutes a part; told to save {options.signal_seconds} s before its end; "
        f"back in the queue {options.max_requeues} times at most",
        *(f"environment  {name}={HIDDEN}" for name in variables),
    ]  # fmt: skip


def submit(work: Work, options: SlurmOptions) -> list[str]:
    """Submit the job. Returns lines that say what has become of it."""
    if shutil.which("sbatch") is None:
        raise ValueError("no sbatch here: this is no login node of a SLURM cluster (--dry-run needs none)")
    with launch_folder.locked(work.launches):
        refuse_live(work)
        folder = launch_folder.next_folder(work.launches)
        executor = _executor(work, options, folder)
        code = launch_folder.write(folder, work.values())
        try:
            with _environment(options.variables() | work.secrets() | {REQUEUES: str(options.max_requeues)}):
                job = executor.submit(run_job, str(folder / launch_folder.JOB))
        except Exception as error:
            refused = re.findall(r"sbatch: error: (.+)", str(error))
            if not refused:
                raise
            shutil.rmtree(folder)
            raise ValueError(f"sbatch refuses the job: {redacted('; '.join(refused))}") from error
        launch_folder.write_record(folder, record(work, options, job.job_id, code))
    return [f"job {job.job_id}, {options.ranks} ranks: {folder}", f"logs: {folder / launch_folder.LOGS}"]


def record(work: Work, options: SlurmOptions, job: str, code: str) -> dict[str, Any]:
    """What the launch folder says about the job; of variables the names alone."""
    said = dataclasses.asdict(options) | {"environment": sorted(options.variables())}
    return {"job": job, "task": work.task, "ranks": options.ranks, "options": said, "code_sha256": code}


def refuse_live(work: Work) -> None:
    """Raise ValueError where a job works, or will work, in the folder of `work`."""
    from pretrain.identity import differences

    for folder, launched in launch_folder.records(work.launches)[::-1]:
        state = job_state(launched["job"])
        if state not in LIVE:
            continue
        other = launch_folder.read_job(folder)
        changed = differences(other, work.values())
        how = f", with {'; '.join(changed)}" if changed else ", the same as this"
        raise ValueError(f"job {launched['job']} ({state}) has {work.config.out}{how}: cancel it or give another --out")


def job_state(job: str) -> str | None:
    """SLURM's word for the state of a job; None where it does not know the job any more."""
    if shutil.which("scontrol") is None:
        raise ValueError(f"no scontrol here to ask about job {job}: this is no login node of a SLURM cluster")
    found = subprocess.run(["scontrol", "show", "job", "-o", job], capture_output=True, text=True, timeout=60)
    if found.returncode and "Invalid job id" in found.stderr:
        return None
    state = re.search(r"\bJobState=(\w+)", found.stdout)
    if found.returncode or state is None:
        raise ValueError(f"SLURM does not say what job {job} does ({found.stderr.strip()}); try again")
    return state[1]


def _executor(work: Work, options: SlurmOptions, folder: Path) -> Any:
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
    executor.update_parameters(**options.parameters(f"idgenrec-{work.task}", setup))
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


def run_job(job_file: str) -> None:
    """A rank of a job: what submitit calls in each task."""
    for number in SIGNALS:  # submitit's own handlers ignore SIGTERM and save on rank 0 alone
        signal.signal(number, _ask)
    from launchers.rank import ending

    ending(lambda: _perform(job_file))


def _ask(number: int, frame: FrameType | None) -> None:
    _be_deaf()
    raise Asked(number)


def _be_deaf() -> None:
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _perform(job_file: str) -> None:
    from launchers.rank import main

    try:
        rendezvous()
        main(job_file)
    except Asked as asked:
        _be_deaf()
        come_back(str(asked))
        sys.exit(STATUS)
    except Interrupted as interrupted:
        _be_deaf()
        come_back(str(interrupted))
        raise


def rendezvous() -> None:
    """Where the ranks meet, from SLURM's environment to torch's; rank 0 says which part of which job this is."""
    import submitit

    job, restart = int(os.environ["SLURM_JOB_ID"]), int(os.environ.get("SLURM_RESTART_COUNT", "0"))
    # A part of a job does not meet on the port of the part before, which may be in use for a while.
    os.environ["MASTER_PORT"] = str(FIRST_PORT + (job * 7 + restart) % PORTS)
    where = submitit.helpers.TorchDistributedEnvironment()
    where.export(set_cuda_visible_devices=False, overwrite=True)
    if where.rank == 0:
        nodes = os.environ.get("SLURM_JOB_NUM_NODES", "1")
        code = Path(__file__).resolve().parent.parent
        print(f"job {job}, part {restart + 1}: {where.world_size} ranks on {nodes} nodes, code {code}", flush=True)


def come_back(why: str) -> None:
    """Queue the job again and wait to be ended; returns where it must not come back. Rank 0 does it; another rank only
    where the job still runs after a while, because rank 0 has heard of nothing."""
    rank, job = int(os.environ.get("RANK", "0")), os.environ["SLURM_JOB_ID"]
    if rank:
        time.sleep(ENDED_WITHIN)
    state, restarts = job_state(job), int(os.environ.get("SLURM_RESTART_COUNT", "0"))
    if state != "RUNNING":  # cancelled, or SLURM has queued it again itself
        print(f"job {job} is {state}: not queued again by us", flush=True)
        return
    if restarts >= int(os.environ[REQUEUES]):
        print(f"job {job} was queued again {restarts} times, --max-requeues; it ends here", file=sys.stderr, flush=True)
        return
    print(f"{why}; job {job} goes back to the queue", flush=True)
    subprocess.run(["scontrol", "requeue", job], check=True, timeout=60)
    time.sleep(ENDED_WITHIN)
