"""What takes long is made once: arrays kept in a folder under the hash of all they depend on.

Enters: what is made, all that it depends on, and how to make it. Leaves: the arrays, from the folder where they are
there. What must hold: what is read back is bit for bit what was made; a file is there whole or not at all; ranks that
make the same thing at the same time do no harm, because they make the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

Arrays = dict[str, Tensor]


def cached(folder: str | Path | None, kind: str, key: dict[str, Any], make: Callable[[], Arrays]) -> Arrays:
    """What `make` makes; with a folder it is read from `<what>-<hash of key>.safetensors` there, or written to it.

    Args:
        folder: of the cache; none = nothing is kept.
        kind: a word for the file's name.
        key: everything the arrays depend on, as JSON values; the versions of torch and of this layout are added.
        make: float arrays by name, on the CPU.

    Raises:
        ValueError: a file of the cache is damaged.
    """
    if folder is None:
        return make()
    key = key | {"torch": torch.__version__}
    name = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]
    path = Path(folder) / f"{kind}-{name}.safetensors"
    if path.is_file():
        try:
            return load_file(path)
        except SafetensorError as error:
            raise ValueError(f"{path} is damaged ({error}); remove it and it is made again") from error
    made = {array: tensor.detach().cpu().contiguous() for array, tensor in make().items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(f".{os.getpid()}.writing")
    save_file(made, draft, metadata={"key": json.dumps(key, sort_keys=True)})
    os.replace(draft, path)
    return made


def hash_of(values: Iterable[str | np.ndarray]) -> str:
    """sha256 over texts and integer arrays, each with its length."""
    digest = hashlib.sha256()
    for value in values:
        data = value.encode() if isinstance(value, str) else np.asarray(value, dtype="<i8").tobytes()
        digest.update(b"%d:" % len(data) + data)
    return digest.hexdigest()
