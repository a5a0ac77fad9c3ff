"""Training on 1, 8 and 64 nodes of eight GPUs, on paper: the tables of docs/scaling.md.

Enters: nothing but the assumptions below. Leaves: Markdown. Must hold: memory, FLOPs and traffic are those of
`pretrain.planning.plan`, which `idgenrec pretrain --plan` prints; nothing is measured here.
"""

from __future__ import annotations

from dataclasses import dataclass

from pretrain.config.run import Kind
from pretrain.model.shape import Shape
from pretrain.model.vocabulary_loss import CHUNK_BYTES
from pretrain.planning.plan import (
    STAGES,
    activation_bytes,
    batch_flops,
    id_job_flops,
    memory,
    traffic,
    validation_flops,
)
from pretrain.planning.workload import Batch

PEAK = 989e12
"""bf16 FLOP/s of an H100 or H200 without sparsity."""
NVLINK, NICS, NIC, REACHED = 450e9, 8, 50e9, 0.8
"""Bytes/s one way: of a GPU inside its node; cards of a node, one a GPU, 400 Gb/s each; the share that rings reach.

A ring passes a node's border once in each direction. With a ring a card, eight rings share the data, so between nodes
a collective runs as if every GPU sent at `NICS * NIC`, not at one card's rate.
"""
START = 50e-6
"""Seconds a collective takes to start over 512 ranks."""
GPUS, NODES = 8, (1, 8, 64)
KINDS: tuple[Kind, Kind] = "recommender", "generator"
PROMPT, TARGET = 64, 6
"""Tokens of a sample: a history of some six IDs in a template, an ID and EOS."""
TEXTS, TEXT = 3, 90
"""Distinct items a sample adds to a micro-batch of the generator's phase, tokens of their text."""
CALLS = 8
SAMPLES = 256
"""Of a rank and step, where the batch grows with the ranks."""
FIXED = 8192
"""Of a step, where it does not."""
CATALOGUES, SEARCHING = (233_323, 10_000_000), 0.05
"""Items: the paper's Fusion, and a larger one; the share of the peak that a search is taken to reach."""


@dataclass(frozen=True)
class Model:
    """Both T5s of a run. `rows`: samples of a micro-batch; `recomputed`: with activation checkpointing; `stage`: what
    docs/scaling.md chooses at 512 ranks."""

    name: str
    shape: Shape
    mfu: float
    rows: int
    recomputed: bool
    stage: int

    @property
    def parameters(self) -> int:
        return self.shape.num_parameters

    def precision(self, stage: int) -> str:
        """bf16 where there are float32 masters."""
        return "fp32" if stage == 0 else "bf16"


def t5(d_model: int, d_kv: int, d_ff: int, layers: int, heads: int) -> Shape:
    return Shape(32128, d_model, d_kv, d_ff, layers, layers, heads, is_gated_act=False, tied=True)


MODELS = (
    Model("t5-small", t5(512, 64, 2048, 6, 8), 0.25, 64, False, 1),
    Model("t5-base", t5(768, 64, 3072, 12, 12), 0.4, 64, False, 1),
    Model("t5-large", t5(1024, 64, 4096, 24, 16), 0.4, 32, False, 1),
    Model("t5-3b", t5(1024, 128, 16384, 24, 32), 0.4, 64, True, 1),
    Model("t5-11b", t5(1024, 128, 65536, 24, 128), 0.4, 64, True, 2),
)


def batch_of(kind: Kind, rows: float) -> Batch:
    prompt = (rows, rows * PROMPT, PROMPT, rows * TARGET, 8)
    if kind == "recommender":
        return Batch(*prompt)
    texts = TEXTS * rows
    runs = ((texts / CALLS, 96.0),) * CALLS
    return Batch(*prompt, texts, texts * TEXT, texts * TARGET, 8, runs)


def sent(model: Model, kind: Kind, ranks: int, stage: int, micro_batches: int) -> float:
    calls = CALLS if kind == "generator" else 1
    return traffic(model.parameters, ranks, stage, model.precision(stage), micro_batches, calls)


def rate(ranks: int) -> float:
    """Bytes/s that a rank sends in a ring."""
    return REACHED * (NVLINK if ranks <= GPUS else min(NVLINK, NICS * NIC))


def seconds(model: Model, kind: Kind, ranks: int, stage: int, samples: int) -> tuple[float, float]:
    """Of a step with `samples` samples a rank: computing, sending."""
    flops = batch_flops(kind, batch_of(kind, samples), model.shape, model.shape)
    recomputed = 4 / 3 if model.recomputed else 1
    micro_batches = -(-samples // model.rows)
    weights = sent(model, kind, ranks, stage, micro_batches) / rate(ranks)
    return flops * recomputed / (model.mfu * PEAK), weights + 2 * START * (micro_batches if stage >= 2 else 1)


def table(columns: list[str], rows: list[list[str]]) -> list[str]:
    return ["| " + " | ".join(cells) + " |" for cells in [columns, ["---"] + ["---:"] * (len(columns) - 1), *rows]]


def gigabytes(size: float) -> str:
    return f"{size / 1e9:,.1f}" if size < 1e11 else f"{size / 1e9:,.0f}"


def memory_rows(kind: Kind, ranks: int) -> list[list[str]]:
    rows = []
    for model in MODELS:
        cells = [model.name, f"{model.parameters / 1e6:,.1f}"]
        for stage in STAGES:
            kept = activation_bytes(
                kind, batch_of(kind, model.rows), model.shape, model.shape, model.precision(stage), model.recomputed,
                CHUNK_BYTES["cuda"],
            )  # fmt: skip
            parts = memory(kind, model.parameters, model.parameters, ranks, stage, model.precision(stage), False, kept)
            cells.append(gigabytes(parts.total))
            if stage == model.stage:
                chosen = [parts.weights, parts.gradients, parts.optimiser, parts.buckets, parts.others, kept]
        rows.append([*cells, str(model.stage), *map(gigabytes, chosen)])
    return rows


def traffic_rows(ranks: int) -> list[list[str]]:
    rows = []
    for model in MODELS:
        micro = -(-SAMPLES // model.rows)
        for kind in KINDS:
            figures = [sent(model, kind, ranks, stage, micro) for stage in STAGES]
            computing, _ = seconds(model, kind, ranks, 1, SAMPLES)
            sending = [seconds(model, kind, ranks, stage, SAMPLES)[1] for stage in STAGES]
            rows.append([
                f"{model.name}, {kind}", str(micro), *map(gigabytes, figures), *(f"{1e3 * s:,.0f}" for s in sending),
                f"{1e3 * computing:,.0f}",
            ])  # fmt: skip
    return rows


def efficiency_rows(kind: Kind, fixed: bool) -> list[list[str]]:
    rows = []
    for model in MODELS:
        cells = [f"{model.name}, stage {model.stage}"]
        for nodes in NODES:
            ranks = nodes * GPUS
            samples = FIXED // ranks if fixed else SAMPLES
            computing, sending = seconds(model, kind, ranks, model.stage, samples)
            alone, hidden = computing / (computing + sending), computing / max(computing, sending)
            cells.append(f"{alone:.0%} to {hidden:.0%}")
            if nodes == NODES[-1]:
                cells += [f"{samples * ranks:,}", f"{samples * ranks / (computing + sending):,.0f}"]
        rows.append(cells)
    return rows


def search_rows() -> list[list[str]]:
    """The ID job over the catalogues and validation, at `SEARCHING` of the peak."""
    rows = []
    for model in MODELS:
        cells = [model.name]
        for items in CATALOGUES:
            flops = id_job_flops(model.shape, items, TEXT, 5, TARGET - 1)
            cells += [f"{flops / (SEARCHING * PEAK * ranks):,.1f}" for ranks in (GPUS, GPUS * NODES[-1])]
        users = validation_flops(model.shape, 1, PROMPT, 20, TARGET - 1)
        rows.append([*cells, f"{1e3 * users / (SEARCHING * PEAK):,.1f}"])
    return rows


def paper() -> str:
    """All tables, each under the heading it has in docs/scaling.md."""
    most = NODES[-1] * GPUS
    parts = ["weights", "gradients", "masters, moments", "bucket", "other models", "activations"]
    stages = [f"stage {stage}" for stage in STAGES]
    sides = [f"{what} {stage}" for what in ("GB,", "ms,") for stage in STAGES]
    columns = [
        "",
        *(f"{n} node{'s' * (n > 1)}" for n in NODES),
        "samples a step, 64 nodes",
        "samples/s, nothing hidden",
    ]
    lines: list[str] = []
    phases: list[tuple[Kind, int]] = [("generator", GPUS), ("generator", most), ("recommender", most)]
    for kind, ranks in phases:
        lines += [f"\n### Memory of a rank in GB, {kind} phase, {ranks} ranks\n"]
        lines += table(["", "million", *stages, "chosen", *parts], memory_rows(kind, ranks))
    lines += [f"\n### Sent by a rank in a step of {SAMPLES} samples a rank, {most} ranks\n"]
    lines += table(["", "micro-batches", *sides, "ms, computing"], traffic_rows(most))
    for kind in KINDS:
        for fixed in (False, True):
            batch = f"{FIXED:,} samples a step whatever the ranks" if fixed else f"{SAMPLES} samples a rank"
            lines += [
                f"\n### Scaling efficiency, {kind} phase, {batch}\n",
                *table(columns, efficiency_rows(kind, fixed)),
            ]
    searches = [f"s, {items:,} items, {ranks} ranks" for items in CATALOGUES for ranks in (GPUS, most)]
    lines += ["\n### The ID job, and a user of validation on one rank\n"]
    lines += table(["", *searches, "ms a user"], search_rows())
    return "\n".join(lines)
