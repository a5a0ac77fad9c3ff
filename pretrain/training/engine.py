"""The engine: one objective under DeepSpeed ZeRO. The only file that imports deepspeed.

Enters: an objective (model + loss) and micro-batches. Leaves: updated parameters and a StepResult; the state of
training as whole float32 tensors by parameter name, the same for every stage and number of ranks. Must hold: the loss
of a step is the sum over all target tokens of all ranks and micro-batches divided by their global number, so neither
ranks nor accumulation change the gradient. DeepSpeed averages over ranks and micro-batches; the scale below undoes it.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from pretrain.config.run import PretrainConfig
from pretrain.data.batches import GeneratorBatch, TextBatch
from pretrain.model.t5 import DTYPES
from pretrain.runtime.watchdog import beat
from pretrain.runtime.world import World

os.environ.setdefault("DS_ACCELERATOR", "cuda" if torch.cuda.is_available() else "cpu")
import deepspeed  # noqa: E402  (the accelerator is chosen when it is imported)
from deepspeed import utils as ds  # noqa: E402
from deepspeed.ops import __compatible_ops__  # noqa: E402

if not torch.cuda.is_available():
    # Otherwise the first init compiles a shared-memory collective for minutes; gloo serves two ranks as well.
    cast(dict[str, Any], __compatible_ops__)["deepspeed_shm_comm"] = False

WEIGHT = "weight"
MOMENTS = ("exp_avg", "exp_avg_sq")


@dataclass(frozen=True)
class StepResult:
    """Mean loss per target token over all ranks, global target tokens, global gradient norm before clipping; `taken`:
    the weights were changed."""

    loss: float
    num_targets: int
    grad_norm: float | None
    taken: bool = True


class Engine:
    """DeepSpeed around one objective, with AdamW (decoupled weight decay) in float32.

    `before`: weights at the start of the phase, on rank 0, for `share_moved`; by default those the objective has now.
    """

    def __init__(
        self, objective: nn.Module, config: PretrainConfig, world: World, before: dict[str, Tensor] | None = None
    ) -> None:
        self.world, self.objective, self.options = world, objective, config.engine
        self.micro_batches = config.micro_batches(world.size)
        self.num_steps = 0
        named = [(name, parameter) for name, parameter in objective.named_parameters() if parameter.requires_grad]
        # DeepSpeed makes the masters from weights that it has rounded already.
        exact = {name: p.detach().clone() for name, p in named} if self.options.precision == "bf16" else {}
        self._before = before or ({name: p.detach().to("cpu", copy=True) for name, p in named} if world.is_main else {})
        trainable: Any = [parameter for _, parameter in named]  # the annotation says a module, the documentation this
        with redirect_stdout(io.StringIO()):  # it prints the memory of the machine for bf16
            self._engine: Any = deepspeed.initialize(
                model=objective, model_parameters=trainable, config=self._settings(config)
            )[0]
        self.named = named
        for name, parameter in named:
            if name in exact:
                self._put(parameter, WEIGHT, exact[name])

    def _settings(self, config: PretrainConfig) -> dict[str, Any]:
        options = self.options
        # By default a bucket is 500 million elements, 2 GB, however small the model is.
        bucket = min(500_000_000, sum(parameter.numel() for parameter in self.objective.parameters()))
        zero: dict[str, Any] = {
            "stage": options.zero_stage, "reduce_bucket_size": bucket, "allgather_bucket_size": bucket
        }  # fmt: skip
        if options.offload:
            zero["offload_optimizer"] = {"device": "cpu"}
        low = options.precision == "bf16"
        return {
            "train_batch_size": self.micro_batches * self.world.size,
            "train_micro_batch_size_per_gpu": 1,
            "gradient_accumulation_steps": self.micro_batches,
            "gradient_clipping": config.clip_norm,
            "zero_optimization": zero,
            "zero_allow_untested_optimizer": True,
            "zero_force_ds_cpu_optimizer": False,  # torch's AdamW also where it is offloaded: the same numbers
            "optimizer": {
                "type": "AdamW",
                # Fused: one pass over the weights; on the CPU the plain one takes a tenth of a step of 64 samples.
                "params": {
                    "lr": 0.0,
                    "betas": [0.9, 0.999],
                    "weight_decay": config.weight_decay,
                    "torch_adam": True,
                    "fused": True,
                },
            },
            "steps_per_print": 2**31,
        } | ({"bf16": {"enabled": True}, "data_types": {"grad_accum_dtype": "fp32"}} if low else {})

    def step(
        self,
        micro_batches: Sequence[TextBatch | GeneratorBatch],
        learning_rate: float,
        accept: Callable[[float], bool] = lambda loss: True,
    ) -> StepResult:
        """One optimiser step. Every rank passes the same number of micro-batches; a batch of fillers adds nothing.

        `accept(loss)` is asked before weights change, on every rank with the same loss; where it says no, the step gets
        a gradient of zero and no learning rate: the weights stay, the moments decay by one step. Collective.
        """
        assert len(micro_batches) == self.micro_batches, (len(micro_batches), self.micro_batches)
        (num_targets,) = self.world.sum(sum(batch.num_targets for batch in micro_batches))
        if num_targets == 0:  # the tail of an epoch with uneven lanes: fillers alone, on every rank
            return StepResult(0.0, 0, None, taken=False)
        loss = self._backward(micro_batches, self.world.size * self.micro_batches / num_targets) / num_targets
        accepted = accept(loss)
        norm = self._update(learning_rate) if accepted else self._discard()
        return StepResult(loss, int(num_targets), norm, accepted)

    def _backward(self, micro_batches: Sequence[TextBatch | GeneratorBatch], scale: float) -> float:
        """Accumulate the gradient of all micro-batches; returns the summed loss of all ranks."""
        local_loss = 0.0
        for number, batch in enumerate(micro_batches, 1):
            loss_sum, _ = self._engine(batch.to(self.world.device))
            self._engine.backward(loss_sum * scale)
            local_loss += loss_sum.item()
            beat()
            if number < len(micro_batches):
                self._engine.step()  # inside an accumulation this only counts
        return self.world.sum(local_loss)[0]

    def _update(self, learning_rate: float) -> float | None:
        for group in self._engine.optimizer.param_groups:
            group["lr"] = learning_rate
        norm = None
        if self.options.zero_stage == 0:  # DeepSpeed tells none there
            norm = torch.nn.utils.get_total_norm([p.grad for _, p in self.named if p.grad is not None])
        self._engine.step()
        self.num_steps += 1
        norm = self._engine.get_global_grad_norm() if norm is None else norm
        return None if norm is None else float(norm)

    def _discard(self) -> None:
        for _, parameter in self.named:
            shape = getattr(parameter, "ds_shape", parameter.shape)  # stage 3 leaves an empty parameter
            ds.safe_set_full_grad(parameter, torch.zeros(shape, device=self.world.device))
        self._update(0.0)

    def state(self) -> Iterator[tuple[str, dict[str, Tensor]]]:
        """Name and whole float32 tensors (weight, exp_avg, exp_avg_sq) of one parameter after the other. Collective.

        The tensors may be the engine's own: copy what is kept.
        """
        keys = (WEIGHT, *MOMENTS) if self.num_steps else (WEIGHT,)
        for name, parameter in self.named:
            yield name, {key: self._get(parameter, key) for key in keys}

    def weights(self) -> Iterator[tuple[str, Tensor]]:
        """Name and whole float32 weight of one parameter after the other. Collective."""
        for name, parameter in self.named:
            yield name, self._get(parameter, WEIGHT)

    def load(self, moment: Callable[[str, str], Tensor], num_steps: int, filler: TextBatch | GeneratorBatch) -> None:
        """Take up an optimiser's state: `moment(name, key)` is a whole tensor. Collective.

        `filler` is a batch without targets: DeepSpeed makes and links the optimiser's state in its first step only.
        """
        self._backward([filler] * self.micro_batches, 0.0)
        self._update(0.0)
        for name, parameter in self.named:
            for key in MOMENTS:
                self._put(parameter, key, moment(name, key))
        for values in self._engine.basic_optimizer.state.values():
            values["step"] = torch.full_like(values["step"], num_steps)
        self.num_steps = num_steps

    def _get(self, parameter: nn.Parameter, key: str) -> Tensor:
        if self.options.zero_stage == 0:
            return parameter.detach() if key == WEIGHT else self._engine.basic_optimizer.state[parameter][key]
        if key == WEIGHT:
            return cast(Tensor, ds.safe_get_full_fp32_param(parameter))
        return cast(Tensor, ds.safe_get_full_optimizer_state(parameter, key))

    def _put(self, parameter: nn.Parameter, key: str, value: Tensor) -> None:
        value, stage = value.to(self.world.device), self.options.zero_stage
        if stage == 0:
            self._engine.basic_optimizer.state[parameter][key].copy_(value)
        elif stage == 3:  # DeepSpeed's own way fails where a parameter does not divide over the ranks
            size = ds.safe_get_local_fp32_param(parameter).numel()
            padded = nn.functional.pad(value.flatten(), (0, size * self.world.size - value.numel()))
            mine = padded[self.world.rank * size : (self.world.rank + 1) * size]
            if key == WEIGHT:
                ds.safe_set_local_fp32_param(parameter, mine)
            else:
                ds.safe_set_local_optimizer_state(parameter, mine, key)
        elif key == WEIGHT:
            ds.safe_set_full_fp32_param(parameter, value)
        else:
            ds.safe_set_full_optimizer_state(parameter, value, key)

    def share_moved(self) -> float:
        """Share of trainable weights that have changed since the start of the phase, at the precision of a step; 0 on
        other ranks than rank 0. Collective."""
        dtype, changed, total = DTYPES[self.options.precision], 0, 0
        for name, weight in self.weights():
            if self.world.is_main:
                changed += int((weight.cpu().to(dtype) != self._before[name].to(dtype)).sum())
                total += weight.numel()
        return changed / total if total else 0.0

    def close(self) -> None:
        """Free what the engine holds. Its module cannot be used afterwards: take the `weights` before."""
        self._engine.destroy()
