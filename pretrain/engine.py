"""The engine: one objective under DeepSpeed ZeRO. The only file that imports deepspeed.

Enters: an objective (model + loss) and micro-batches. Leaves: updated parameters and a StepResult. Must hold: the loss
of
a step is the sum over all target tokens of all ranks and micro-batches divided by their global number, so neither ranks
nor accumulation change the gradient. DeepSpeed averages over ranks and micro-batches; the scale below undoes that.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from pretrain.batches import GeneratorBatch, TextBatch
from pretrain.config import PretrainConfig
from pretrain.world import World

os.environ.setdefault("DS_ACCELERATOR", "cuda" if torch.cuda.is_available() else "cpu")
import deepspeed  # noqa: E402  (the accelerator is chosen when it is imported)
from deepspeed.ops import __compatible_ops__  # noqa: E402

if not torch.cuda.is_available():
    # Otherwise the first init compiles a shared-memory collective for minutes; gloo serves two ranks as well.
    cast(dict[str, Any], __compatible_ops__)["deepspeed_shm_comm"] = False


@dataclass(frozen=True)
class StepResult:
    """Mean loss per target token over all ranks, global target tokens, global gradient norm before clipping (DeepSpeed
    gives none at stage 0)."""

    loss: float
    num_targets: int
    grad_norm: float | None


class Engine:
    """DeepSpeed around one objective, with AdamW (decoupled weight decay) in float32."""

    def __init__(self, objective: nn.Module, config: PretrainConfig, world: World) -> None:
        self.world = world
        self.objective = objective
        self.micro_batches = config.micro_batches(world.size)
        trainable = [parameter for parameter in objective.parameters() if parameter.requires_grad]
        settings = {
            "train_batch_size": self.micro_batches * world.size,
            "train_micro_batch_size_per_gpu": 1,
            "gradient_accumulation_steps": self.micro_batches,
            "gradient_clipping": config.clip_norm,
            "zero_optimization": {"stage": config.zero_stage},
            "optimizer": {
                "type": "AdamW",
                "params": {"lr": 0.0, "betas": [0.9, 0.999], "weight_decay": config.weight_decay, "torch_adam": True},
            },
            "zero_allow_untested_optimizer": True,
            "steps_per_print": 2**31,
        }
        parameters: Any = trainable  # deepspeed's annotation says a module, its documentation an iterable
        self._engine: Any = deepspeed.initialize(model=objective, model_parameters=parameters, config=settings)[0]
        self._before = [parameter.detach().clone() for parameter in trainable]
        self._trainable = trainable

    def step(self, micro_batches: Sequence[TextBatch | GeneratorBatch], learning_rate: float) -> StepResult:
        """One optimiser step. Every rank passes the same number of micro-batches; a batch of fillers adds nothing."""
        assert len(micro_batches) == self.micro_batches, (len(micro_batches), self.micro_batches)
        (num_targets,) = self.world.sum(sum(batch.num_targets for batch in micro_batches))
        if num_targets == 0:  # the tail of an epoch with uneven lanes: fillers alone, on every rank
            return StepResult(0.0, 0, None)
        for group in self._engine.optimizer.param_groups:
            group["lr"] = learning_rate
        scale = self.world.size * self.micro_batches / num_targets
        local_loss = 0.0
        for batch in micro_batches:
            loss_sum, _ = self._engine(batch.to(self.world.device))
            self._engine.backward(loss_sum * scale)
            self._engine.step()
            local_loss += loss_sum.item()
        (loss,) = self.world.sum(local_loss)
        norm = self._engine.get_global_grad_norm()
        return StepResult(loss / num_targets, int(num_targets), None if norm is None else float(norm))

    def share_moved(self) -> float:
        """Share of trainable weights whose value differs from the one at the start of the phase."""
        changed = sum(int((a != b).sum()) for a, b in zip(self._before, self._trainable, strict=True))
        return changed / sum(parameter.numel() for parameter in self._trainable)

    def save(self, folder: Path) -> None:
        """Write weights and optimiser state below `folder`. Collective."""
        self._engine.save_checkpoint(str(folder), tag="state", save_latest=False)

    def load(self, folder: Path) -> None:
        """Take up weights and optimiser state. Collective. The files must have been verified before."""
        path, _ = self._engine.load_checkpoint(str(folder), tag="state", load_lr_scheduler_states=False)
        if path is None:
            raise ValueError(f"{folder} holds no engine state for {self.world.size} ranks")

    def close(self) -> None:
        """Free what the engine holds; the model stays."""
        self._engine.destroy()
