"""`idgenrec pretrain --plan`: what a run will do and need, as lines to read before anything is submitted.

Enters: an Outlook, and how fast a device is where that is known. Leaves: lines. Must hold: what is an estimate is
called one, and the figures are those that `preflight.py` refuses by.
"""

from __future__ import annotations

import textwrap

from launchers.checks.machine import measured_flops
from launchers.checks.preflight import Outlook, size
from pretrain.config.run import Kind
from pretrain.planning import plan as costs
from pretrain.planning.workload import id_tokens
from pretrain.training.schedule import Phase

WIDTH = 116


def plan_lines(outlook: Outlook, device_tflops: float | None) -> list[str]:
    """The whole plan. `device_tflops`: what one device reaches in training, in 1e12 FLOP/s."""
    rate, source = _rate(outlook, device_tflops)
    return [
        *_head(outlook), "", *_phases(outlook, rate), "", *_memory(outlook), "", *_stages(outlook), "",
        *_disk(outlook), "", *_notes(outlook, source),
    ]  # fmt: skip


def _rate(outlook: Outlook, device_tflops: float | None) -> tuple[float, str]:
    if device_tflops is not None:
        return device_tflops * 1e12, f"{device_tflops:g} TFLOP/s a device, as --device-tflops says"
    measured = measured_flops(outlook.machine, outlook.config.threads)
    where = "the GPU" if outlook.machine.is_gpu else f"a rank with --threads {outlook.config.threads}"
    return measured, (
        f"{measured / 1e12:.3g} TFLOP/s a device, which {where} of this machine reached in float32 matrix products "
        "just now (training reaches less, so this is the least; give --device-tflops for another device or a rate you "
        "know)"
    )


def _head(outlook: Outlook) -> list[str]:
    config, ranks = outlook.config, outlook.ranks
    micro = config.micro_batches(ranks)
    rows = -(-config.batch_size // ranks // micro)
    return [
        f"Plan of {config.out}: {len(outlook.phases)} phases, {sum(phase.steps for phase in outlook.phases):,} steps",
        f"  shards       {config.shards}: {outlook.data.samples:,} samples an epoch, {outlook.data.items:,} items",
        f"  recommender  {_model(outlook.recommender.num_parameters, config.recommender.start_from)}",
        f"  generator    {_model(outlook.generator.num_parameters, config.generator.start_from)}",
        f"  batch        {config.batch_size:,} samples = {ranks} ranks x {micro} micro-batches x {rows} samples",
    ]


def _model(parameters: int, start_from: str | None) -> str:
    return f"{parameters / 1e6:,.1f} million parameters, {'from ' + start_from if start_from else 'from scratch'}"


def _phases(outlook: Outlook, rate: float) -> list[str]:
    rows: list[list[str]] = []
    total_tokens, total_seconds, made = 0.0, 0.0, False
    for phase in outlook.phases:
        tokens, (steps, rest) = _tokens(outlook, phase), _seconds(outlook, phase, rate)
        ids = ("made anew" if made else "made") if phase.refresh_ids else "-"
        made = made or phase.refresh_ids
        total_tokens, total_seconds = total_tokens + tokens, total_seconds + steps + rest
        samples = f"{phase.steps * outlook.config.batch_size:,}"
        rows.append(
            [
                phase.name, phase.kind, samples, f"{_epochs(outlook, phase):.3g}", f"{phase.steps:,}", _count(tokens),
                ids,
                _validations(outlook, phase), _time(steps), _time(rest) if rest else "-",
            ]
        )  # fmt: skip
    steps = sum(phase.steps for phase in outlook.phases)
    samples = f"{steps * outlook.config.batch_size:,}"
    rows.append(["all", "", samples, "", f"{steps:,}", _count(total_tokens), "", "", _time(total_seconds), ""])
    head = [
        "phase",
        "kind",
        "samples",
        "epochs",
        "steps",
        "tokens*",
        "IDs",
        "validations",
        "training*",
        "IDs, validation*",
    ]
    return table(head, rows, left={0, 1, 6})


def _epochs(outlook: Outlook, phase: Phase) -> float:
    size_of_epoch = outlook.data.items if phase.kind == "teaching" else outlook.data.samples
    return phase.steps * outlook.config.batch_size / size_of_epoch


def _validations(outlook: Outlook, phase: Phase) -> str:
    if not phase.validate:
        return "-"
    every = outlook.config.schedule.validation_steps
    return str(1 + ((phase.steps - 1) // every if every else 0))


def _micro_batches(outlook: Outlook, phase: Phase) -> int:
    """Of all ranks in the whole phase."""
    return phase.steps * outlook.ranks * outlook.config.micro_batches(outlook.ranks)


def _tokens(outlook: Outlook, phase: Phase) -> float:
    return outlook.batches[phase.kind].tokens * _micro_batches(outlook, phase)


def _seconds(outlook: Outlook, phase: Phase, rate: float) -> tuple[float, float]:
    """Of the steps; of the ID job before them and the validations."""
    config, data = outlook.config, outlook.data
    computed = outlook.batches[phase.kind].padded(like_lengths=config.length_window > 0)
    flops = costs.batch_flops(phase.kind, computed, outlook.recommender, outlook.generator)
    all_ranks, assumed = rate * outlook.ranks, id_tokens(config)
    ids = validation = 0.0
    if phase.refresh_ids:
        texts = float(data.text_tokens_N.mean())
        ids = costs.id_job_flops(outlook.generator, data.items, texts, config.ids.groups, assumed)
    if phase.validate:
        batch, users = outlook.batches[phase.kind], config.schedule.validation_users
        prompt = batch.prompt_tokens / batch.rows
        validation = costs.validation_flops(outlook.recommender, users, prompt, config.search.beam, assumed)
        validation *= int(_validations(outlook, phase))
    return flops * _micro_batches(outlook, phase) / all_ranks, (ids + validation) / all_ranks


def _memory(outlook: Outlook) -> list[str]:
    stage, machine = outlook.zero_stage, outlook.machine
    kinds: list[Kind] = list(outlook.batches)
    parts = {kind: outlook.memory(kind, stage) for kind in kinds}
    names = {
        "weights": "weights that learn", "gradients": "gradients", "optimiser": "optimiser state",
        "buckets": "buckets of gradients", "others": "the other model, frozen replica", "activations": "activations*",
    }  # fmt: skip
    rows = [[text, *(size(getattr(parts[kind], name)) for kind in kinds), ""] for name, text in names.items()]
    rows.append(["all", *(size(parts[kind].total) for kind in kinds), size(outlook.id_job_bytes)])
    rows.append(["host, rank 0*", *(size(outlook.host(kind, stage)) for kind in kinds), ""])
    device = machine.device if machine.is_gpu else "CPU: device and host are one"
    title = (
        f"Memory of a rank: ZeRO {stage}, {outlook.precision}, {outlook.ranks} ranks; a rank has "
        f"{size(machine.memory)} ({device})"
    )
    return [title, *table(["", *kinds, "ID job*"], rows, left={0})]


def _stages(outlook: Outlook) -> list[str]:
    kinds: list[Kind] = list(outlook.batches)
    micro = outlook.config.micro_batches(outlook.ranks)
    rows = []
    engine = outlook.config.engine
    for stage in costs.STAGES:
        if stage == 0 and (engine.precision == "bf16" or engine.offload):
            continue  # DeepSpeed has neither there
        needed, _ = outlook.needed(stage)
        sent = []
        for kind in kinds:
            calls = max(1, len(outlook.batches[kind].runs))
            traffic = costs.traffic(outlook.trained(kind), outlook.ranks, stage, outlook.precision, micro, calls)
            sent.append(size(traffic))
        fits = "yes" if needed <= outlook.machine.memory else "no"
        rows.append([f"{stage}{' (this run)' if stage == outlook.zero_stage else ''}", size(needed), fits, *sent])
    title = "ZeRO stages: memory of a rank in its largest phase, bytes that a rank sends in a step"
    return [title, *table(["stage", "memory*", "fits", *(f"sent, {kind}" for kind in kinds)], rows, left={0})]


def _disk(outlook: Outlook) -> list[str]:
    keep, one = outlook.config.keep_checkpoints, outlook.checkpoint_bytes
    return [
        f"Disk: a checkpoint takes {size(one)}; {keep} newest, the best and the one being written "
        f"{size(one * (keep + 2))}; {size(outlook.disk_free)} are free"
    ]


def _notes(outlook: Outlook, source: str) -> list[str]:
    assumed = id_tokens(outlook.config)
    notes = (
        f"* estimated. Tokens: histories ({outlook.data.history:.1f} items in a prompt on average) and item texts are "
        f"counted in the shards; an ID is taken to have {assumed:g} tokens.",
        "Memory: activations of the average micro-batch, padded to its longest prompt; host: libraries, the weights a "
        "phase began with, the copies a checkpoint is written from.",
        f"Time: FLOPs of the tokens with their padding, at {source}. The ID job and validation at the same rate.",
    )
    return [line for note in notes for line in textwrap.wrap(note, WIDTH, subsequent_indent="  ")]


def _count(number: float) -> str:
    for unit, one in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= one:
            return f"{number / one:.3g} {unit}"
    return f"{number:.0f}"


def _time(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.2g} s" if seconds < 1 else f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 2 * 86400 else f"{seconds / 86400:.1f} days"


def table(head: list[str], rows: list[list[str]], left: set[int]) -> list[str]:
    """Columns as wide as their longest cell; those in `left` are set flush left."""
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    lines = []
    for row in (head, *rows):
        cells = [
            cell.ljust(width) if column in left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append(("  " + "  ".join(cells)).rstrip())
    lines.insert(1, "  " + "-" * (max(map(len, lines)) - 2))
    return lines
