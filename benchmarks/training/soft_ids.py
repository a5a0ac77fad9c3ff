"""The bias of soft IDs from the k largest logits alone, beside the softmax over the whole vocabulary.

Enters: a shard folder and a T5, which is generator and frozen recommender at once. Leaves: a Markdown table, printed
and written to docs/benchmarks/soft-ids.md. Must hold: all rows see the same hidden states, weights and batch.

    python -m benchmarks.training.soft_ids --shards SHARDS --model T5 [--batch 16]
"""

import argparse
import os
import platform
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.tables import table
from benchmarks.training.generator import real_batch
from benchmarks.training.setting import Setting
from pretrain.config.soft_ids import SoftIdConfig
from pretrain.data.batches import IGNORED, GeneratorBatch
from pretrain.model.soft_ids import soft_ids
from pretrain.model.t5 import frozen_copy, load_model
from pretrain.training.objectives import GeneratorObjective

TEMPERATURES = (1.0, 0.5)
MOVED = 0.03
KINDS = ((None, 0.0), (8, 0.0), (32, 0.0), (128, 0.0), (None, MOVED))


@dataclass(frozen=True)
class Seen:
    """What one kind of soft ID leaves: the tokens [N, D], the loss per target, the gradient [N, E] of what the
    generator's head reads, seconds of the soft path alone (forward and backward)."""

    soft_ND: Tensor
    loss: float
    gradient_NE: Tensor
    seconds: float


def seen(
    objective: GeneratorObjective, batch: GeneratorBatch, hidden_NE: Tensor, options: SoftIdConfig, moved: float = 0.0
) -> Seen:
    """The recommender's loss through soft IDs from these hidden states, and its gradient.

    `moved`: each soft token is moved by this share of its length, in a random direction.
    """
    labels_M = batch.id_labels_IT.flatten()
    real_N = (labels_M != IGNORED).nonzero().squeeze(1)
    embedding_VD, head_VE = objective.recommender.shared.weight, objective.model.lm_head.weight
    inputs_NE = hidden_NE.clone().requires_grad_()
    soft_ND = soft_ids(inputs_NE, head_VE, embedding_VD, labels_M[real_N], options)
    if moved:
        draw_ND = torch.randn(soft_ND.shape, generator=torch.Generator().manual_seed(0))
        length_N1 = soft_ND.detach().norm(dim=-1, keepdim=True)
        soft_ND = soft_ND + moved * length_N1 * draw_ND / draw_ND.norm(dim=-1, keepdim=True)
    soft_MD = soft_ND.new_zeros(len(labels_M), soft_ND.shape[1]).index_copy(0, real_N, soft_ND)
    loss, count = objective.loss_from_embeddings(batch, soft_MD)
    loss.backward()
    assert inputs_NE.grad is not None
    times = []
    for _ in range(2):
        again_NE = hidden_NE.clone().requires_grad_()
        started = time.perf_counter()
        soft_ids(again_NE, head_VE, embedding_VD, labels_M[real_N], options).sum().backward()
        times.append(time.perf_counter() - started)
    return Seen(soft_ND.detach(), loss.item() / int(count), inputs_NE.grad, min(times))


def distances(one_ND: Tensor, other_ND: Tensor) -> Tensor:
    """For each row, the length of the difference over the length of `other`'s."""
    return (one_ND - other_ND).norm(dim=-1) / other_ND.norm(dim=-1)


def rows_of(options: argparse.Namespace) -> tuple[list[list[str]], int, int]:
    """The table, the number of distinct items and of ID tokens."""
    setting = Setting.of(options)
    generator = load_model(options.model, setting.tokenizer)
    batch = real_batch(setting, options)
    objective = GeneratorObjective(generator, frozen_copy(generator))
    with torch.no_grad():
        hidden_ME = objective.id_states(batch)
        hidden_NE = hidden_ME[batch.id_labels_IT.flatten() != IGNORED]
        logits_NV = hidden_NE @ generator.lm_head.weight.T
    rows = []
    for temperature in TEMPERATURES:
        weights_NV = torch.softmax(logits_NV / temperature, dim=-1)
        whole = None
        for k, moved in KINDS:
            found = seen(objective, batch, hidden_NE, SoftIdConfig(temperature, top_k=k), moved)
            whole = whole or found
            kept = 1.0 if k is None else weights_NV.topk(k).values.sum(-1).mean().item()
            soft_N = distances(found.soft_ND, whole.soft_ND)
            gradient_N = distances(found.gradient_NE, whole.gradient_NE)
            lengths_N = whole.gradient_NE.norm(dim=-1)
            together = (gradient_N * lengths_N).sum() / lengths_N.sum()
            cosine_N = torch.cosine_similarity(found.gradient_NE, whole.gradient_NE, dim=-1)
            rows.append([
                f"{temperature:g}, {k or 'all'}{', moved' * bool(moved)}", f"{1 - kept:.3f}",
                f"{soft_N.median():.3f}", f"{found.loss:.3f}", f"{gradient_N.median():.3f}", f"{together:.3f}",
                f"{cosine_N.median():.3f}", f"{found.seconds:.2f}",
            ])  # fmt: skip
    return rows, len(batch.item_ids_IU), len(hidden_NE)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks/soft-ids.md"))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    load = os.getloadavg()[0]
    rows, items, tokens = rows_of(options)
    columns = [
        "temperature, k", "probability left out", "distance of the soft tokens", "loss", "distance of the gradients",
        "of all together", "cosine of the gradients", "seconds of the soft path",
    ]  # fmt: skip
    cores = f"{options.threads} core{'s' * (options.threads > 1)}"
    lines = [
        "# Soft IDs from the k largest logits", "",
        f"`python -m benchmarks.training.soft_ids --shards SHARDS --model T5 --batch {options.batch}` on {cores} "
        f"({platform.machine()}, load {load:.1f} when it began), torch {torch.__version__}.", "",
        f"One batch of {options.batch} samples: {tokens} ID tokens of {items} distinct items. Every figure is "
        "relative to the softmax over the whole vocabulary at the same temperature. Distances and cosines are medians "
        'over the tokens. "of all together" divides the summed lengths of the differences by the summed lengths; the '
        "few tokens with large gradients dominate it. In one row every soft token moves at random by "
        f"{MOVED:.0%} of its length, which shows how rough the loss itself is. The gradient is that of the "
        "recommender's loss with respect to the input of the generator's head. The soft path is `softmax(h W^T) E`, "
        "forward and backward with the head's gradient, best of 2.", "",
        *table(columns, rows),
    ]  # fmt: skip
    print("\n".join(lines))
    options.out.write_text("\n".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
