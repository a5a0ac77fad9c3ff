"""What a control group lets this process have: cores here, memory in `launchers/checks/machine.py`.

Enters: nothing but the machine. Leaves: numbers. Must hold: a container or a batch job on part of a machine is no whole
machine: threads beyond its cores wait for each other.
"""

import os
from collections.abc import Iterator
from pathlib import Path

ROOT = Path("/")


def cores(root: Path = ROOT) -> int:
    """Cores that this process may use at a time: those it is bound to, or fewer where a control group has a quota."""
    limits = [len(os.sched_getaffinity(0))]
    for group, version in control_groups("cpu", root):
        if version == 1:
            words = [_word(group / "cpu.cfs_quota_us"), _word(group / "cpu.cfs_period_us")]
        else:
            words = _word(group / "cpu.max").split()
        if len(words) == 2 and all(word.isdigit() and int(word) for word in words):  # "max" and -1 are no limit
            limits.append(int(words[0]) // int(words[1]))
    return max(1, min(limits))


def control_groups(controller: str, root: Path = ROOT) -> Iterator[tuple[Path, int]]:
    """Folders of the control groups that this process is in, each with those above it, and their version. Inside a
    container the own path may not be there."""
    own, base = root / "proc/self/cgroup", root / "sys/fs/cgroup"
    for line in own.read_text().splitlines() if own.is_file() else []:
        number, controllers, path = line.split(":", 2)
        if number == "0":
            folder, version = base, 2
        elif controller in controllers.split(","):
            folder, version = base / controller, 1
        else:
            continue
        inside = Path(path.lstrip("/"))
        for part in (Path(), *reversed(inside.parents), inside):
            yield folder / part, version


def _word(file: Path) -> str:
    return file.read_text().strip() if file.is_file() else ""
