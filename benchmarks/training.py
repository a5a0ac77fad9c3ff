"""Training steps beside the plain way to compute them: same model, same batch, same loss, same two cores.

Enters: a shard folder and a T5. Leaves: Markdown tables, printed and written to docs/benchmarks/training.md. Must hold:
both ways give the same loss and gradient, which is checked in every run.

    python -m benchmarks.training --shards SHARDS --model T5 [--batch 64] [--repeats 3]

The plain way is the reference's with its faults taken out: every history item of every user is encoded, all padded to
the longest; logits over the whole vocabulary exist for all ID tokens at once.
"""

import argparse
import copy
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import T5ForConditionalGeneration

from benchmarks.decoding import table
from pretrain.batches import IGNORED, BatchMaker, GeneratorBatch
from pretrain.config import PromptConfig
from pretrain.fused import expected_embeddings
from pretrain.ids.book import Book, canonical
from pretrain.models import frozen_copy, load_model
from pretrain.objectives import GeneratorObjective
from pretrain.prompts import PromptBuilder
from pretrain.soft_ids import insert
from shards.manifest import TOKENIZER_FOLDER, Manifest
from shards.stream import Stream
from shards.tables import ItemTable, load_items
from shards.tokenizer import load_tokenizer

TEXT_TOKENS = 256


def plain_book(tokenizer, items: ItemTable) -> Book:  # type: ignore[no-untyped-def]
    """IDs of about the real lengths without a generator: an item's first words and its row."""
    texts = [f"{' '.join(text.split()[1:4])} {row}" for row, text in enumerate(items.texts)]
    normal, encoded = canonical(tokenizer, texts)
    zeros = np.zeros(len(texts), dtype=np.int32)
    return Book(list(items.items), normal, [np.array(ids, dtype=np.int32) for ids in encoded], zeros, zeros,
                zeros.astype(bool), "none", "none")  # fmt: skip


def real_batch(shards: str, batch: int) -> GeneratorBatch:
    """The first samples of the stream."""
    manifest = Manifest.load(shards)
    tokenizer = load_tokenizer(Path(shards) / TOKENIZER_FOLDER)
    items = load_items(shards, manifest)
    maker = BatchMaker(PromptBuilder(tokenizer, PromptConfig()), plain_book(tokenizer, items), items, TEXT_TOKENS, 0)
    stream = Stream(shards, manifest, 0, 0, 1)
    _, samples = next(iter(stream.batches(stream.start(), batch)))
    return maker.generator_batch(samples, 0)


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


def seconds(repeats: int, **sides: Callable[[], object]) -> dict[str, float]:
    """Median seconds of each side; all take turns, the first turn warms up."""
    found: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(repeats + 1):
        for name, side in sides.items():
            started = time.perf_counter()
            side()
            found[name].append(time.perf_counter() - started)
    return {name: statistics.median(times[1:]) for name, times in found.items()}


def generator_steps(options: argparse.Namespace) -> list[str]:
    """A generator step, forward and backward."""
    tokenizer = load_tokenizer(Path(options.shards) / TOKENIZER_FOLDER)
    generator = load_model(options.model, tokenizer)
    recommender, batch = frozen_copy(generator), real_batch(options.shards, options.batch)
    objective, plain = GeneratorObjective(generator, recommender), copy.deepcopy(generator)
    losses = {}

    def ours() -> None:
        generator.zero_grad()
        loss, _ = objective(batch)
        loss.backward()
        losses["ours"] = loss.item()

    def theirs() -> None:
        plain.zero_grad()
        loss = plain_generator_loss(plain, recommender, batch)
        loss.backward()
        losses["plain"] = loss.item()

    took = seconds(options.repeats, ours=ours, plain=theirs)
    worst = max(
        float((a.grad - b.grad).norm() / b.grad.norm())
        for a, b in zip(generator.parameters(), plain.parameters(), strict=True)
        if a.grad is not None and b.grad is not None
    )
    if abs(losses["ours"] / losses["plain"] - 1) > 1e-4 or worst > 1e-3:
        raise SystemExit(f"the two ways differ: losses {losses}, largest relative difference of gradients {worst:.1e}")
    mentions = int(((batch.slot_BS >= 0) & (batch.slot_BS % batch.id_labels_IT.shape[1] == 0)).sum())
    rows = [
        ["plain", f"{took['plain']:.1f}", "1.0", f"{mentions:,}", f"{mentions * batch.item_ids_IU.shape[1]:,}"],
        ["ours", f"{took['ours']:.1f}", f"{took['plain'] / took['ours']:.1f}", f"{len(batch.item_ids_IU):,}",
         f"{sum((end - at) * width for at, end, width in batch.parts):,}"],
    ]  # fmt: skip
    return [
        "## Generator step", "",
        f"{options.batch} samples, forward and backward. Losses equal within 1e-4, gradients of every weight within "
        f"{worst:.0e} of their norm.", "",
        *table(["", "seconds", "times", "items encoded", "text tokens encoded"], rows), "",
    ]  # fmt: skip


def soft_path(options: argparse.Namespace) -> list[str]:
    """Memory and time of `softmax(h W^T) E` alone, forward and backward, each side in a process of its own."""
    batch = real_batch(options.shards, options.batch)
    tokens = int((batch.id_labels_IT != IGNORED).sum())
    rows, base = [], None
    for side in ("plain", "chunked"):
        words = [
            sys.executable,
            "-m",
            "benchmarks.training",
            "--shards",
            "",
            "--model",
            "",
            "--soft",
            side,
            str(tokens),
        ]
        printed = subprocess.run(words, check=True, capture_output=True, text=True).stdout.split()
        megabytes, took = float(printed[0]), float(printed[1])
        base = base or (megabytes, took)
        rows.append([side, f"{megabytes:,.0f}", f"{megabytes / base[0]:.3f}", f"{took:.2f}", f"{base[1] / took:.1f}"])
    return [
        "## Soft IDs alone", "",
        f"`softmax(h W^T) E` for the {tokens:,} ID tokens of that batch's distinct items, vocabulary 32,128, 512 wide. "
        "Memory is what the process grew by above its inputs, weights and gradients.", "",
        *table(["", "MB", "share", "seconds", "times"], rows), "",
    ]  # fmt: skip


def soft_alone(side: str, tokens: int) -> None:
    """Prints the megabytes and seconds of one side."""
    torch.set_num_threads(2)
    draw = torch.Generator().manual_seed(0)
    hidden = torch.randn(tokens, 512, generator=draw).requires_grad_()
    head = (torch.randn(32_128, 512, generator=draw) * 0.05).requires_grad_()
    embedding = torch.randn(32_128, 512, generator=draw)
    hidden.grad, head.grad = torch.zeros_like(hidden), torch.zeros_like(head)
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before = memory("VmRSS")
    started = time.perf_counter()
    if side == "plain":
        mean = F.softmax(hidden @ head.T, dim=-1) @ embedding
    else:
        mean = expected_embeddings(hidden, head, embedding)
    mean.sum().backward()
    took = time.perf_counter() - started
    print(memory("VmHWM") - before, took)


def memory(name: str) -> float:
    """Megabytes of this process, as Linux counts them."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(float(line.split()[1]) / 1e3 for line in lines if line.startswith(name))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--soft", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks/training.md"))
    options = parser.parse_args()
    if options.soft:
        soft_alone(options.soft[0], int(options.soft[1]))
        return
    torch.set_num_threads(2)
    load = os.getloadavg()[0]
    lines = [
        "# Training steps", "",
        f"`python -m benchmarks.training --shards SHARDS --model T5 --batch {options.batch}` on 2 cores "
        f"({platform.machine()}, load {load:.1f} when it began), torch {torch.__version__}.", "",
        *generator_steps(options), *soft_path(options),
    ]  # fmt: skip
    print("\n".join(lines))
    options.out.write_text("\n".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
