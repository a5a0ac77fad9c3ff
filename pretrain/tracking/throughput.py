"""What a phase costs: tokens, padding, waiting, memory and FLOPs, from log interval to log interval.

Enters: the micro-batches of each step, and when the data were asked for. Leaves: figures over all ranks. Must hold:
only real tokens count as work; padding is a share of its own.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import torch

from pretrain.data.batches import GeneratorBatch, TextBatch
from pretrain.data.micro_batches import MicroBatches
from pretrain.model.shape import FROZEN, TRAIN, passes
from pretrain.runtime.world import World

T = TypeVar("T")

PEAK_TFLOPS = {"H100": 989.0, "H200": 989.0, "A100": 312.0, "L40S": 362.0, "V100": 125.0}
"""Dense bf16 (V100: fp16) of known devices, as their makers say; MFU is against these whatever the precision."""


def batch_flops(batch: TextBatch | GeneratorBatch, recommender: Any, generator: Any) -> float:
    """FLOPs of one step over the batch. A TextBatch is taken to be the recommender's: pass its model twice else.

    Only what the model needs is counted: no padding, nothing that is computed twice to save memory, and of attention
    only its matrices (the products of queries and keys, some percent at our lengths, are left out, so utilisation is
    understated)."""
    if isinstance(batch, TextBatch):
        return TRAIN * passes(batch.input_tokens, batch.num_targets, recommender)
    soft = FROZEN * recommender.vocab_size * recommender.d_model  # the embeddings are fixed
    frozen = FROZEN * passes(batch.prompt.input_tokens, batch.prompt.num_targets, recommender)
    writing = TRAIN * passes(batch.item_tokens, batch.id_tokens, generator)
    return writing + batch.id_tokens * soft + frozen


@dataclass
class Interval:
    """Sums of this rank since the last report."""

    waited: float = 0.0
    real_tokens: int = 0
    padded_tokens: int = 0
    flops: float = 0.0


class Throughput:
    """Of one phase on one rank. `shapes`: the T5 configurations of (recommender, generator)."""

    def __init__(self, world: World, peak_tflops: float | None, shapes: tuple[object, object]) -> None:
        self.world, self.peak_tflops, self.shapes = world, peak_tflops or known_peak(world.device), shapes
        self.interval, self.since = Interval(), time.monotonic()

    def waiting(self, batches: Iterable[T]) -> Iterator[T]:
        """The same batches; the time they are waited for is noted."""
        iterator = iter(batches)
        while True:
            asked = time.monotonic()
            batch = next(iterator, None)
            self.interval.waited += time.monotonic() - asked
            if batch is None:
                return
            yield batch

    def count(self, micro_batches: MicroBatches) -> None:
        """Note one step."""
        for batch in micro_batches:
            self.interval.real_tokens += batch.real_tokens
            self.interval.padded_tokens += batch.padded_tokens
            self.interval.flops += batch_flops(batch, *self.shapes)

    def report(self) -> dict[str, float]:
        """Figures of all ranks since the last report, which begin anew. Collective."""
        now, mine, world = time.monotonic(), self.interval, self.world
        took = now - self.since
        waited, real, padded, flops = world.sum(mine.waited, mine.real_tokens, mine.padded_tokens, mine.flops)
        self.interval, self.since = Interval(), now
        figures = {
            "tokens_per_second": real / took,
            "padding_share": 1 - real / padded if padded else 0.0,
            "data_wait_share": waited / world.size / took,
            "model_tflops_per_rank": flops / world.size / took / 1e12,
            "memory_gb": max(world.gather(memory_gb(world.device))),
        }
        if self.peak_tflops is not None:
            figures["model_flops_utilisation"] = figures["model_tflops_per_rank"] / self.peak_tflops
        return figures


def known_peak(device: torch.device) -> float | None:
    """Peak TFLOP/s of the device by its name; None for a CPU or one we do not know."""
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    return next((peak for part, peak in PEAK_TFLOPS.items() if part in name), None)


def memory_gb(device: torch.device) -> float:
    """Peak memory of this process so far, in 10^9 bytes: of the device, or of the process on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
