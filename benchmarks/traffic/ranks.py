"""What a rank sends in an optimiser step: every collective counted, over real gloo processes and the real engine.

Enters: cases (stage, precision, micro-batches, the model it stands for). Leaves: bytes by kind of collective, mean over
ranks. Must hold: a collective that is not counted fails the run; every step after the third sends the same.

The engine is the real one over a small T5. DeepSpeed's limits that decide what ZeRO 3 gathers (parameters that always
stay whole, reuse distance, live parameters, buckets) are scaled by the ratio of the small model to the one it stands
for, so that the small model is treated as that one would be.
"""

from __future__ import annotations

import functools
import inspect
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch.multiprocessing.spawn import spawn

from pretrain.config.run import EngineConfig, PretrainConfig
from pretrain.data.batches import GeneratorBatch, TextBatch, text_batch
from pretrain.runtime.rendezvous import HeldPort

WARM, COUNTED = 3, 2
"""Steps before the counted ones (ZeRO 3 records in the first two in which order modules run), and counted ones."""
WIDTH, ROWS, LAYERS = 8, 2, 6
"""Tokens of a row, rows of a micro-batch, layers of encoder and of decoder."""
SENT: dict[str, tuple[str, Callable[[int], float]]] = {
    "all_reduce": ("tensor", lambda n: 2 * (n - 1) / n),
    "all_reduce_coalesced": ("tensors", lambda n: 2 * (n - 1) / n),
    "reduce_scatter_tensor": ("input", lambda n: (n - 1) / n),
    "reduce_scatter": ("input_list", lambda n: (n - 1) / n),
    "all_gather_into_tensor": ("output_tensor", lambda n: (n - 1) / n),
    "all_gather": ("tensor_list", lambda n: (n - 1) / n),
    "broadcast": ("tensor", lambda n: (n - 1) / n),
    "reduce": ("tensor", lambda n: (n - 1) / n),
}
"""Which argument holds the whole data, and what one rank sends of it in a ring (the mean over ranks where they differ).
"""
OTHERS = ("gather", "scatter", "all_to_all", "all_to_all_single", "send", "isend", "batch_isend_irecv",
          "all_gather_object", "broadcast_object_list")  # fmt: skip
"""Nobody is expected to call these in a step; whoever does is found out."""
LIMITS = {
    "reduce_bucket_size": 500_000_000,
    "stage3_prefetch_bucket_size": 50_000_000,
    "stage3_max_live_parameters": 1_000_000_000,
    "stage3_max_reuse_distance": 1_000_000_000,
}
"""DeepSpeed's defaults, in parameters."""
PERSISTENT = 128
"""In the place of 100,000: norms and position biases stay whole on every rank, matrices do not, as in any real T5."""


@dataclass(frozen=True)
class Case:
    """One engine. `stands_for`: millions of parameters of the model whose treatment the small one gets."""

    stage: Any
    precision: Any
    micro_batches: int
    stands_for: int = 223
    text_runs: int = 0
    """Calls of the generator in a micro-batch of its phase; 0 = the recommender's phase."""


@dataclass(frozen=True)
class Found:
    """Of one rank and step, in bytes but for `parameters`: sent by kind of collective, by our own sums, on the wire;
    sent while the engine was made and in its first step."""

    parameters: int
    sent: dict[str, float]
    ours: float
    wire: float
    made: float
    first: float


class Ledger:
    """What passes through the functions of torch.distributed that DeepSpeed and `World` call."""

    def __init__(self, size: int) -> None:
        self.size, self.ours = size, 0.0
        self.sent: dict[str, float] = {}
        for name, (argument, share) in SENT.items():
            setattr(dist, name, self._counting(getattr(dist, name), name, argument, share(size)))
        for name in OTHERS:
            setattr(dist, name, self._counting(getattr(dist, name), name, "", 0.0))

    def _counting(self, function: Any, name: str, argument: str, share: float) -> Any:
        signature = inspect.signature(function)

        @functools.wraps(function)
        def counted(*values: Any, **named: Any) -> Any:
            if not argument:
                raise RuntimeError(f"a step called {name}, which is not counted")
            data = signature.bind(*values, **named).arguments[argument]
            tensors = [data] if isinstance(data, torch.Tensor) else data
            size = share * sum(tensor.nbytes for tensor in tensors)
            if tensors[0].dtype == torch.float64:  # World.sum; DeepSpeed sends no doubles
                self.ours += size
            else:
                self.sent[name] = self.sent.get(name, 0.0) + size
            return function(*values, **named)

        return counted

    def taken(self) -> tuple[dict[str, float], float]:
        """What was sent since the last time."""
        sent, ours = dict(self.sent), self.ours
        self.sent.clear()
        self.ours = 0.0
        return sent, ours


def on_wire() -> int:
    """Bytes this process has written; gloo sends with `writev`, and nothing else writes during a step."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("wchar"))


def objective_of(text_runs: int) -> torch.nn.Module:
    from transformers.models.t5.configuration_t5 import T5Config
    from transformers.models.t5.modeling_t5 import T5ForConditionalGeneration

    from pretrain.model.t5 import frozen_copy
    from pretrain.training.objectives import GeneratorObjective, RecommenderObjective

    shape = T5Config(
        vocab_size=1024, d_model=64, d_kv=16, d_ff=128, num_layers=LAYERS, num_heads=4, feed_forward_proj="gated-gelu",
        dropout_rate=0.0,
    )  # fmt: skip
    shape.decoder_start_token_id = 0
    torch.manual_seed(0)
    model = T5ForConditionalGeneration(shape)
    if text_runs:
        return GeneratorObjective(model, frozen_copy(model)).train()
    return RecommenderObjective(model).train()


def batch_of(text_runs: int, draw: np.random.Generator) -> TextBatch | GeneratorBatch:
    prompt = text_batch(
        [draw.integers(2, 1000, WIDTH).tolist() for _ in range(ROWS)], [draw.integers(2, 1000, 3).tolist()] * ROWS, 1
    )
    if not text_runs:
        return prompt
    items = torch.from_numpy(draw.integers(2, 1000, (text_runs, WIDTH)))
    slots = torch.full(prompt.input_ids_BS.shape, -1)
    slots[0, :text_runs] = (torch.arange(text_runs) * WIDTH)[: slots.shape[1]]
    parts = tuple((at, at + 1, WIDTH) for at in range(text_runs))
    return GeneratorBatch(prompt, items, torch.ones_like(items), items, slots, parts, torch.arange(text_runs))


def one_rank(rank: int, ranks: int, port: int, cases: list[Case], folder: str) -> None:
    """Every case in turn; leaves `FOLDER/RANK.pt`."""
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(ranks), "LOCAL_RANK": str(rank), "MASTER_PORT": str(port)}
    os.environ["MASTER_ADDR"] = "127.0.0.1"
    from launchers.jobs.rank import _quiet
    from pretrain.runtime.world import joined_world

    _quiet()
    with joined_world() as world:
        ledger = Ledger(ranks)
        found = [count(case, world, ledger) for case in cases]
    torch.save(found, f"{folder}/{rank}.pt")


def count(case: Case, world: Any, ledger: Ledger) -> Found:
    from pretrain.training.engine import Engine

    objective = objective_of(case.text_runs)
    parameters = sum(parameter.numel() for parameter in objective.parameters())

    class Scaled(Engine):
        """The engine with DeepSpeed's limits scaled down to the small model."""

        def _settings(self, config: PretrainConfig) -> dict[str, Any]:
            settings = super()._settings(config)
            scaled = {name: int(limit * parameters / (case.stands_for * 1e6)) for name, limit in LIMITS.items()}
            settings["zero_optimization"] |= scaled | {"stage3_param_persistence_threshold": PERSISTENT}
            return settings

    options = EngineConfig(zero_stage=case.stage, precision=case.precision)
    rows = ROWS * case.micro_batches * world.size
    config = PretrainConfig("-", "-", batch_size=rows, micro_batch_size=ROWS, engine=options)
    draw = np.random.default_rng(world.rank)
    ledger.taken()
    engine = Scaled(objective, config, world)
    made = sum(ledger.taken()[0].values())
    steps: list[tuple[dict[str, float], float]] = []
    wire = []
    for _ in range(WARM + COUNTED):
        before = on_wire()
        engine.step([batch_of(case.text_runs, draw) for _ in range(case.micro_batches)], 1e-3)
        wire.append(on_wire() - before)
        steps.append(ledger.taken())
    engine.close()
    if any(step != steps[-1] for step in steps[WARM:]):
        raise SystemExit(f"{case}: steps differ in what they send: {steps[WARM:]}")
    return Found(parameters, *steps[-1], float(np.mean(wire[WARM:])), made, sum(steps[0][0].values()))


def run(ranks: int, cases: list[Case]) -> Iterator[tuple[Case, Found]]:
    """Each case and the mean over its ranks."""
    held = HeldPort()
    with tempfile.TemporaryDirectory() as folder:
        spawn(one_rank, (ranks, held.number, cases, folder), nprocs=ranks)
        by_rank = [torch.load(f"{folder}/{rank}.pt", weights_only=False) for rank in range(ranks)]
    for case, found in zip(cases, zip(*by_rank, strict=True), strict=True):
        sent = {name: float(np.mean([one.sent[name] for one in found])) for name in found[0].sent}
        rest = [float(np.mean([getattr(one, name) for one in found])) for name in ("ours", "wire", "made", "first")]
        yield case, Found(found[0].parameters, sent, *rest)
