"""Bytes that the ranks of a training step send each other, counted at each ZeRO stage beside what the plan says.

    python -m benchmarks.traffic [--ranks 2 4]   # gloo ranks on this machine -> docs/benchmarks/traffic.md
    python -m benchmarks.traffic --paper         # the tables of docs/scaling.md: arithmetic, nothing runs

Enters: nothing. Leaves: Markdown tables. Must hold, and is checked in every row: what the counted collectives must have
sent is what the operating system saw leave the process.
"""

from __future__ import annotations

import argparse
import platform
from dataclasses import replace
from pathlib import Path

import deepspeed
import torch

from benchmarks.traffic.paper import paper
from benchmarks.traffic.ranks import LAYERS, Case, Found, run
from pretrain.planning.plan import traffic
from shards.workers import cores

PLAIN = [
    Case(stage, precision, micro)
    for precision in ("fp32", "bf16")
    for stage in (0, 1, 2, 3)
    if precision == "fp32" or stage
    for micro in (1, 2)
]
LARGE = [Case(2, "bf16", 2, 11307), *(Case(3, "bf16", micro, size) for size in (738, 2852, 11307) for micro in (1, 2))]
GENERATOR = [
    Case(1, "fp32", 1, text_runs=4),
    Case(3, "fp32", 1, text_runs=4),
    *(Case(3, "fp32", 1, 2852, runs) for runs in (1, 2, 4, 8)),
    Case(3, "fp32", 1, 11307, 4),
]
HEAD = """# Traffic of a training step

`python -m benchmarks.traffic` on {cores} cores ({machine}), torch {torch}, DeepSpeed {deepspeed}, gloo. {layers} +
{layers} layers, {parameters:,} parameters. What a rank sends in an optimiser step, mean over ranks, in units of (N-1)/N
of the bytes of the weights that learn (4 a parameter in fp32, 2 in bf16), as ring collectives send it: an all-reduce 2,
a reduce-scatter or an all-gather 1, each of what it moves. *Planned* is `pretrain.planning.plan.traffic`. *On the
wire* is what the operating system saw the processes write (`/proc/self/io`): gloo makes a reduce-scatter
out of an all-reduce, so at stage 3 it sends one more for each micro-batch than
NCCL's would; with that, counted and seen differ by at most
{worst:.1%} in any of the {rows} rows.

A small model stands for a large one: DeepSpeed's limits (`reduce_bucket_size`, `stage3_prefetch_bucket_size`,
`stage3_max_live_parameters`, `stage3_max_reuse_distance`) are scaled by the ratio of the sizes, so *stands for 2,852*
is treated as a model of 2,852 million parameters is.
"""
COLUMNS = (
    "ranks", "stage", "precision", "micro-batches", "stands for, million", "calls of the generator", "all-reduce",
    "reduce-scatter", "all-gather", "sent", "planned", "ratio", "on the wire", "KB a step",
)  # fmt: skip


def unit(case: Case, found: Found, ranks: int) -> float:
    return (2 if case.precision == "bf16" else 4) * found.parameters * (ranks - 1) / ranks


def planned(case: Case, parameters: int, ranks: int) -> float:
    """As for the model that the small one stands for, in units of its weights."""
    large = case.stands_for * 1_000_000
    sent = traffic(large, ranks, case.stage, case.precision, case.micro_batches, max(1, case.text_runs))
    return sent * parameters / large


def gap(found: Found) -> float:
    """Between what gloo must have sent and what was seen on the wire."""
    gloo = sum(found.sent.values()) + found.sent.get("reduce_scatter_tensor", 0.0)
    return abs(found.wire / gloo - 1)


def row(case: Case, found: Found, ranks: int) -> str:
    if gap(found) > 0.1:
        raise SystemExit(f"{case} on {ranks} ranks: {found.wire:,.0f} bytes on the wire, counted {found.sent}")
    one, sent = unit(case, found, ranks), sum(found.sent.values())
    plan = planned(case, found.parameters, ranks)
    kinds = [found.sent.get(name, 0.0) for name in ("all_reduce", "reduce_scatter_tensor", "all_gather_into_tensor")]
    if abs(sum(kinds) - sent) > 0.001 * sent:
        raise SystemExit(f"{case} on {ranks} ranks: another collective than the three: {found.sent}")
    cells = [
        str(ranks), str(case.stage), case.precision, str(case.micro_batches), f"{case.stands_for:,}",
        str(case.text_runs or "-"), *(f"{size / one:.2f}" for size in kinds), f"{sent / one:.2f}", f"{plan / one:.2f}",
        f"{sent / plan:.3f}", f"{found.wire / one:.2f}", f"{sent / 1e3:,.0f}",
    ]  # fmt: skip
    return "| " + " | ".join(cells) + " |"


def measure(ranks: list[int]) -> str:
    found = [(size, *pair) for size in ranks for pair in run(size, PLAIN + LARGE + GENERATOR)]
    table = ["| " + " | ".join(COLUMNS) + " |", "| ---: " * len(COLUMNS) + "|"]
    parts = []
    for title, cases in (
        ("Below a billion parameters, the recommender's phase", PLAIN),
        ("What stage 3 does with large models", LARGE),
        ("The generator's phase: the frozen recommender sends nothing", GENERATOR),
    ):
        rows = [row(case, one, size) for size, case, one in found if case in cases]
        parts += [f"\n## {title}\n", *table, *rows]
    ours = sorted({round(one.ours) for _, _, one in found})
    starts = {
        stage: [(one.made / unit(case, one, size), one.first / unit(case, one, size))
                for size, case, one in found if case.stage == stage and case == replace(PLAIN[0], stage=stage)]
        for stage in (0, 1, 2, 3)
    }  # fmt: skip
    begun = "; ".join(f"stage {stage} {made:.1f}, then {first:.1f}" for stage, [(made, first), *_] in starts.items())
    parts += [
        "\n## What is not in the tables\n",
        f"Our own sums (loss, number of targets; double precision): {ours[0]} to {ours[-1]} bytes a rank and step. "
        "Once a phase, when the engine is made, and in its first step, in the same units (fp32, one micro-batch, "
        f"{ranks[0]} ranks): {begun}"
        ". Stage 3 records in its first two steps in which order modules run, and gathers more in them; it begins anew "
        "where a micro-batch calls the generator another number of times than the one before.",
    ]  # fmt: skip
    head = HEAD.format(
        cores=cores(), machine=platform.machine(), torch=torch.__version__, deepspeed=deepspeed.__version__,
        layers=LAYERS, parameters=found[0][2].parameters, worst=max(gap(one) for _, _, one in found), rows=len(found),
    )  # fmt: skip
    return head + "\n".join(parts) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ranks", type=int, nargs="+", default=[2, 4])
    parser.add_argument("--paper", action="store_true", help="print the tables of docs/scaling.md; nothing runs")
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks/traffic.md"))
    options = parser.parse_args()
    if options.paper:
        print(paper())
        return
    text = measure(options.ranks)
    options.out.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
