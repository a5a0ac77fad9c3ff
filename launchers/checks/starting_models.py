"""The models that a run starts from, looked at without loading them.

Enters: a ModelConfig and what the shards' tokenizer is like. Leaves: the shape of the T5. Must hold: a folder that
cannot be used is refused with one line; of its weights only the headers are read, and the hub is asked only for what
is no folder.
"""

from __future__ import annotations

import json
from pathlib import Path

from pretrain.config.run import ModelConfig
from pretrain.model.shape import Shape, from_config_json
from pretrain.model.weights import Misfit, misfit_of, stored_weights
from shards.files.store import local_copy
from shards.manifest import TOKENIZER_FOLDER, Manifest
from shards.tokenizer import FAST_FILE, SPIECE_FILE

WEIGHT_FILES = (
    "model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json",
)  # fmt: skip

CURE = "build the shards with the model's own tokenizer (idgenrec shard build --tokenizer)"


def shape_of(role: str, config: ModelConfig, shards: str, manifest: Manifest) -> Shape:
    """The shape of the recommender or generator (`role`). Raises ValueError where it cannot be one of this run."""
    if config.start_from is None:
        return Shape(
            manifest.tokenizer.vocab_size, config.d_model, config.d_model // config.num_heads, config.d_ff,
            config.num_layers, config.num_layers, config.num_heads, is_gated_act=True, tied=True,
        )  # fmt: skip
    name, folder = config.start_from, Path(config.start_from)
    try:
        shape = from_config_json(_folder_config(folder) if _is_path(name) else _hub_config(name))
    except ValueError as error:
        raise ValueError(
            f"{role}.start_from {name}: no T5 there ({error}); give a folder or hub name of one"
        ) from error
    check_tokenizer(role, name, shape, shards, manifest)
    if _is_path(name):
        check_weights(f"{role}.start_from", folder, shape)
    return shape


def check_weights(option: str, folder: Path, shape: Shape) -> None:
    """Raise ValueError where the headers of a folder's weights do not fit its configuration. A pickled file has none:
    that is checked as it is loaded."""
    try:
        stored = stored_weights(folder)
    except ValueError as error:
        raise ValueError(f"{option} {folder}: {error}; give a folder that is whole") from error
    misfit = Misfit() if stored is None else misfit_of(shape, stored)
    if misfit:
        raise ValueError(f"{option} {folder}: {misfit.words()}; give a folder that is whole")


def check_tokenizer(role: str, name: str, shape: Shape, shards: str, manifest: Manifest) -> None:
    """Raise ValueError where the model was made for another tokenizer than the shards'."""
    if shape.vocab_size < manifest.tokenizer.vocab_size:  # which is rounded up: count the pieces
        from shards.tokenizer import load_tokenizer

        pieces = len(load_tokenizer(local_copy(shards, TOKENIZER_FOLDER)))
        if shape.vocab_size < pieces:
            raise ValueError(
                f"{role}.start_from {name} has {shape.vocab_size:,} embedding rows, the tokenizer of {shards} "
                f"{pieces:,} pieces; {CURE}"
            )
    check_own_tokenizer(f"{role}.start_from", name, shards, manifest)


def check_own_tokenizer(option: str, name: str, shards: str, manifest: Manifest) -> None:
    """Raise ValueError where the folder of a model has a tokenizer that is not the shards'."""
    folder = Path(name)
    own = next((folder / file for file in (FAST_FILE, SPIECE_FILE) if (folder / file).is_file()), None)
    if own is None:
        return
    theirs = local_copy(shards, TOKENIZER_FOLDER) / own.name
    if theirs.is_file() and theirs.read_bytes() == own.read_bytes():
        return
    from shards.tokenizer import fingerprint, load_tokenizer

    if fingerprint(load_tokenizer(folder)) != manifest.tokenizer.fingerprint:
        raise ValueError(f"{option} {name} has another tokenizer than {shards}; {CURE}")


def _is_path(name: str) -> bool:
    """A hub name is `name` or `owner/name`, and no folder of that name is here."""
    return Path(name).exists() or name.startswith((".", "/", "~")) or name.count("/") > 1


def _folder_config(folder: Path) -> dict[str, object]:
    if not folder.is_dir():
        raise ValueError("there is no such folder")
    path = folder / "config.json"
    if not path.is_file():
        raise ValueError("it has no config.json")
    if not any((folder / file).is_file() for file in WEIGHT_FILES):
        raise ValueError("it has no weights, as model.safetensors")
    try:
        values = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"config.json is no JSON: {error}") from error
    if not isinstance(values, dict):
        raise ValueError("config.json holds no object")  # noqa: TRY004 - read from JSON
    return values


def _hub_config(name: str) -> dict[str, object]:
    from transformers.models.auto.configuration_auto import AutoConfig
    from transformers.models.t5.configuration_t5 import T5Config

    try:
        config = AutoConfig.from_pretrained(name)
    except (OSError, ValueError) as error:
        raise ValueError(str(error).splitlines()[0]) from error
    values = config.to_dict()
    if isinstance(config, T5Config):
        values["tie_word_embeddings"] = config.scale_decoder_outputs
    return values
