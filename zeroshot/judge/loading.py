"""A checkpoint as the judge needs it: both models, what they were before training, and how the run made IDs.

Enters: a verified checkpoint folder. Leaves: a `Checkpoint`. Must hold: the shards that are judged have the tokenizer
that the models were trained with.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers.models.t5.modeling_t5 import T5ForConditionalGeneration

from pretrain.config.ids import IdConfig
from pretrain.config.prompt import PromptConfig
from pretrain.config.serialization import from_dict
from pretrain.model.t5 import DTYPES, load_model, on_device
from pretrain.runtime.world import World
from shards.files.store import local_copy
from shards.manifest import TOKENIZER_FOLDER
from shards.tokenizer import fingerprint, load_tokenizer
from zeroshot.judge.task_evaluator import Checkpoint
from zeroshot.protocol.config import EvaluateConfig


def load_checkpoint(folder: Path, run: Path, state: dict[str, Any], config: EvaluateConfig, world: World) -> Checkpoint:
    """Both models, and those they started from where a control needs them.

    Raises:
        ValueError: the shards have another tokenizer, or the run kept no model that a control needs.
    """
    tokenizer = load_tokenizer(local_copy(config.shards, TOKENIZER_FOLDER))
    if fingerprint(load_tokenizer(folder / "recommender")) != fingerprint(tokenizer):
        raise ValueError(f"{config.shards} was built with another tokenizer than {folder}; build it with --tokenizer")

    types = {"recommender": DTYPES[config.precision], "generator": torch.float32}

    def load(source: Path, name: str) -> T5ForConditionalGeneration:
        model = on_device(load_model(str(source / name), tokenizer), world.device)
        torch.nn.Module.to(model, types[name])
        return model

    def before(name: str, control: str) -> T5ForConditionalGeneration | None:
        if (run / "untrained" / name).is_dir():
            return load(run / "untrained", name)
        if control in config.controls:
            raise ValueError(f"{run} kept no {name} from before training; leave {control} out of --controls")
        return None

    return Checkpoint(
        recommender=load(folder, "recommender"),
        generator=load(folder, "generator"),
        untrained=before("recommender", "untrained"),
        untrained_generator=before("generator", "untrained-ids"),
        tokenizer=tokenizer,
        ids=from_dict(IdConfig, state["config"]["ids"]),
        prompt=from_dict(PromptConfig, state["config"]["prompt"]),
    )
