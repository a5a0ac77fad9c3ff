"""An optimiser's state on disk: whole float32 tensors by parameter name, in safetensors.

Enters: tensors of one rank. Leaves: `moments-00-of-02.safetensors`, ... in one folder. Must hold: who reads does not
care how many ranks have written, nor at which ZeRO stage; nothing is pickled.
"""

from __future__ import annotations

from pathlib import Path

from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from pretrain.runtime.watchdog import beat


def write(folder: Path, rank: int, ranks: int, tensors: dict[tuple[str, str], Tensor]) -> None:
    """Write this rank's share: `tensors[parameter name, exp_avg or exp_avg_sq]` on the CPU."""
    folder.mkdir(parents=True, exist_ok=True)
    named = {f"{name}/{key}": tensor.contiguous() for (name, key), tensor in tensors.items()}
    beat(f"writing {folder}")
    save_file(named, folder / f"moments-{rank:02d}-of-{ranks:02d}.safetensors")


class OptimizerState:
    """Reads them back, one tensor at a time."""

    def __init__(self, folder: Path) -> None:
        self._files = [safe_open(path, "pt") for path in sorted(folder.glob("moments-*.safetensors"))]
        self._file_of = {key: file for file in self._files for key in file.keys()}  # noqa: SIM118 (no dict)

    def tensor(self, name: str, key: str) -> Tensor:
        """One whole tensor. Raises ValueError for a parameter that the checkpoint has none of."""
        beat(f"reading optimiser state of {name}")
        file = self._file_of.get(f"{name}/{key}")
        if file is None:
            raise ValueError(f"the checkpoint holds no optimiser state of {name}; it is one of another model")
        return file.get_tensor(f"{name}/{key}")
