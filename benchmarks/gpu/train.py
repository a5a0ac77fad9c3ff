"""Training steps on one GPU beside Hugging Face's model and loss in a plain loop: samples a second, memory.

Enters: the setting of `gpu.py`. Leaves: a Markdown table. Must hold: both sides take the very same batches.
"""

import argparse
import gc
import itertools
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from benchmarks.tables import table
from benchmarks.training.setting import Setting
from launchers.jobs.recipes import SMALL_SHAPE
from pretrain.config.run import EngineConfig, ModelConfig, PretrainConfig
from pretrain.data.batches import BatchMaker, TextBatch
from pretrain.data.micro_batches import interaction_steps
from pretrain.data.prompts import PromptBuilder
from pretrain.model import length_buckets
from pretrain.model.t5 import build_model, on_device
from pretrain.runtime.world import World
from pretrain.tracking.throughput import batch_flops, known_peak, memory_gb
from pretrain.training.engine import Engine
from pretrain.training.objectives import RecommenderObjective
from shards.stream.stream import Stream

RATE, WARM_UP = 1e-4, 5


def wait(world: World) -> float:
    """The time, once the device has done what it was asked."""
    if world.device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def model_of(options: argparse.Namespace, setting: Setting) -> Any:
    start = ModelConfig(start_from=options.model) if options.model else SMALL_SHAPE
    return build_model(start, setting.tokenizer, 0)


def steps_of(setting: Setting, world: World, options: argparse.Namespace, batch: int) -> Iterator[list[TextBatch]]:
    """Micro-batches of the stream, one to a step, in windows of like lengths."""
    config = PretrainConfig(options.shards, "", batch_size=batch, micro_batch_size=batch, length_window=256)
    stream = Stream(options.shards, setting.manifest, 0, length_window=256)
    prompts = PromptBuilder(setting.tokenizer, config.prompt)
    maker = BatchMaker(prompts, setting.book, setting.items, config.ids.item_text_tokens, 0)
    found: Any = interaction_steps("recommender", stream, maker, stream.start(), config, world)
    for _, micro_batches in found:
        yield micro_batches


Step = Callable[[list[TextBatch]], None]


@contextmanager
def ours(
    options: argparse.Namespace, setting: Setting, world: World, batch: int, rows: int
) -> Iterator[Step]:  # fmt: skip
    """A step of the engine; `rows`: about so many rows a part."""
    length_buckets.ROWS[world.device.type] = rows
    config = PretrainConfig(
        options.shards, "", batch_size=batch, micro_batch_size=batch, engine=EngineConfig(precision="bf16")
    )
    objective = RecommenderObjective(on_device(model_of(options, setting), world.device))
    engine = Engine(objective, config, world)

    def step(micro_batches: list[TextBatch]) -> None:
        engine.step(micro_batches, RATE)

    yield step
    engine.close()


@contextmanager
def theirs(options: argparse.Namespace, setting: Setting, world: World) -> Iterator[Step]:
    """A step as one writes it: Hugging Face's model and loss in autocast, torch's AdamW, clipping."""
    model = on_device(model_of(options, setting), world.device).train()
    optimiser = torch.optim.AdamW(model.parameters(), lr=RATE, fused=True)

    def step(micro_batches: list[TextBatch]) -> None:
        batch = micro_batches[0].to(world.device)
        with torch.autocast(world.device.type, torch.bfloat16):
            loss = model(input_ids=batch.input_ids_BS, attention_mask=batch.mask_BS, labels=batch.labels_BT).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad()
        loss.item()  # as a training loop prints it

    yield step


def timed(step: Step, batches: list[list[TextBatch]], world: World) -> tuple[float, float]:
    """Seconds of all but the first `WARM_UP` steps, and the peak of the device's memory in GB."""
    if world.device.type == "cuda":
        gc.collect()  # what the side before held
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    for micro_batches in batches[:WARM_UP]:
        step(micro_batches)
    started = wait(world)
    for micro_batches in batches[WARM_UP:]:
        step(micro_batches)
    return wait(world) - started, memory_gb(world.device)


def train(options: argparse.Namespace, setting: Setting, world: World) -> list[str]:
    rows, peak, shape = [], known_peak(world.device), model_of(options, setting).config
    for batch in options.batches:
        batches = list(itertools.islice(steps_of(setting, world, options, batch), options.steps + WARM_UP))
        flops = sum(batch_flops(micro[0], shape, shape) for micro in batches[WARM_UP:])
        for part in (0, 64, 1024):
            side = ours(options, setting, world, batch, part) if part else theirs(options, setting, world)
            with side as step:
                seconds, gigabytes = timed(step, batches, world)
            name = f"ours, about {part} rows a part" if part else "Hugging Face, autocast, AdamW"
            rows.append([
                name, f"{batch}", f"{options.steps / seconds:.1f}", f"{options.steps * batch / seconds:,.0f}",
                f"{flops / seconds / 1e12:.1f}", f"{flops / seconds / peak / 1e12:.1%}" if peak else "",
                f"{gigabytes:.1f}",
            ])  # fmt: skip
            print(f"  {rows[-1]}", flush=True)
    columns = ["", "batch", "steps/s", "samples/s", "model TFLOP/s", "of the peak", "GB"]
    return [
        "## Recommender steps", "",
        f"bf16, {options.steps} steps after {WARM_UP} that do not count, samples of {setting.members} in windows of "
        "like lengths, optimiser included.", "",
        *table(columns, rows),
    ]  # fmt: skip
