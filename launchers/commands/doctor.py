"""`idgenrec doctor`: looks at machine, shards, run and MLflow, and says what to do.

Enters: words. Leaves: a line for each look, OK, WARNING or ERROR. Must hold: exit status 1 where there is an ERROR;
what is not asked for is not looked at.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from launchers.slurm.options import SlurmOptions
from shards.bounds import Count, check

if TYPE_CHECKING:
    from launchers.checks.doctor import Finding
    from launchers.checks.preflight import Outlook


@dataclass(frozen=True)
class Doctor:
    """Find what would stop a run or make it slow, before it is submitted. Exit status 1: there is an error.

    In: this machine; where they are named, a shard folder, a run, an MLflow store.

    Out: a line for each look, OK, WARNING or ERROR, with what to do.

    Example: idgenrec doctor --shards shards --run runs/first --processes 4 --tracking-uri http://mlflow:5000
    """

    shards: str | None = None
    """Shard folder: its lanes against the ranks, and memory at every ZeRO stage."""
    run_folder: Annotated[str, tyro.conf.arg(name="run")] = "runs"
    """Run, or the folder that runs will be in: speed and room of its disk; of a run also its longest step and save."""
    processes: Count = 1
    """Ranks on this machine."""
    tracking_uri: str | None = None
    """MLflow store; none = MLFLOW_TRACKING_URI, or it is not looked at."""
    slurm: SlurmOptions = field(default_factory=SlurmOptions)
    """Where there is an sbatch it is asked whether it would take such a job; nothing is submitted."""

    def __post_init__(self) -> None:
        check(self)

    def run(self) -> None:
        from launchers.checks.doctor import Finding
        from launchers.line.console import Console

        console, levels = Console(), set()

        def say(finding: Finding) -> None:
            levels.add(finding.level)
            console.result(str(finding), level=finding.level, what=finding.text, cure=finding.cure)

        try:
            for finding in self._findings():
                say(finding)
        except ValueError as error:
            say(Finding("ERROR", str(error)))
        if "ERROR" in levels:
            sys.exit(1)

    def _findings(self) -> Iterator[Finding]:
        from launchers.checks import doctor, machine, probes

        python = ".".join(map(str, sys.version_info[:3]))
        yield from doctor.judge_versions(python, *probes.requirements(), probes.installed())
        yield doctor.judge_gpus(machine.has_gpu(), probes.gpu_names(), self.processes)
        yield from doctor.judge_locks(probes.extension_locks())
        yield doctor.judge_shm(machine.disk_free(Path("/dev/shm")), self.processes)
        yield doctor.judge_open_files(probes.open_files())
        uri = self.tracking_uri or os.environ.get("MLFLOW_TRACKING_URI")
        if uri:
            yield probes.mlflow(uri)
        yield from self._of_the_run()

    def _of_the_run(self) -> Iterator[Finding]:
        from launchers.checks import doctor, machine, probes

        folder = Path(self.run_folder)
        outlook = None
        if self.shards is not None:
            from shards.manifest import Manifest

            yield doctor.judge_lanes(Manifest.load(self.shards).lanes, self.processes)
            outlook = self._outlook(folder)
            yield from doctor.judge_memory(outlook)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            rate = probes.disk_rate(folder)
        except OSError as error:
            yield doctor.Finding("ERROR", f"{folder} cannot be written ({error.strerror})", "give another folder")
            return
        needed = 0.0
        if outlook is not None:
            all_checkpoints = outlook.checkpoint_bytes * (outlook.config.keep_checkpoints + 2)
            needed = max(0.0, all_checkpoints - outlook.checkpoints_bytes)
        yield from doctor.judge_disk(str(folder), rate, machine.disk_free(folder), needed)
        yield doctor.judge_round_trip(self.processes, *probes.round_trip(self.processes, folder))
        step, save = probes.longest_step(folder), probes.save_seconds(folder, rate)
        if step is not None and save is not None:
            yield doctor.judge_signal(step, save, self.slurm.signal_seconds)
        if shutil.which("sbatch"):
            from launchers.slurm.submit import trial

            yield doctor.judge_sbatch(*trial(self.slurm, folder))

    def _outlook(self, folder: Path) -> Outlook:
        """Of the models of the run, where it has a checkpoint, else of those that `pretrain` takes by default."""
        from launchers.checks import probes
        from launchers.checks.preflight import look
        from pretrain.config.run import EngineConfig, ModelConfig, PretrainConfig
        from pretrain.config.serialization import from_dict

        saved = probes.saved_config(folder)
        assert self.shards is not None
        if saved is None:
            # Of a folder of runs: one that is not there yet, so that no other run's values are compared.
            config = PretrainConfig(self.shards, str(folder / "doctor"), batch_size=8 * self.processes)
            return look(config, self.processes)
        config = PretrainConfig(
            self.shards,
            str(folder / "doctor"),
            from_dict(ModelConfig, saved["recommender"]),
            from_dict(ModelConfig, saved["generator"]),
            batch_size=saved["batch_size"],
            micro_batch_size=max(1, min(saved["batch_size"] // self.processes, PretrainConfig.micro_batch_size)),
            engine=EngineConfig(precision=saved["engine"]["precision"]),
        )
        return look(config, self.processes)
