"""Kill ranks of an ID job by SIGKILL, at random moments, many times; resume each time; the book must not change.

Enters: a number of kills and a seed. Leaves: a line per kill and a verdict. Must hold: every finished job gives the
bytes of an undisturbed one, on whatever number of ranks it was continued; nothing that a journal held is decoded again.

    python -m benchmarks.soak.ids [--kills 50] [--seed 0]

The job is `idgenrec ids` as the local launcher starts it, over a generated catalogue and a small generator. A kill
comes when a random number of the items still to be decoded is done, or at a random moment of the start.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from launchers.jobs.local import GRACE_SECONDS, HeldPort, RankFailed, environment, stop, wait_for
from launchers.jobs.request import IdsConfig
from pretrain.config.ids import IdConfig
from pretrain.config.run import ModelConfig
from pretrain.ids.journal import Journal
from shards.build.build import build
from shards.config import BuildConfig
from shards.readers.marketplace import MarketplaceSizes, write_marketplace

TRACE = "IDGENREC_SOAK_TRACE"
IDS = IdConfig(
    groups=3, penalty_max=0.3, tier_tokens=4, max_tiers=2, item_text_tokens=48, block_size=16, blocks_per_wave=3
)


def rank_body(job_file: str) -> None:
    """One rank, which notes every item and attempt that it has decoded."""
    from launchers.jobs import rank
    from pretrain.ids import writer as writing

    writer_class: Any = writing.Writer
    write, trace = writer_class.write, os.environ[TRACE]

    def traced(writer: Any, block: Any) -> Any:
        lines = "".join(f"{row} {writer.attempts(int(row))}\n" for row in block.rows_B if row >= 0)
        found = write(writer, block)
        with open(trace, "a") as file:
            file.write(lines)
        time.sleep(0.03)  # so small a model is faster than its killer
        return found

    writer_class.write = traced
    rank.main(job_file)


def prepare(folder: Path, seed: int) -> IdsConfig:
    """Shards of a generated catalogue and a generator that collides a lot."""
    import torch

    from pretrain.model.t5 import build_model, save_model
    from shards.tokenizer import load_tokenizer

    sizes = MarketplaceSizes(users_per_category=400, items_per_category=600, test_users=6, test_items=24)
    write_marketplace(folder / "raw", seed=seed, sizes=sizes)
    raw = folder / "raw"
    build(BuildConfig(train=(str(raw / "Garden"), str(raw / "Kitchen")), test=(), out=str(folder / "shards"),
                      vocab_size=600))  # fmt: skip
    tokenizer = load_tokenizer(folder / "shards" / "tokenizer")
    model = build_model(ModelConfig(d_model=32, d_ff=64, num_layers=2, num_heads=2), tokenizer, seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "EncDecAttention" in name:
                parameter *= 3.0
    save_model(model, tokenizer, folder / "generator")
    return IdsConfig(str(folder / "generator"), str(folder / "shards"), str(folder / "book.arrow"), ids=IDS)


def start(config: IdsConfig, folder: Path, ranks: int, port: HeldPort) -> list[subprocess.Popen[bytes]]:
    """The job's ranks, as the local launcher starts them."""
    job, trace = folder / "job.json", folder / "trace"
    job.write_text(json.dumps({"task": "ids", "config": dataclasses.asdict(config)}))
    trace.write_text("")
    words = [sys.executable, "-m", "benchmarks.soak.ids", "--rank", str(job)]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return [
        subprocess.Popen(words, env=environment(rank, ranks, port.number) | {TRACE: str(trace)}, **quiet)  # type: ignore[call-overload]
        for rank in range(ranks)
    ]


def decoded(folder: Path) -> Counter[tuple[int, int]]:
    """How often each (row, attempt) was decoded since the last start."""
    return Counter(tuple(map(int, line.split())) for line in (folder / "trace").read_text().splitlines())  # type: ignore[misc]


def in_journal(folder: Path) -> set[tuple[int, int]]:
    """What the journal holds."""
    progress = folder / ".book.arrow.progress"
    identities = [path.name for path in progress.iterdir()] if progress.is_dir() else []
    return {(e.row, e.attempt) for identity in identities for e in Journal(progress, identity, 0).read()}


def killed(ranks: list[subprocess.Popen[bytes]], victim: int, folder: Path, after: int, pause: float) -> bool:
    """Kill a rank once `after` items are decoded (-1: do not wait for any) and `pause` seconds have passed; False where
    the job ended before."""
    while after >= 0 and (folder / "trace").read_text().count("\n") < after:
        if all(rank.poll() is not None for rank in ranks):
            return False
        time.sleep(0.002)
    time.sleep(pause)
    if ranks[victim].poll() is not None:
        return False
    ranks[victim].send_signal(signal.SIGKILL)
    try:
        wait_for(ranks)
    except RankFailed:
        stop(ranks, GRACE_SECONDS)
    return True


def soak(folder: Path, kills: int, seed: int) -> str:
    config, draw = prepare(folder, seed), random.Random(seed)
    out, started = Path(config.out), time.monotonic()
    port = HeldPort()
    wait_for(start(config, folder, 1, port))
    expected, everything = out.read_bytes(), decoded(folder)
    assert max(everything.values()) == 1
    out.unlink()
    done, finished, lost = 0, 0, 0
    safe: set[tuple[int, int]] = set()
    while done < kills or safe:
        ranks = draw.choice((1, 2, 3))
        left = len(everything) - len(safe)
        ranks_running = start(config, folder, ranks, port)
        hit = False
        if done < kills and draw.random() < 0.85:
            victim, early = draw.randrange(ranks), draw.random() < 0.1
            after = -1 if early else draw.randrange(left // 3 + 1)
            hit = killed(ranks_running, victim, folder, after, draw.uniform(0, 6.0 if early else 0.05))
        if not hit:
            wait_for(ranks_running)
        again = {entry for entry in decoded(folder) if entry in safe}
        if again or max(decoded(folder).values(), default=1) > 1:
            raise SystemExit(f"decoded again although the journal held it: {sorted(again)[:10]}")
        if hit:
            done += 1
            before, safe = safe, in_journal(folder)
            gone = 0 if out.is_file() else len(decoded(folder)) - len(safe - before)
            lost += gone
            print(f"kill {done}: rank {victim} of {ranks}, {len(safe):,} of {len(everything):,} decodes are safe, "
                  f"{gone} were in flight", flush=True)  # fmt: skip
        if out.is_file():
            if out.read_bytes() != expected:
                raise SystemExit(f"another book after {done} kills, last on {ranks} ranks")
            finished, safe = finished + 1, set()
            out.unlink()
            shutil.rmtree(folder / ".book.arrow.progress", ignore_errors=True)
    return (
        f"{done} kills in {time.monotonic() - started:.0f} s, seed {seed}: {finished} jobs of {len(everything):,} "
        f"decodes ended in the bytes of an undisturbed one, on 1 to 3 ranks; {lost:,} decodes in flight were lost, "
        "none that a journal held was made again"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rank", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.rank:
        rank_body(options.rank)
        return
    with tempfile.TemporaryDirectory() as folder:
        print(soak(Path(folder), options.kills, options.seed))


if __name__ == "__main__":
    main()
