"""Kill a training run by SIGKILL at random moments, saves included; take it up each time; the end must be the same.

Enters: a number of kills and a seed. Leaves: a line per kill and a verdict. Must hold: every file of the last
checkpoint (weights, optimiser state, ID book, positions, validation) has the bytes of a run that was never killed, and
every loss, norm and learning rate that was ever logged is the one which that run logged at that step.

    python -m benchmarks.soak.train [--kills 100] [--seed 0] [--ranks 2] [--stage 2]

A run is all phases of the alternation on generated shards, with a checkpoint every other step. A third of the kills
wait until a checkpoint is being written. Ranks are forked from a server that has imported the libraries.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import multiprocessing
import os
import random
import signal
import tempfile
import time
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

from pretrain.config.ids import IdConfig
from pretrain.config.run import EngineConfig, ModelConfig, PretrainConfig, ScheduleConfig
from pretrain.decoding.config import SearchConfig
from pretrain.runtime.rendezvous import HeldPort
from pretrain.tracking.tracker import read_lines
from pretrain.training import checkpoint
from shards.build.build import build
from shards.config import BuildConfig
from shards.readers.marketplace import MarketplaceSizes, write_marketplace

SAME = ("loss", "lr", "grad_norm", "share_of_weights_moved", "NDCG_at_10", "HR_at_10")
SHAPE = ModelConfig(d_model=16, d_ff=32, num_layers=1, num_heads=2)


def prepare(folder: Path, seed: int, stage: int) -> PretrainConfig:
    """Shards of a generated marketplace and a run over them."""
    sizes = MarketplaceSizes(
        users_per_category=30, items_per_category=40, test_users=6, test_items=24, min_length=4, max_length=8
    )
    write_marketplace(folder / "raw", seed=seed, sizes=sizes)
    train = tuple(str(folder / "raw" / name) for name in ("Garden", "Kitchen"))
    build(BuildConfig(train=train, test=(), out=str(folder / "shards"), vocab_size=420, lanes=4, records_per_tar=8))
    return PretrainConfig(
        str(folder / "shards"),
        "",
        recommender=SHAPE,
        generator=SHAPE,
        ids=IdConfig(groups=3, penalty_max=0.3, tier_tokens=4, max_tiers=2, item_text_tokens=32, block_size=8),
        schedule=ScheduleConfig(
            teaching_epochs=2.0, warmup_epochs=0.5, rounds=2, generator_epochs=0.5, recommender_epochs=0.5,
            validation_users=16,
        ),
        batch_size=16,
        micro_batch_size=4,
        generator_lr=1e-3,
        engine=EngineConfig(zero_stage=stage),  # type: ignore[arg-type]
        search=SearchConfig(beam=10),
        log_steps=1,
        checkpoint_steps=2,
        tracking_uri=f"sqlite:///{folder}/mlflow.db",
    )  # fmt: skip


def rank_body(values: dict[str, Any], rank: int, ranks: int, port: int, log: str) -> None:
    """One rank, as the local launcher would start it."""
    file = open(log, "a")  # noqa: SIM115 (it lives as long as the process)
    os.dup2(file.fileno(), 1)
    os.dup2(file.fileno(), 2)
    os.environ.update(
        RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(ranks), MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port)
    )
    from launchers.jobs.rank import perform

    perform("pretrain", values)


class Job:
    """The ranks of one start of a run."""

    def __init__(self, config: PretrainConfig, ranks: int, log: Path) -> None:
        context, values = multiprocessing.get_context("forkserver"), dataclasses.asdict(config)
        self.port, self.log = HeldPort(), log
        number = self.port.number
        self.ranks: list[ForkServerProcess] = [
            context.Process(target=rank_body, args=(values, rank, ranks, number, str(log))) for rank in range(ranks)
        ]
        for process in self.ranks:
            process.start()

    @property
    def ended(self) -> bool:
        return all(process.exitcode is not None for process in self.ranks)

    def wait(self) -> None:
        """Until the end, which must be a good one."""
        self.join()
        if any(process.exitcode for process in self.ranks):
            codes = [process.exitcode for process in self.ranks]
            raise SystemExit(f"the ranks ended with {codes}; their last lines:\n{self.log.read_text()[-3000:]}")

    def join(self) -> None:
        """Until all ranks have ended, well or not."""
        for process in self.ranks:
            process.join()
        self.port.close()

    def kill(self, victim: int) -> bool:
        """SIGKILL one rank, then, as a launcher does, the others. False where the job has ended before."""
        if self.ranks[victim].exitcode is not None:
            self.wait()
            return False
        for process in (self.ranks[victim], *self.ranks):
            if process.is_alive() and process.pid is not None:
                os.kill(process.pid, signal.SIGKILL)
        self.join()
        return True


def outcome(out: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Hashes of the last checkpoint's files, and its state without the name of the MLflow run."""
    folder = checkpoint.newest(out)
    assert folder is not None
    state = checkpoint.verify(folder)
    files = json.loads((folder / checkpoint.FILES).read_text())
    return {k: v for k, v in files.items() if k != "state.json"}, {k: v for k, v in state.items() if k != "run_id"}


def logged(out: Path) -> dict[tuple[int, str], set[float]]:
    """Every value that was ever logged of what must not differ, by step and name."""
    found: dict[tuple[int, str], set[float]] = {}
    for line in read_lines(out / "metrics.jsonl"):
        for name, value in line.items():
            if name.split("/")[-1] in SAME:
                found.setdefault((line["step"], name), set()).add(value)
    return found


def writing(out: Path) -> bool:
    return bool(list((out / "checkpoints").glob(".step-*.writing")))


def soak(folder: Path, kills: int, seed: int, ranks: int, stage: int) -> str:
    config, draw, log = prepare(folder, seed, stage), random.Random(seed), folder / "log"
    whole = dataclasses.replace(config, out=str(folder / "whole"))
    Job(whole, ranks, log).wait()
    started = time.monotonic()
    Job(dataclasses.replace(config, out=str(folder / "again")), ranks, log).wait()
    takes = time.monotonic() - started
    expected, curve = outcome(folder / "whole"), logged(folder / "whole")
    if outcome(folder / "again") != expected or logged(folder / "again") != curve:
        raise SystemExit("two runs that nobody killed differ")
    started, done, runs, in_saves, starts = time.monotonic(), 0, 0, 0, 0
    while done < kills or starts:
        out = folder / f"killed-{runs}"
        job, hit, starts = Job(dataclasses.replace(config, out=str(out)), ranks, log), False, starts + 1
        if done < kills:
            pause = draw.uniform(0, takes)
            until = time.monotonic() + pause
            while not job.ended and time.monotonic() < until:
                time.sleep(0.005)
            if draw.random() < 1 / 3:
                while not job.ended and not writing(out):
                    time.sleep(0.0005)
                time.sleep(draw.uniform(0, 0.03))
            saving = writing(out)
            hit = job.kill(draw.randrange(ranks))
        if hit:
            done, in_saves = done + 1, in_saves + saving
            print(f"kill {done}: {pause:.1f} s after the start{', in a save' if saving else ''}", flush=True)
            continue
        job.wait()
        if outcome(out) != expected:
            raise SystemExit(f"run {runs} ended otherwise than the one never killed; see {out}")
        if logged(out) != curve:
            raise SystemExit(f"run {runs} logged other figures than the one never killed; see {out}/metrics.jsonl")
        print(f"run {runs} has ended after {starts} starts: every byte is the same", flush=True)
        runs, starts = runs + 1, 0
    return (
        f"{done} kills ({in_saves} in a save) in {time.monotonic() - started:.0f} s, seed {seed}, {ranks} ranks, ZeRO "
        f"stage {stage}: {runs} runs of {max(step for step, _ in curve)} steps ended with every byte of weights, "
        "optimiser state, ID book and positions, and every logged loss, as the run never killed"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--stage", type=int, default=2, choices=(0, 1, 2, 3))
    parser.add_argument("--keep", help="folder to work in, which is kept; default: a temporary one")
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    os.environ["TRANSFORMERS_VERBOSITY"] = "error"
    multiprocessing.set_forkserver_preload(
        ["pretrain.training.train", "pretrain.training.engine", "launchers.jobs.rank", "mlflow"]
    )
    with tempfile.TemporaryDirectory() as temporary:
        print(soak(Path(options.keep or temporary), options.kills, options.seed, options.ranks, options.stage))


if __name__ == "__main__":
    main()
