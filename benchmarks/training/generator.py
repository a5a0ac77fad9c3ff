"""Generator steps and soft IDs beside the plain way to compute them: same model, batch, loss and cores.

Enters: the setting of `training.py`. Leaves: Markdown tables. Must hold: both ways give the same loss and gradient,
which is checked in every run.

The plain way is the reference's with its faults taken out: every history item of every user is encoded, all padded to
the longest; logits over the whole vocabulary exist for all ID tokens at once.
"""

import argparse
import copy
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers.models.t5.modeling_t5 import T5ForConditionalGeneration

from benchmarks.tables import table
from benchmarks.training.setting import Setting, memory
from pretrain.config.prompt import PromptConfig
from pretrain.data.batches import IGNORED, BatchMaker, GeneratorBatch, TextBatch
from pretrain.data.prompts import PromptBuilder
from pretrain.model.length_buckets import buckets_of
from pretrain.model.soft_ids import insert
from pretrain.model.t5 import frozen_copy, load_model
from pretrain.model.vocabulary_loss import CHUNK_BYTES, expected_embeddings
from pretrain.training.objectives import GeneratorObjective
from shards.stream.stream import Stream

TEXT_TOKENS = 256
EXACT = 2
"""Samples that are compared in float64."""
Step = tuple[float, float, float, float]
"""Loss, seconds, core seconds, megabytes."""


def real_batch(setting: Setting, options: argparse.Namespace) -> GeneratorBatch:
    """The first samples of the stream."""
    prompts = PromptBuilder(setting.tokenizer, PromptConfig())
    maker = BatchMaker(prompts, setting.book, setting.items, TEXT_TOKENS, 0)
    stream = Stream(options.shards, setting.manifest, 0, 0, 1)
    _, samples = next(iter(stream.batches(stream.start(), options.batch)))
    return maker.generator_batch(samples, 0)


def slices(batch: GeneratorBatch, size: int) -> list[GeneratorBatch]:
    """The batch, `size` prompts at a time, as wide as it was."""
    prompt, rows = batch.prompt, range(0, len(batch.slot_BS), size)
    return [
        replace(
            batch,
            slot_BS=batch.slot_BS[at : at + size],
            prompt=TextBatch(*(t[at : at + size] for t in (prompt.input_ids_BS, prompt.mask_BS, prompt.labels_BT))),
        )
        for at in rows
    ]


def plain_generator_loss(
    generator: T5ForConditionalGeneration, recommender: T5ForConditionalGeneration, batch: GeneratorBatch
) -> Tensor:
    """Every item of every prompt encoded, all logits at once, the models' own forward passes."""
    width = batch.id_labels_IT.shape[1]
    at_BS = batch.slot_BS >= 0
    # One entry for each mention of an item in a prompt: its places are a run that begins with the ID's first token.
    begins = at_BS & (batch.slot_BS % width == 0)
    mention_BS = (begins.flatten().cumsum(0).view_as(begins) - 1).clamp(min=0)
    item_N = batch.slot_BS[begins] // width
    labels_NT = batch.id_labels_IT[item_N]
    logits_NTV = generator(
        input_ids=batch.item_ids_IU[item_N], attention_mask=batch.item_mask_IU[item_N], labels=labels_NT
    ).logits
    soft_NTE = torch.softmax(logits_NTV, dim=-1) @ recommender.shared.weight
    slot_BS = torch.where(at_BS, mention_BS * width + batch.slot_BS % width, -1)
    inputs_BSE = insert(recommender.shared.weight[batch.prompt.input_ids_BS], soft_NTE.flatten(0, 1), slot_BS)
    labels_BT = batch.prompt.labels_BT
    mean = recommender(inputs_embeds=inputs_BSE, attention_mask=batch.prompt.mask_BS, labels=labels_BT).loss
    return mean * (labels_BT != IGNORED).sum()


def generator(options: argparse.Namespace) -> list[str]:
    """A generator step, forward and backward."""
    setting = Setting.of(options)
    batch, model = real_batch(setting, options), load_model(options.model, setting.tokenizer)
    parts = {"plain": slices(batch, options.slice), "ours": [batch]}
    few = real_batch(setting, argparse.Namespace(**vars(options) | {"batch": EXACT}))
    exact, _ = compared(copy.deepcopy(model).double(), dict.fromkeys(parts, [few]), 1)
    if max(exact) > 1e-8:
        raise SystemExit(f"the two ways differ in float64: loss and gradient by {exact}")
    rounding, found = compared(model, parts, options.repeats)
    if rounding[0] > 1e-4 or rounding[1] > 1e-2:
        raise SystemExit(f"the two ways differ: loss and gradient by {rounding}")
    rows = []
    for name in found:
        took, cores, grown = (median(step[at] for step in found[name]) for at in (1, 2, 3))
        faster = median(step[1] for step in found["plain"]) / took
        counts = (f"{number:,}" for number in encoded(name, parts[name]))
        rows.append([name, f"{took:.1f}", f"{cores:.1f}", f"{faster:.2f}", f"{grown:,.0f}", *counts])
    return [
        "## Generator step", "",
        f"{options.batch} samples of {setting.members}, forward and backward, median of {options.repeats}, sides in "
        "turns. The plain way needs too much memory for all samples at once, so it computes "
        f"{options.slice} at a time, padded as the whole batch, and adds up the gradients. Losses are equal within "
        f"{rounding[0]:.0e}, gradients within {rounding[1]:.0e} of their norm; on {EXACT} samples in float64 "
        f"within {exact[0]:.0e} and {exact[1]:.0e}. Memory is what the process grew by above both models and their "
        f"gradients (plain: of {options.slice} samples); tokens include padding.", "",
        *table(["", "seconds", "core seconds", "times", "MB", "items encoded", "text tokens", "prompt tokens"], rows),
    ]  # fmt: skip


def compared(
    model: T5ForConditionalGeneration, parts: dict[str, list[GeneratorBatch]], repeats: int
) -> tuple[tuple[float, float], dict[str, list[Step]]]:
    """Relative difference of the losses and of the whole gradients of both ways, and what each step took."""
    recommender, plain = frozen_copy(model), copy.deepcopy(model)
    objective = GeneratorObjective(model, recommender)
    models = {"plain": plain, "ours": model}
    losses = {"plain": partial(plain_generator_loss, plain, recommender), "ours": lambda batch: objective(batch)[0]}
    for loss_of in losses.values():  # warms up, and makes the gradients that memory is counted above
        loss_of(parts["plain"][0]).backward()
    found: dict[str, list[Step]] = {name: [] for name in models}
    for _ in range(repeats):
        for name, side in models.items():
            side.zero_grad(set_to_none=False)
            found[name].append(timed_step(losses[name], parts[name]))
            print(f"  {name}: {found[name][-1]}", flush=True)
    ours, theirs = (
        torch.cat([p.grad.flatten() for p in side.parameters() if p.grad is not None]) for side in (model, plain)
    )
    loss = abs(found["ours"][0][0] / found["plain"][0][0] - 1)
    return (loss, float((ours - theirs).norm() / theirs.norm())), found


def timed_step(loss_of: Callable[[GeneratorBatch], Tensor], batches: list[GeneratorBatch]) -> Step:
    """Forward and backward of all batches: loss, seconds, core seconds, megabytes."""
    before, total, started = peak_begins(), 0.0, (time.perf_counter(), time.process_time())
    for batch in batches:
        loss = loss_of(batch)
        loss.backward()
        total += loss.item()
    took, cores = time.perf_counter() - started[0], time.process_time() - started[1]
    return total, took, cores, memory("VmHWM") - before


def encoded(name: str, batches: list[GeneratorBatch]) -> tuple[int, int, int]:
    """Items, tokens of their texts and tokens of the prompts that a side computes."""
    items = texts = prompts = 0
    for batch in batches:
        if name == "plain":
            mentions = int(((batch.slot_BS >= 0) & (batch.slot_BS % batch.id_labels_IT.shape[1] == 0)).sum())
            items, texts = items + mentions, texts + mentions * batch.item_ids_IU.shape[1]
            prompts += batch.prompt.input_ids_BS.numel()
        else:
            items += len(batch.item_ids_IU)
            texts += sum((end - at) * width for at, end, width in batch.parts)
            parts = buckets_of(batch.prompt.mask_BS, batch.prompt.labels_BT)
            prompts += sum(len(part.rows_N) * part.width for part in parts)
    return items, texts, prompts


def soft(options: argparse.Namespace) -> list[str]:
    """Memory and time of `softmax(h W^T) E` alone, forward and backward, each side in a process of its own."""
    batch = real_batch(Setting.of(options), options)
    tokens = int((batch.id_labels_IT != IGNORED).sum())
    rows, base = [], None
    for side in ("plain", "ours"):
        words = [sys.executable, "-m", "benchmarks.training.generator", side, str(tokens), str(options.cores)]
        printed = subprocess.run(words, check=True, capture_output=True, text=True).stdout.split()
        megabytes, took = float(printed[0]), float(printed[1])
        base = base or (megabytes, took)
        rows.append([side, f"{took:.2f}", f"{base[1] / took:.2f}", f"{megabytes:,.0f}", f"{megabytes / base[0]:.3f}"])
    return [
        "## Soft IDs alone", "",
        f"`softmax(h W^T) E` for the {tokens:,} ID tokens of the distinct items of a batch of {options.batch}, "
        "vocabulary 32,128, 512 wide, forward and backward, each side in a process of its own. Memory is what the "
        f"process grew by above inputs, weights and gradients; chunks are of {CHUNK_BYTES['cpu'] >> 20} MiB.", "",
        *table(["", "seconds", "times", "MB", "share"], rows),
    ]  # fmt: skip


def soft_alone(side: str, tokens: int, cores: int) -> None:
    """Prints the megabytes and seconds of one side."""
    torch.set_num_threads(cores)
    draw = torch.Generator().manual_seed(0)
    hidden = torch.randn(tokens, 512, generator=draw).requires_grad_()
    head = (torch.randn(32_128, 512, generator=draw) * 0.05).requires_grad_()
    embedding = torch.randn(32_128, 512, generator=draw)
    forward = plain_soft if side == "plain" else expected_embeddings
    forward(hidden[:8], head, embedding).sum().backward()  # loads what a first call loads
    hidden.grad = head.grad = None
    before, started = peak_begins(), time.perf_counter()
    forward(hidden, head, embedding).sum().backward()
    took, gradients = time.perf_counter() - started, (hidden.nbytes + head.nbytes) / 1e6
    print(memory("VmHWM") - before - gradients, took)


def plain_soft(hidden_ME: Tensor, head_VE: Tensor, embedding_VD: Tensor) -> Tensor:
    return F.softmax(hidden_ME @ head_VE.T, dim=-1) @ embedding_VD


def peak_begins() -> float:
    """Forgets the peak of memory; the megabytes now."""
    Path("/proc/self/clear_refs").write_text("5")
    return memory("VmRSS")


if __name__ == "__main__":
    soft_alone(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
