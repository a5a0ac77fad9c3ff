"""What a launcher adds to the start of a job, beyond what its ranks import.

Enters: nothing; on a machine with SLURM also a job of one node. Leaves: Markdown, printed and written to
docs/benchmarks/launch.md. Must hold: the clock runs from the first process of the job (for SLURM: the batch script) to
the moment in which all ranks are in `train`; beside it as many processes only import the same modules.

    python -m benchmarks.launch [--ranks 2] [--repeats 5]
    python tests/system/slurm_cluster.py python -m benchmarks.launch      # as root: with a SLURM of its own
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import platform
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.soak.train import prepare
from benchmarks.tables import table
from launchers.commands.launch import Slurm
from launchers.commands.pretrain import Pretrain
from launchers.jobs.local import launch
from launchers.jobs.request import job_request
from launchers.slurm.options import SlurmOptions
from pretrain.config.run import PretrainConfig
from shards.workers import cores

IMPORTS = (
    "launchers.jobs.rank launchers.jobs.request launchers.line.console pretrain.config.serialization "
    "pretrain.runtime.world pretrain.training.train transformers"
)
SLURM_IMPORTS = f"submitit launchers.slurm.requeue {IMPORTS}"
HOOK = """
import importlib.abc, importlib.util, os, sys, time

class Hook(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name != "pretrain.training.train":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        load = spec.loader.exec_module
        def exec_module(module):
            load(module)
            def train(config, world, reporter):
                world.barrier()
                with open(os.path.join(os.environ["STAMPS"], f"rank-{world.rank}"), "w") as file:
                    file.write(repr(time.time()))
                return "stamped"
            module.train = train
        spec.loader.exec_module = exec_module
        return spec

if "STAMPS" in os.environ:
    sys.meta_path.insert(0, Hook())
"""
"""A sitecustomize that puts a stamp in the place of `train`."""


def importing(modules: str, stamps: Path, number: int) -> list[str]:
    """The words of a process that imports and writes down when it has done so."""
    stamp = f"open({str(stamps / f'import-{number}')!r}, 'w').write(repr(time.time()))"
    code = f"import {', '.join(modules.split())}, time; {stamp}"
    return [sys.executable, "-P", "-c", code]


def local(config: PretrainConfig, ranks: int, stamps: Path) -> tuple[float, float]:
    """(seconds of the imports, seconds to `train`) for ranks of this machine."""
    started = time.time()
    running = [subprocess.Popen(importing(IMPORTS, stamps, number)) for number in range(ranks)]
    for process in running:
        process.wait()
    imported = last(stamps, "import") - started
    started = time.time()
    launch("pretrain", dataclasses.asdict(config), ranks)
    return imported, last(stamps, "rank") - started


def slurm(config: PretrainConfig, ranks: int, stamps: Path) -> tuple[float, float]:
    """The same for a SLURM job of one node."""
    imports = " & ".join(shlex.join(importing(SLURM_IMPORTS, stamps, number)) for number in range(ranks))
    setup = (f"date +%s.%N > {stamps}/begin", f"{imports} & wait", f"date +%s.%N > {stamps}/start")
    options = SlurmOptions(tasks_per_node=ranks, setup=setup, sbatch=("exclusive",))
    Slurm(options).start([job_request(Pretrain(config))])
    deadline = time.monotonic() + 300
    while len(list(stamps.glob("rank-*"))) < ranks:
        if time.monotonic() > deadline:
            raise SystemExit(f"no answer of the SLURM job; its logs are below {config.out}/launch")
        time.sleep(0.1)
    begin, start = (float((stamps / name).read_text()) for name in ("begin", "start"))
    return last(stamps, "import") - begin, last(stamps, "rank") - start


def last(stamps: Path, kind: str) -> float:
    time.sleep(0.2)  # a stamp that is being written is not read
    return max(float(path.read_text()) for path in stamps.glob(f"{kind}-*"))


def measured(
    way: Callable[[PretrainConfig, int, Path], tuple[float, float]], config: PretrainConfig, ranks: int, folder: Path,
    repeats: int,
) -> list[str]:  # fmt: skip
    """A row: medians after one start that fills the caches."""
    found = []
    for repeat in range(repeats + 1):
        stamps = folder / f"{way.__name__}-{ranks}-{repeat}"
        stamps.mkdir()
        os.environ["STAMPS"] = str(stamps)
        found.append(way(dataclasses.replace(config, out=str(stamps / "run")), ranks, stamps))
    imported, started = (statistics.median(values) for values in zip(*found[1:], strict=True))
    added = statistics.median(start - imports for imports, start in found[1:])
    name = {"local": "launch local", "slurm": "launch slurm"}[way.__name__]
    return [f"{name}, {ranks} ranks", f"{imported:.2f}", f"{started:.2f}", f"{added:+.2f}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks/launch.md"))
    options = parser.parse_args()
    load, ways = (
        os.getloadavg()[0],
        [local, *([slurm] if shutil.which("sbatch") and "SLURM_CONF" in os.environ else [])],
    )
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "sitecustomize.py").write_text(HOOK)
        here = str(Path(__file__).resolve().parents[2])
        os.environ["PYTHONPATH"] = os.pathsep.join([str(folder), here])
        config = prepare(folder, seed=0, stage=1)
        cases = [(way, ranks) for way in ways for ranks in (1, options.ranks)]
        rows = [measured(way, config, ranks, folder, options.repeats) for way, ranks in cases]
    lines = [
        "# The start of a job", "",
        f"`python tests/system/slurm_cluster.py python -m benchmarks.launch --repeats {options.repeats}`, "
        f"{cores()} cores ({platform.machine()}, load {load:.1f} when it began), Python "
        f"{platform.python_version()}.",
        "",
        f"Seconds, medians of {options.repeats}. *imports*: the same number of processes import what a rank imports. "
        "*to train*: from the first process (SLURM: the batch script) until all ranks have joined and entered `train`. "
        "*added*: the median of the differences.",
        "",
        *table(["", "imports", "to train", "added"], rows),
    ]  # fmt: skip
    print("\n".join(lines))
    options.out.write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
