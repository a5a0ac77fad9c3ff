"""Samples per second of the stream beside WebDataset's own pipeline, over the same tars in one run.

Enters the size of a generated shard folder; leaves a Markdown table, printed and written to docs/benchmarks/stream.md.
It must hold that both sides read every byte, parse every record and make every sample of an epoch once, shuffled, in
batches of 64; the stream checks each tar's SHA-256 besides. Rounds alternate, so that a busy machine hurts both alike.

    python -m benchmarks.shards.stream --records 60000
"""

import argparse
import hashlib
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from importlib.metadata import version
from pathlib import Path

import numpy as np

from shards.manifest import Manifest, Member, Tar, TokenizerInfo
from shards.records import record_key
from shards.stream.stream import Stream, read_amplification
from shards.tars import end_bytes, record_bytes
from shards.workers import cores

BATCH = 64
MAX_HISTORY = 20
NUM_ITEMS = 100_000
WORLD_SIZES = (1, 2, 3, 8, 12, 64)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=60_000, help="users in the generated folder")
    parser.add_argument("--lanes", type=int, default=64)
    parser.add_argument("--records-per-tar", type=int, default=128)
    parser.add_argument("--shuffle-tars", type=int, default=4)
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--repeats", type=int, default=3, help="epochs of each; the median counts")
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks/stream.md"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="stream-benchmark-") as folder:
        manifest = generate(Path(folder), options)
        lines = [*header(manifest, options), *speed(Path(folder), manifest, options)]
        lines += [*amplification(Path(folder), manifest), *fill(Path(folder), manifest)]
    text = "\n".join(lines) + "\n"
    print(text)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(text, encoding="utf-8")


def generate(folder: Path, options: argparse.Namespace) -> Manifest:
    """One category of Amazon-like histories: three items at least, eight on average, a long tail."""
    draw = np.random.default_rng(0)
    lengths = np.minimum(3 + draw.lognormal(0.9, 1.1, options.records), 200).astype(int)
    totals, dealt = np.zeros(options.lanes, dtype=int), [[] for _ in range(options.lanes)]
    for number, length in enumerate(lengths.tolist()):
        lane = int(totals.argmin())
        totals[lane] += length - 1
        dealt[lane].append((number, draw.integers(0, NUM_ITEMS, length).tolist()))
    (folder / "Generated").mkdir()
    tars = []
    for lane, records in enumerate(dealt):
        for number, start in enumerate(range(0, len(records), options.records_per_tar)):
            part = records[start : start + options.records_per_tar]
            file = f"Generated/train-{lane:04d}-{number:06d}.tar"
            data = b"".join(record_bytes(record_key("Generated", user), f"A{user:013d}", items) for user, items in part)
            data += end_bytes(len(data))
            (folder / file).write_bytes(data)
            samples = sum(len(items) - 1 for _, items in part)
            tars.append(Tar(file, lane, len(part), samples, len(data), hashlib.sha256(data).hexdigest()))
    member = Member(
        name="Generated",
        role="train",
        source="benchmark",
        num_users=options.records,
        num_items=NUM_ITEMS,
        num_interactions=int(lengths.sum()) + 2 * options.records,
        row_offset=0,
        share_sorted_by_id=0.0,
        tars=tuple(tars),
        files={},
        inputs={},
        cleaning={},
    )
    return Manifest(TokenizerInfo("none", 128), options.lanes, options.shuffle_tars, 0, (member,))


def header(manifest: Manifest, options: argparse.Namespace) -> list[str]:
    tars = manifest.members[0].tars
    versions = ", ".join(f"{name} {version(name)}" for name in ("webdataset", "orjson", "numpy", "torch"))
    return [
        "# The stream",
        "",
        f"`python -m benchmarks.shards.stream {' '.join(sys.argv[1:])}` on {cores()} cores ({platform.machine()}, load "
        f"{os.getloadavg()[0]:.1f} when it began), Python {platform.python_version()}, {versions}.",
        "",
        f"{options.records:,} records, {manifest.num_samples:,} samples, {len(tars):,} tars of "
        f"{sum(tar.bytes for tar in tars) / 1e6:.1f} MB together in {manifest.lanes} lanes. An epoch, start of the "
        f"processes included, in batches of {BATCH}, median of {options.repeats}.",
        "",
    ]


def ours(folder: Path, manifest: Manifest, workers: int, window: int = 0) -> Iterator[list]:
    stream = Stream(folder, manifest, 0, workers=workers, length_window=window)
    for _, entries in stream.batches(stream.start(), BATCH):
        yield [sample for sample in entries if sample is not None]


def expand(records: Iterator[dict]) -> Iterator[tuple[str, int, np.ndarray, int]]:
    """Each record's prefixes, as the stream has them."""
    for record in records:
        items = np.array(record["json"]["items"], dtype=np.int32)
        for end in range(1, len(items)):
            yield record["__key__"], end, items[:end], int(items[end])


def unchanged(batch: list) -> list:
    """Spares WebDataset the loader's own habit of making each history a tensor in shared memory, ten times slower."""
    return batch


def theirs(folder: Path, manifest: Manifest, workers: int) -> Iterator[list]:
    """WebDataset as its documentation has it: shards shuffled, a buffer of 1,000 records, decoded by extension."""
    import webdataset as wds

    urls = [str(folder / tar.file) for tar in manifest.members[0].tars]
    dataset = wds.WebDataset(urls, shardshuffle=len(urls), seed=0).shuffle(1000).decode().compose(expand)  # type: ignore
    batched = dataset.batched(BATCH, collation_fn=list)
    yield from (
        batched
        if workers == 0
        else wds.WebLoader(  # type: ignore
            batched, batch_size=None, num_workers=workers, collate_fn=unchanged
        )
    )


def rate(samples: int, epoch: Callable[[], Iterator[list]]) -> float:
    start, seen = time.perf_counter(), 0
    for batch in epoch():
        seen += len(batch)
    assert seen == samples, f"{seen} samples of {samples}: the two sides must do the same work"
    return seen / (time.perf_counter() - start)


def speed(folder: Path, manifest: Manifest, options: argparse.Namespace) -> list[str]:
    lines = [
        "| workers | stream, samples/s | WebDataset, samples/s | ratio | stream, length window 1024 |",
        "| ---: | ---: | ---: | ---: | ---: |",
    ]
    sides = (ours, theirs, lambda *parts: ours(*parts, window=1024))
    for workers in options.workers:
        rates: list[list[float]] = [[], [], []]
        for _ in range(options.repeats):
            for side, found in zip(sides, rates, strict=True):
                found.append(rate(manifest.num_samples, partial(side, folder, manifest, workers)))
        mine, other, windowed = map(statistics.median, rates)
        lines.append(f"| {workers} | {mine:,.0f} | {other:,.0f} | {mine / other:.1f} | {windowed:,.0f} |")
    closing = (
        "On local files the caller's own work, a `Sample` and its slices, is most of the time; a worker can take off "
        "no more than reading and parsing, and starting one takes about a second an epoch. Workers and prefetch are "
        "for stores that answer slowly."
    )
    return [*lines, "", closing, ""]


def amplification(folder: Path, manifest: Manifest) -> list[str]:
    total = sum(tar.bytes for tar in manifest.members[0].tars)
    lines = [
        f"Bytes read by all ranks together in an epoch, over the bytes there are ({manifest.lanes} lanes):",
        "",
        "| ranks | measured | W / gcd(lanes, W) |",
        "| ---: | ---: | ---: |",
    ]
    for world_size in WORLD_SIZES:
        read = 0
        for rank in range(world_size):
            stream = Stream(folder, manifest, 0, rank, world_size)
            for _ in stream.batches(stream.start(), BATCH * world_size):
                pass
            read += stream.bytes_read
        lines.append(f"| {world_size} | {read / total:.2f} | {read_amplification(manifest.lanes, world_size):.2f} |")
    return [*lines, ""]


def fill(folder: Path, manifest: Manifest) -> list[str]:
    lines = [
        f"Share of a padded batch that is not padding: mean over longest history (at most {MAX_HISTORY} items) in "
        f"batches of {BATCH}:",
        "",
        "| length window | full |",
        "| ---: | ---: |",
    ]
    for window in (0, 128, 512, 1024):
        real = padded = 0
        for batch in ours(folder, manifest, 0, window):
            lengths = [min(len(sample.history), MAX_HISTORY) for sample in batch]
            real, padded = real + sum(lengths), padded + max(lengths) * len(lengths)
        lines.append(f"| {window or 'none'} | {real / padded:.1%} |")
    return lines


if __name__ == "__main__":
    main()
