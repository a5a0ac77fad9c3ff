"""Full-ranking evaluation of a T5 on an unseen set, end to end through the judge, beside Hugging Face's `generate`.

Enters: a shard folder with the set, a T5, the set's IDs (an ID book, or a file of real ones: item word word ...).
Leaves: Markdown, printed and written to docs/benchmarks/zeroshot.md. Must hold: both sides have the same model,
threads, users, prompts, catalogue and beam, in one run; what both answer is compared.

    python -m benchmarks.zeroshot --shards SHARDS --task Beauty --model T5 --ids IDS.txt.gz [--users 200]

Ours is the judge, with trie, prompts, search, checks and ranks. The other side is `generate` with a prefix function
over a trie of dictionaries, in batches of 1 and of 8 users, whose lists go through the same judge. First each is one
process that has all threads; then each is as many processes as there are threads, which share the users out, as
`idgenrec zeroshot --processes` does. Ours runs before and after the other side.
"""

import argparse
import os
import platform
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

from benchmarks.tables import table
from benchmarks.zeroshot.sides import BATCHES, Run, Sides, in_processes
from pretrain.ranking.metrics import summary
from pretrain.runtime.world import World
from zeroshot.protocol.recommender import Judged


def agreement(one: Judged, two: Judged) -> tuple[float, float]:
    """Share of the first ten, and of the first, that both sides have."""
    pairs = list(zip(one.top_NK, two.top_NK, strict=True))
    shared = sum(len(set(a[a >= 0]) & set(b[b >= 0])) for a, b in pairs) / max(1, int((one.top_NK >= 0).sum()))
    return shared, float(np.mean([a[0] == b[0] for a, b in pairs]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", type=Path, required=True)
    parser.add_argument("--task", default="Beauty")
    parser.add_argument("--model", required=True, help="folder of a pretrained T5")
    parser.add_argument("--ids", type=Path, required=True, help="ID book (.arrow) or file of real IDs (.txt.gz)")
    parser.add_argument("--users", type=int, default=200)
    parser.add_argument("--beam", type=int, default=20)
    parser.add_argument("--threads", type=int, default=2, help="of one process; and processes of one thread")
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks/zeroshot.md"))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    sides, load = Sides(options), os.getloadavg()[0]
    alone = World(0, 1, torch.device("cpu"))
    first = sides.run(None, alone)
    theirs = {batch: sides.run(batch, alone) for batch in BATCHES}
    again = sides.run(None, alone)
    assert np.array_equal(first.judged.ranks_N, again.judged.ranks_N), "the same answer twice"
    shared = in_processes(options, [None, BATCHES[-1], None])
    assert np.mean(first.judged.top_NK == shared[0].judged.top_NK) > 0.99, "the same answer but for rounding"
    parts = {
        "Hugging Face, batch 1": theirs[BATCHES[0]],
        f"Hugging Face, batch {BATCHES[-1]}": theirs[BATCHES[-1]],
        f"Hugging Face, batch {BATCHES[-1]}, {options.threads} processes": shared[1],
        "ours, through the judge": Run(first.judged, (first.seconds + again.seconds) / 2),
        f"ours, {options.threads} processes": Run(shared[0].judged, (shared[0].seconds + shared[2].seconds) / 2),
    }
    users, peers = len(sides.task.users), list(parts)[:3]
    rows = []
    for name, run in parts.items():
        metrics = summary(run.judged.ranks_N)
        rows.append(
            [name, f"{run.seconds:.1f}", f"{run.seconds / users * 1e3:.0f}",
             *(f"{parts[peer].seconds / run.seconds:.1f}" for peer in peers),
             f"{metrics['HR@10']:.4f}", f"{metrics['NDCG@10']:.4f}"]
        )  # fmt: skip
    lengths = sides.ours.input_lengths(sides.task.histories)
    model, ids = sides.ours.model, sides.ours.token_ids
    libraries = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "numpy"))
    lines = [
        "# Full-ranking evaluation", "",
        f"`python -m benchmarks.zeroshot --shards SHARDS --task {options.task} --model T5 --ids {options.ids.name} "
        f"--users {options.users}` on {options.threads} cores ({platform.machine()}, load {load:.1f} when it began), "
        f"Python {platform.python_version()}, {libraries}. float32, "
        f"{sum(p.numel() for p in model.parameters()) / 1e6:.0f} million parameters.", "",
        f"{users:,} users of {options.task}, {len(sides.task.items):,} items, beam {options.beam}; prompts of "
        f"{lengths.min()} to {lengths.max()} tokens, {lengths.mean():.0f} on average; IDs of "
        f"{np.mean([len(tokens) for tokens in ids]):.1f} tokens. Both sides get users sorted by length. Ours "
        f"ran before ({first.seconds:.1f} s) and after ({again.seconds:.1f} s) the other side.", "",
        *table(["", "seconds", "ms a user", *(f"times {peer}" for peer in peers), "HR@10", "NDCG@10"], rows),
    ]  # fmt: skip
    for name in peers[:2]:
        shared_items, firsts = agreement(first.judged, parts[name].judged)
        lines.append(
            f"* {name}: {shared_items:.1%} of our first ten are in its first ten; {firsts:.1%} of firsts are equal."
        )
    lines.append(
        "\nHugging Face drops a finished hypothesis that is not among the first `beam` continuations of its step, and "
        "then has room for a less probable one."
    )
    print("\n".join(lines), flush=True)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
