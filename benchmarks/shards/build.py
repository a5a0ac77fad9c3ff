"""Two benchmarks of the build, each in one run; tables go to docs/benchmarks/.

    python -m benchmarks.shards.build scale
    python -m benchmarks.shards.build peers

`scale` takes 100 million generated interactions over 2 million items through 5-core, split and tars, within 8 GB of
resident memory on two cores. `peers` takes one ratings file of 3 million interactions through our ingest, 5-core, order
and split, and through the dictionary loops that peers use, side by side.

The raw files are generated: ratings csv and metadata json in the layout of Amazon 2018. Popularity is skewed, users
have from 1 to a few hundred interactions. Resident memory is the sum over all processes of the build, five times a
second.
"""

import argparse
import json
import multiprocessing
import platform
import shutil
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from datetime import date
from pathlib import Path

import numpy as np
import polars as pl
import psutil

from benchmarks.shards.generated import Shape, generate
from shards.build.build import build
from shards.build.data_set import DataSet
from shards.build.stages import Stages
from shards.config import BuildConfig
from shards.files.database import Resources
from shards.workers import cores

DOCS = Path(__file__).resolve().parents[2] / "docs" / "benchmarks"


class Resident:
    """Peak resident memory of this process's children, in GB, while the block runs."""

    def __enter__(self) -> "Resident":
        self.peak, self.stop = 0.0, threading.Event()
        self.thread = threading.Thread(target=self._watch, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        self.thread.join()

    def _watch(self) -> None:
        while not self.stop.wait(0.2):
            total = 0
            for child in psutil.Process().children(recursive=True):
                try:
                    total += child.memory_info().rss
                except psutil.NoSuchProcess:
                    continue
            self.peak = max(self.peak, total / 1e9)


def _build(config: BuildConfig, started: float) -> None:
    build(config, lambda line: print(f"{time.time() - started:7.0f} s  {line}", flush=True))


def scale(arguments: argparse.Namespace, folder: Path) -> list[str]:
    """The build of one large category in a process of its own, watched."""
    started = time.time()
    shape = Shape.dense(arguments.interactions, arguments.items)
    raw = generate(folder / "raw", arguments.interactions, shape, texts=arguments.items)
    size = sum(path.stat().st_size for path in raw.iterdir())
    print(f"{time.time() - started:7.0f} s  generated {size / 1e9:.1f} GB of raw files", flush=True)
    config = BuildConfig(
        out=str(folder / "shards"), train=(str(raw),), max_users=None, lanes=64, records_per_tar=2_000,
        vocab_size=8_000, workers=arguments.workers, memory_gb=arguments.memory_gb,
    )  # fmt: skip
    started = time.time()
    with Resident() as resident:
        process = multiprocessing.get_context("spawn").Process(target=_build, args=(config, started))
        process.start()
        process.join()
    seconds = time.time() - started
    if process.exitcode:
        raise SystemExit(f"the build ended with {process.exitcode}")
    manifest = json.loads((folder / "shards" / "manifest.json").read_text())
    [member] = manifest["members"]
    tars = sum(tar["bytes"] for tar in member["tars"])
    return [
        "| interactions read | after 5-core | users | items | peels | tars | time | interactions/s | peak resident |",
        "|---|---|---|---|---|---|---|---|---|",
        f"| {member['cleaning']['interactions_read']:,} | {member['num_interactions']:,} | {member['num_users']:,} "
        f"| {member['num_items']:,} | {member['cleaning']['peels']} | {len(member['tars']):,} ({tars / 1e9:.1f} GB) "
        f"| {seconds:.0f} s | {arguments.interactions / seconds:,.0f} | **{resident.peak:.2f} GB** |",
    ]


def _timed(work: Callable[[Path, Path], tuple[int, int]], raw: Path, out: Path) -> tuple[float, tuple[int, int]]:
    started = time.time()
    counts = work(raw, out)
    return time.time() - started, counts


def dictionary_loops(raw: Path, out: Path) -> tuple[int, int]:
    """Order, 5-core, numbering and the sequence file, as the scripts of peers (S3-Rec's and its heirs) do it:

    lists and dictionaries, one interaction at a time; users and items are counted anew in each round, and items are
    removed from lists one by one. Leaves the sequence file; returns users and interactions left.
    """
    data = []
    with open(raw / "Generated.csv") as stream:
        for line in stream:
            item, user, rating, timestamp = line.strip().split(",")
            if float(rating) > 0:
                data.append((user, item, int(timestamp)))
    sequences: dict[str, list[tuple[str, int]]] = {}
    for user, item, timestamp in data:
        if user not in sequences:
            sequences[user] = []
        sequences[user].append((item, timestamp))
    histories = {}
    for user, pairs in sequences.items():
        pairs.sort(key=lambda pair: pair[1])
        histories[user] = [item for item, _ in pairs]
    while True:
        users: dict[str, int] = defaultdict(int)
        items: dict[str, int] = defaultdict(int)
        for user, history in histories.items():
            for item in history:
                users[user] += 1
                items[item] += 1
        if all(number >= 5 for number in users.values()) and all(number >= 5 for number in items.values()):
            break
        for user in list(histories):
            if users[user] < 5:
                del histories[user]
                continue
            for item in list(histories[user]):
                if items[item] < 5:
                    histories[user].remove(item)
    numbers: dict[str, dict[str, str]] = {"user": {}, "item": {}}
    numbered = {}
    for user, history in histories.items():
        if user not in numbers["user"]:
            numbers["user"][user] = str(len(numbers["user"]) + 1)
        rows = []
        for item in history:
            if item not in numbers["item"]:
                numbers["item"][item] = str(len(numbers["item"]) + 1)
            rows.append(numbers["item"][item])
        numbered[numbers["user"][user]] = rows
    with open(out, "w") as stream:
        for user, history in numbered.items():
            stream.write(user + " " + " ".join(history) + "\n")
    return len(numbered), sum(map(len, numbered.values()))


def peers(arguments: argparse.Namespace, folder: Path) -> list[str]:
    """Both ways over one file, in turn; what is left must be equal."""
    lines = [
        "| ratings | interactions read | after 5-core | users | dictionary loops | ours | ratio |",
        "|---|---|---|---|---|---|---|",
    ]
    shapes = {
        "as a raw dump": Shape.raw(arguments.interactions),
        "nearly all in the core": Shape.dense(arguments.interactions, arguments.items),
    }
    for number, (name, shape) in enumerate(shapes.items()):
        # Peers' loops read no metadata; a category of which fewer than a tenth of the items have a text is refused.
        raw = generate(folder / f"raw-{number}", arguments.interactions, shape, texts=shape.items // 5)
        rows = []
        for turn in range(arguments.turns):
            # Each in a process of its own: neither inherits the other's heap.
            with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
                theirs, counts = pool.submit(_timed, dictionary_loops, raw, folder / "sequences.txt").result()
            with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
                ours, ours_counts = pool.submit(_timed, through_stages, raw, folder / f"ours-{number}-{turn}").result()
            rows.append((theirs, ours))
            assert counts == ours_counts, "the same core"
        theirs, ours = (float(np.median(column)) for column in zip(*rows, strict=True))
        lines.append(
            f"| {name} | {arguments.interactions:,} | {counts[1]:,} | {counts[0]:,} | {theirs:.1f} s | {ours:.1f} s "
            f"| **{theirs / ours:.1f}** |"
        )
    return lines


def through_stages(raw: Path, out: Path) -> tuple[int, int]:
    """Ratings file to numbered, sorted and split sequences on disk, as a build does it; users and interactions left."""
    config = BuildConfig(out=str(out), train=(str(raw),), max_users=None)
    data = DataSet("Generated", "train", str(raw), config)
    with Stages(out, workers=1) as stages:
        [facts] = stages.run([data.ingest()])
        facts |= stages.run([data.clean(stages, facts, (), Resources(4.0, 2))])[0]
        facts |= stages.run([data.select(stages, facts, None)])[0]
    return facts["num_users"], facts["num_interactions"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, interactions, items in (("scale", 100_000_000, 2_000_000), ("peers", 3_000_000, 60_000)):
        command = commands.add_parser(name)
        command.add_argument("--interactions", type=int, default=interactions)
        command.add_argument("--items", type=int, default=items)
        command.add_argument("--folder", help="where raw files and shards go; default: a temporary folder")
        command.add_argument("--workers", type=int, default=2)
        command.add_argument("--memory-gb", type=float, default=4.0)
        command.add_argument("--turns", type=int, default=3)
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(dir=arguments.folder))
    try:
        table = {"scale": scale, "peers": peers}[arguments.command](arguments, folder)
    finally:
        shutil.rmtree(folder)
    words = f"python -m benchmarks.shards.build {arguments.command} --interactions {arguments.interactions}"
    versions = f"{date.today()}, {cores()} cores, Python {platform.python_version()}, polars {pl.__version__}"
    text = "\n".join([f"# Build: {arguments.command}", "", f"`{words}` ({versions})", "", *table]) + "\n"
    DOCS.mkdir(parents=True, exist_ok=True)
    (DOCS / f"build-{arguments.command}.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
