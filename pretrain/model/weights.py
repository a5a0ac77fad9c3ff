"""The weights that a folder of a model must have: all of them, no others, each of its shape. Never random numbers.

Enters: what `config.json` promises, and what the files hold or what `from_pretrained` reports. Leaves: the model, or
ValueError with the first names. Must hold: headers are enough to refuse a folder before a run starts; the check at the
moment of loading is the same for every kind of model.
"""

from __future__ import annotations

import json
import pickle
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from pretrain.model.shape import Shape, weight_shapes

SHOWN = 3
FILE, INDEX = "model.safetensors", "model.safetensors.index.json"
COPIES = ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight", "lm_head.weight")
"""Names under which a tied embedding is stored once more."""
UNUSED = frozenset({"decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"})
"""In the files of Google's T5; no implementation reads it."""
UNREADABLE = (OSError, ValueError, RuntimeError, LookupError, EOFError, pickle.UnpicklingError, SafetensorError)
"""What the readers of damaged files raise."""


@dataclass(frozen=True)
class Misfit:
    """How files and configuration differ. other_shape: (name, shape in the file, shape by the configuration)."""

    lacking: tuple[str, ...] = ()
    surplus: tuple[str, ...] = ()
    other_shape: tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...] = ()

    def __bool__(self) -> bool:
        return bool(self.lacking or self.surplus or self.other_shape)

    def words(self) -> str:
        """Half a sentence for a person."""
        shapes = [f"{name} of {_by(stored)}, not {_by(promised)}" for name, stored, promised in self.other_shape]
        parts = [
            f"{verb} {_first(names)}"
            for verb, names in (("lacks", self.lacking), ("has too many:", self.surplus), ("has", shapes))
            if names
        ]
        return f"its weights are not those of its config.json: it {'; it '.join(parts)}"


def misfit_of(shape: Shape, stored: Mapping[str, tuple[int, ...]]) -> Misfit:
    """A T5 of `shape` beside the weights that files hold, by name and shape."""
    promised = weight_shapes(shape)
    stored = dict(stored)
    embedding = next((name for name in ("shared.weight", *COPIES[:2]) if name in stored), None)
    if embedding is not None:
        stored["shared.weight"] = stored[embedding]
    surplus = [name for name in stored if name not in promised and name not in UNUSED.union(COPIES)]
    shapes = [
        (name, stored[name], promised[name]) for name in promised if stored.get(name, promised[name]) != promised[name]
    ]
    lacking = [name for name in promised if name not in stored]
    return Misfit(tuple(lacking), tuple(surplus), tuple(shapes))


def stored_weights(folder: Path) -> dict[str, tuple[int, ...]] | None:
    """Name and shape of each weight by the headers of a folder's safetensors; None where it has none.

    ValueError where a file is missing or damaged."""
    if (folder / FILE).is_file():
        files = [folder / FILE]
    elif (folder / INDEX).is_file():
        try:
            files = sorted({folder / file for file in json.loads((folder / INDEX).read_text())["weight_map"].values()})
        except (ValueError, LookupError, AttributeError) as error:
            raise ValueError(f"{INDEX} cannot be read ({error})") from error
    else:
        return None
    shapes = {}
    for file in files:
        try:
            with safe_open(file, "np") as weights:
                shapes |= {name: tuple(weights.get_slice(name).get_shape()) for name in weights.keys()}  # noqa: SIM118
        except UNREADABLE as error:
            raise ValueError(f"{file.name} is missing or damaged ({_line(error)})") from error
    return shapes


def load_whole(kind: Any, name: str, family: str, part: bool = False, **options: Any) -> Any:
    """`kind.from_pretrained(name)`, every weight from the files. ValueError: `name` is no such model, or not whole.

    Args:
        kind: a class of transformers.
        family: the kind of model, for a message.
        part: an encoder alone is wanted. A pooler and an encoder-decoder's decoder may be lacking, heads may be there;
            layers beyond those of the configuration are surplus all the same.
    """
    try:
        model, info = kind.from_pretrained(name, output_loading_info=True, ignore_mismatched_sizes=True, **options)
    except UNREADABLE as error:
        raise ValueError(f"cannot load {family} from '{name}': {_line(error)}") from error
    lacking, surplus = sorted(info["missing_keys"]), sorted(info["unexpected_keys"])
    if part:
        own = {_without_numbers(key) for key in model.state_dict()}
        surplus = [key for key in surplus if _without_numbers(key.removeprefix(f"{model.base_model_prefix}.")) in own]
        unasked = ("pooler.", "decoder.") if model.config.is_encoder_decoder else ("pooler.",)
        lacking = [key for key in lacking if not key.startswith(unasked)]
    shapes = sorted((key, tuple(stored), tuple(promised)) for key, stored, promised in info["mismatched_keys"])
    misfit = Misfit(tuple(lacking), tuple(surplus), tuple(shapes))
    if misfit:
        raise ValueError(f"cannot load {family} from '{name}': {misfit.words()}")
    return model


def _without_numbers(key: str) -> str:
    """Weights of two layers are called alike but for their numbers."""
    return re.sub(r"\d+", "#", key)


def _first(names: Iterable[str]) -> str:
    names = list(names)
    more = f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def _by(shape: Iterable[int]) -> str:
    return "x".join(map(str, shape))


def _line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
