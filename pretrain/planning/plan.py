"""What a run will need before it starts: tokens, FLOPs, memory, traffic, disk.

Enters: shapes of the models, sizes of the data, how the ranks share. Leaves: figures. Must hold: pure arithmetic, no
torch, no files, no clock; what is no count but an estimate is named as one in `docs/training.md`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

from pretrain.config.run import Kind
from pretrain.model.shape import FORWARD, FROZEN, TRAIN, Shape, kept_elements, passes
from pretrain.planning.workload import Batch
from pretrain.training.schedule import Phase

STAGES = (0, 1, 2, 3)
MASTER, MOMENTS = 4, 8
"""Bytes per parameter: float32 master weights, Adam's two moments."""
BUCKET = 500_000_000
"""Gradients that DeepSpeed (ZeRO 1 and 2) reduces at a time: `reduce_bucket_size`."""
GATHERED = 1_000_000_000
"""Parameters that ZeRO 3 leaves whole between forward and backward pass: `stage3_max_live_parameters`."""
BOOK_BYTES_PER_ITEM = 150
OVERHEAD = 1.12
"""Peak of a step over what it keeps, seen on the CPU with a T5 of 77 million parameters at 32 samples of Games, for the
recommender and for the generator."""
DECODES_PER_ITEM = 2.2
"""Of the ID job: 26,842 decodes for the 12,101 items of Beauty (docs/benchmarks/ids.md)."""


@dataclass(frozen=True)
class Memory:
    """Bytes of one rank at the widest moment. `others`: models that do not learn now, the frozen replica among them."""

    weights: float
    gradients: float
    optimiser: float
    buckets: float
    others: float
    activations: float

    @property
    def total(self) -> float:
        """All of them."""
        return sum(getattr(self, f.name) for f in fields(self))


def batch_flops(kind: Kind, batch: Batch, recommender: Shape, generator: Shape) -> float:
    """FLOPs of forward and backward pass over the batch's tokens; what is computed twice to save memory counts once."""
    if kind == "teaching":
        return TRAIN * passes(batch.prompt_tokens, batch.target_tokens, generator)
    prompts = passes(batch.prompt_tokens, batch.target_tokens, recommender)
    if kind == "recommender":
        return TRAIN * prompts
    writing = TRAIN * passes(batch.text_tokens, batch.id_tokens, generator)
    return writing + FROZEN * (prompts + batch.id_tokens * recommender.head_weights)


def activation_bytes(
    kind: Kind, batch: Batch, recommender: Shape, generator: Shape, precision: str, recomputed: bool, chunk_bytes: int
) -> float:
    """What one micro-batch keeps for its gradient. `chunk_bytes`: logits of one chunk
    (`pretrain/model/vocabulary_loss.py`), of which there are two at a time."""
    width = 2 if precision == "bf16" else 4
    trained = generator if kind == "teaching" else recommender
    prompts = kept_elements(
        trained, batch.rows, batch.prompt_width, batch.target_width, recomputed, frozen=kind == "generator"
    )
    texts = sum(
        kept_elements(generator, number, padded, batch.id_width, recomputed, frozen=False)
        for number, padded in batch.runs
    )
    return OVERHEAD * width * (prompts + texts) + 2 * chunk_bytes


def memory(
    kind: Kind,
    recommender: int,
    generator: int,
    ranks: int,
    zero_stage: int,
    precision: str,
    offload: bool,
    activations: float,
) -> Memory:
    """Bytes of one rank in a phase of this kind; `recommender` and `generator` are numbers of parameters.

    ZeRO (Rajbhandari et al. 2020, section 5) shares out over ranks: 1 optimiser state, 2 and gradients, 3 and weights.
    `offload` keeps master weights and moments in the host's memory, so they are not counted here.
    """
    trained = recommender if kind == "recommender" else generator
    width = 2 if precision == "bf16" else 4
    weights = width * trained / (ranks if zero_stage == 3 else 1)
    if zero_stage == 3:
        weights += width * min(trained, GATHERED)
    gradients = 4 * trained / (ranks if zero_stage >= 2 else 1)  # accumulated in float32 at either precision
    master = 0 if zero_stage == 0 else MASTER
    optimiser = 0.0 if offload else (master + MOMENTS) * trained / (ranks if zero_stage else 1)
    bucket = width * min(BUCKET, trained) if zero_stage in (1, 2) else 0
    resting = 4 * (generator if kind == "recommender" else recommender)
    frozen = 4 * recommender if kind == "generator" else 0
    return Memory(weights, gradients, optimiser, bucket, resting + frozen, activations)


def host_copies(trained: int, ranks: int, zero_stage: int, offload: bool) -> tuple[float, float]:
    """Bytes of the host's memory on rank 0: in every step (the weights a phase began with, what is offloaded), and the
    copies a checkpoint is written from, between two steps."""
    offloaded = (MASTER + MOMENTS) * trained / ranks if offload and zero_stage else 0.0
    return 4 * trained + offloaded, 4 * trained + MOMENTS * trained / ranks


def traffic(
    trained: int, ranks: int, zero_stage: int, precision: str, micro_batches: int, text_runs: float = 1
) -> float:
    """Bytes that one rank sends in an optimiser step, by ring collectives: an all-reduce sends 2 (N-1)/N of its bytes,
    a reduce-scatter or an all-gather half of that.

    As DeepSpeed 0.19 does it (counted: docs/benchmarks/traffic.md): stages 1 and 2 all-reduce gradients
    (`use_multi_rank_bucket_allreduce`) and gather the new weights; stage 1 reduces once a step, stage 2 with every
    micro-batch. Stage 3 scatters gradients and gathers the weights with every micro-batch: once as far as it leaves
    them whole between forward and backward pass (GATHERED), twice beyond; and beyond, in a generator phase, once more
    for each of several `text_runs`, calls that encode texts.
    """
    whole = (2 if precision == "bf16" else 4) * trained * (ranks - 1) / ranks
    released = max(0.0, 1 - GATHERED / trained)
    gathers = 1 + released + (text_runs if released and text_runs > 1 else 0)
    return {
        0: 2 * whole,
        1: 2 * whole + whole,
        2: 2 * whole * micro_batches + whole,
        3: (whole + gathers * whole) * micro_batches,
    }[zero_stage]


def checkpoint_bytes(
    plan: Sequence[Phase], recommender: int, generator: int, items: int, tokenizer_bytes: int = 0
) -> float:
    """Bytes of the largest checkpoint: both models in float32, the book, and the moments of the objectives that have
    been trained and will be again."""

    def moments(at: int) -> int:
        kinds = {plan[at].kind} | ({p.kind for p in plan[:at]} & {p.kind for p in plan[at:]})
        return sum(MOMENTS * (recommender if kind == "recommender" else generator) for kind in kinds)

    largest = max(moments(at) for at in range(len(plan)))
    return 4 * (recommender + generator) + largest + BOOK_BYTES_PER_ITEM * items + 2 * tokenizer_bytes


def id_job_flops(generator: Shape, items: int, text_tokens: float, groups: int, id_tokens: float) -> float:
    """Algorithm 1: every text is encoded once; a decode writes one ID in each group."""
    source, target = passes(1, 0, generator), passes(0, 1, generator)
    decoded = DECODES_PER_ITEM * groups * (id_tokens + 1)
    return FORWARD * items * (text_tokens * source + decoded * target)


def validation_flops(recommender: Shape, users: int, prompt_tokens: float, beam: int, id_tokens: float) -> float:
    """Beam search over the trie: a prompt is encoded once, `beam` hypotheses are written."""
    source, target = passes(1, 0, recommender), passes(0, 1, recommender)
    return FORWARD * users * (prompt_tokens * source + beam * (id_tokens + 1) * target)
