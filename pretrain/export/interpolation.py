"""Interpolation: a trained recommender, a part of the way back to what it started from.

Enters: a checkpoint and the share of what training changed that is to be kept. Leaves: a checkpoint beside it,
`interpolated-SHARE`, that every command reads and no run goes on from. Must hold: each weight is start + share * (end -
start), in float32; all else is the checkpoint's.

Fine-tuned weights do better at home and worse abroad than those on the straight line to where they began: Wortsman et
al., Robust fine-tuning of zero-shot models (CVPR 2022).
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch

from pretrain.model.t5 import load_model, save_model
from pretrain.training import checkpoint
from pretrain.training.checkpoint_writer import write_alone
from shards.tokenizer import load_tokenizer

SHARE = "interpolated_share"
"""Where the state of an interpolated checkpoint says its share, among the run's configuration."""


def interpolate(path: Path, share: float) -> Path:
    """Write the checkpoint and return it; one that is there is written again.

    Args:
        path: a checkpoint in its run folder, or the run folder (then its best checkpoint).
        share: of what training changed in the recommender, between 0 (the start) and 1 (the end).

    Raises:
        ValueError: a share that is none; the checkpoint is incomplete, damaged, interpolated itself or in no run folder
            that kept the recommender from before training.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"share is {share:g}; it must lie between 0 (as before training) and 1 (as trained)")
    source = checkpoint.resolve(path)
    state = checkpoint.verify(source)
    if SHARE in state["config"]:
        raise ValueError(f"{source} is interpolated itself; give the checkpoint that it was made of")
    start = source.parent.parent / "untrained" / "recommender"
    if not start.is_dir():
        raise ValueError(f"no recommender from before training at {start}; give a checkpoint in its run folder")
    tokenizer = load_tokenizer(source / "recommender")
    model, before = (load_model(str(folder), tokenizer) for folder in (source / "recommender", start))
    with torch.no_grad():
        for weight, start_weight in zip(model.parameters(), before.parameters(), strict=True):
            weight.copy_(start_weight + share * (weight - start_weight))

    def put(folder: Path) -> None:
        save_model(model, tokenizer, folder / "recommender")
        shutil.copytree(source / "generator", folder / "generator")
        if (source / "book.arrow").is_file():
            shutil.copyfile(source / "book.arrow", folder / "book.arrow")
        # Another recipe than the run's, and nobody has validated it.
        mixed_state = state | {"config": state["config"] | {SHARE: share}, "validation": None}
        (folder / checkpoint.STATE).write_text(json.dumps(mixed_state, indent=1))

    return write_alone(source.with_name(f"interpolated-{share:g}"), put)
