"""What would go wrong before it does: judgements, each a line with its cure.

Enters: what was found on this machine (`probes.py`). Leaves: findings. Pure. Must hold: an ERROR is what stops a run, a
WARNING what makes it slow or fragile, and both say what to do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import gcd
from typing import Literal

from launchers.checks.preflight import Outlook, size
from pretrain.planning import plan as costs

Level = Literal["OK", "WARNING", "ERROR"]
SLOW_DISK, FAST_ENOUGH = 20e6, 100e6
"""Bytes a second: below the first a checkpoint takes minutes; from the second on it is written beside the steps."""
SHM_OF_A_RANK = 64 << 20
"""What NCCL and gloo take of /dev/shm for a rank, with room to spare."""
OPEN_FILES = 1024
STALE_SECONDS = 600.0
"""No extension of torch compiles longer."""


@dataclass(frozen=True)
class Finding:
    """One line of the doctor."""

    level: Level
    text: str
    cure: str = ""

    def __str__(self) -> str:
        return f"{self.level:<8}{self.text}{'; ' + self.cure if self.cure else ''}"


def judge_versions(
    python: str, wants_python: str, wanted: Sequence[str], installed: Mapping[str, str]
) -> list[Finding]:
    """Installed versions against requirements such as `torch>=2.10,<2.14`."""
    from packaging.requirements import Requirement
    from packaging.specifiers import SpecifierSet
    from packaging.utils import canonicalize_name

    problems = []
    if python not in SpecifierSet(wants_python):
        problems.append(Finding("ERROR", f"Python {python}, wanted is {wants_python}", "make another environment"))
    for text in wanted:
        need = Requirement(text)
        have = installed.get(canonicalize_name(need.name))
        if have is None:
            problems.append(Finding("ERROR", f"{need.name} is not installed", f"pip install '{text}'"))
        elif not need.specifier.contains(have, prereleases=True):
            problems.append(
                Finding("ERROR", f"{need.name} {have}, wanted is {need.specifier}", f"pip install '{text}'")
            )
    return problems or [Finding("OK", f"Python {python} and {len(wanted)} libraries are of wanted versions")]


def judge_gpus(driver: bool, names: Sequence[str], processes: int) -> Finding:
    """GPUs that torch sees, for so many ranks here; `driver`: whether this machine has one at all."""
    if driver and not names:
        return Finding("ERROR", "there is an NVIDIA driver, but torch sees no GPU", "install torch with CUDA")
    if not names:
        return Finding("OK", "no GPU: ranks compute on the CPU and talk over gloo")
    kinds = ", ".join(f"{names.count(name)} x {name}" for name in dict.fromkeys(names))
    if processes > len(names):
        cure = f"give --processes {len(names)}: NCCL needs a GPU for each rank"
        return Finding("ERROR", f"{processes} ranks for {kinds}", cure)
    if len(set(names)) > 1:
        return Finding("WARNING", f"{kinds}: the slowest sets the pace", "ask for nodes of one kind")
    return Finding("OK", f"{kinds} for {processes} ranks")


def judge_round_trip(processes: int, answer: Mapping[str, object] | None, error: str) -> Finding:
    """`answer` of `round_trip.py`, or what was said instead."""
    if answer is None:
        cure = "look at the network between the ranks (GLOO_SOCKET_IFNAME, NCCL_SOCKET_IFNAME, a firewall)"
        return Finding("ERROR", f"{processes} ranks do not reach each other: {error}", cure)
    if answer["blind"]:
        cure = "put the run on a file system that all nodes mount"
        return Finding("ERROR", f"ranks {answer['blind']} do not see what rank 0 writes to the run folder", cure)
    seconds = float(str(answer["seconds"]))
    return Finding("OK", f"{processes} ranks sum a megabyte over {answer['backend']} in {1000 * seconds:.1f} ms")


def judge_disk(folder: str, rate: float, free: int, needed: float) -> list[Finding]:
    """A run folder: bytes a second, bytes free, bytes that checkpoints will take (0 = unknown)."""
    where = f"{folder} takes {size(rate)}/s"
    if rate < SLOW_DISK:
        speed = Finding("WARNING", where, "checkpoints will take long; choose a faster disk or save less often")
    elif rate < FAST_ENOUGH:
        speed = Finding("WARNING", where, "give --checkpoint-in-background")
    else:
        speed = Finding("OK", where)
    room = f"{size(free)} are free there"
    if needed > free:
        cure = "make room, or lower --keep-checkpoints"
        return [speed, Finding("ERROR", f"{room}, checkpoints take {size(needed)}", cure)]
    if free < 1 << 30:
        return [speed, Finding("WARNING", room, "make room")]
    return [speed, Finding("OK", room + (f", checkpoints take {size(needed)}" if needed else ""))]


def judge_lanes(lanes: int, ranks: int) -> Finding:
    """How often a byte of the shards is read in an epoch."""
    times = ranks // gcd(lanes, ranks)
    text = f"{ranks} ranks read {lanes} lanes, each byte {times} time{'s' * (times > 1)} an epoch"
    if times == 1:
        return Finding("OK", text)
    fitting = max(number for number in range(1, ranks + 1) if lanes % number == 0)
    return Finding("WARNING", text, f"take {fitting} ranks, or build with --lanes {ranks * max(1, lanes // ranks)}")


def judge_memory(outlook: Outlook) -> list[Finding]:
    """What a rank needs at each ZeRO stage, and has. An error where no stage fits."""
    has = outlook.machine.memory
    needs = {stage: outlook.needed(stage)[0] for stage in costs.STAGES}
    lines = [f"{stage} {size(needed)}{'' if needed <= has else ' (too much)'}" for stage, needed in needs.items()]
    text = f"a rank has {size(has)} ({outlook.machine.device}); needed at ZeRO stage {', '.join(lines)}"
    if min(needs.values()) > has:
        return [Finding("ERROR", text, "take smaller micro-batches, more GPUs or smaller models")]
    if needs[outlook.zero_stage] > has:
        fitting = min(stage for stage, needed in needs.items() if needed <= has)
        return [Finding("WARNING", text, f"give --engine.zero-stage {fitting}")]
    return [Finding("OK", text)]


def judge_signal(step: float, save: float, delay: float) -> Finding:
    """Seconds of the longest step and of a checkpoint, against those between a scheduler's signal and the end."""
    text = f"a step takes up to {step:.1f} s, a checkpoint {save:.1f} s, a signal comes {delay:.0f} s before the end"
    if step + save > delay:
        return Finding("ERROR", text, f"nothing would be saved: let it come {2 * (step + save):.0f} s before")
    if 2 * (step + save) > delay:
        return Finding("WARNING", text, f"let it come {2 * (step + save):.0f} s before")
    return Finding("OK", text)


def judge_sbatch(taken: bool, answer: str) -> Finding:
    """What sbatch says of the job file that a launch would give it."""
    if taken:
        return Finding("OK", f"sbatch takes the job: {answer}")
    cure = "change --slurm.* (idgenrec launch slurm --dry-run shows the file)"
    return Finding("ERROR", f"sbatch refuses the job: {answer}", cure)


def judge_shm(free: int, processes: int) -> Finding:
    """Room in /dev/shm."""
    text, needed = f"{size(free)} are free in /dev/shm", processes * SHM_OF_A_RANK
    if free < needed:
        return Finding("WARNING", text, f"make it {size(needed)} (a container: --shm-size)")
    return Finding("OK", text)


def judge_open_files(limit: int) -> Finding:
    """The soft limit of open files of a process."""
    text = f"a process may open {limit:,} files"
    return Finding("OK", text) if limit >= OPEN_FILES else Finding("WARNING", text, "ulimit -n 65536")


def judge_locks(ages: Mapping[str, float]) -> list[Finding]:
    """Lock files of torch's extensions, with their age in seconds: who finds one waits for ever."""
    findings = []
    for path, age in ages.items():
        if age > STALE_SECONDS:
            text = (
                f"{path} is {age / 60:.0f} min old: a killed compilation has left it, and every rank will wait for it"
            )
            findings.append(Finding("ERROR", text, f"rm '{path}'"))
        else:
            findings.append(Finding("WARNING", f"{path}: something compiles just now", "wait for it, or look again"))
    return findings or [Finding("OK", "no lock of a torch extension is left")]
