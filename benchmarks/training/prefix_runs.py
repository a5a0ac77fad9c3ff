"""Items that a generator batch encodes, by how many prefixes of a history stay together (`prefix_run`).

    python -m benchmarks.training.prefix_runs --shards SHARDS   # counts, no timing -> docs/benchmarks/prefix-runs.md

Enters: a shard folder. Leaves: a Markdown table. Must hold: every row counts the same samples, a whole epoch of them.
"""

import argparse
from pathlib import Path

import numpy as np

from benchmarks.tables import table
from pretrain.config.prompt import PromptConfig
from shards.manifest import Manifest
from shards.stream.stream import Stream

RUNS = (1, 2, 4, 8, 16)


def encoded(folder: str, manifest: Manifest, run: int, world_size: int, batch: int) -> tuple[float, float]:
    """Distinct items and mentions of items per optimiser step of `batch` samples, all ranks together, in an epoch."""
    longest = PromptConfig().max_history
    distinct = mentions = steps = 0
    for rank in range(world_size):
        stream = Stream(folder, manifest, 0, rank, world_size, prefix_run=run)
        for _, samples in stream.batches(stream.start(), batch):
            told = [sample.history[-longest:] for sample in samples if sample is not None]
            distinct += len(np.unique(np.concatenate(told))) if told else 0
            mentions += sum(map(len, told))
            steps += rank == 0
    return distinct / steps, mentions / steps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", required=True)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks/prefix-runs.md"))
    options = parser.parse_args()
    manifest = Manifest.load(options.shards)
    rows = []
    for ranks in options.ranks:
        alone = None
        for run in RUNS:
            items, mentions = encoded(options.shards, manifest, run, ranks, options.batch)
            alone = alone or items
            rows.append([str(ranks), str(run), f"{mentions:,.0f}", f"{items:,.0f}", f"{items / alone:.2f}"])
    members = ", ".join(member.name for member in manifest.train_members)
    lines = [
        "# Prefixes of a history kept together", "",
        f"`python -m benchmarks.training.prefix_runs --shards SHARDS` on {members}, {manifest.num_samples:,} samples "
        f"in {manifest.lanes} lanes, a whole epoch. Counts are per optimiser step of a generator phase over "
        f"{options.batch} samples: the items that its prompts name, and the items that are encoded. Every rank "
        "encodes an item that it needs once.", "",
        *table(["ranks", "`prefix_run`", "items named", "items encoded", "share"], rows),
    ]  # fmt: skip
    print("\n".join(lines))
    options.out.write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
