"""What must not change between the parts of one run, and what may.

Enters: a PretrainConfig. Leaves: a nested dict. Must hold: what is free changes neither which samples are learned from
nor how they are weighted; the number of ranks is no part of it.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pretrain.config.run import PretrainConfig

VERSION = 3
"""Of `state.json` (docs/contracts.md)."""
READABLE = (2, VERSION)
FREE = (
    "out",
    "shards",
    "tracking_uri",
    "experiment",
    "books",
    "log_steps",
    "checkpoint_steps",
    "keep_checkpoints",
    "checkpoint_in_background",
    "stream_workers",
    "micro_batch_size",
    "threads",
    "hang_minutes",
    "peak_tflops",
    "allow_changed",
)
CHANGEABLE = (
    "recommender_lr",
    "generator_lr",
    "teaching_lr",
    "weight_decay",
    "clip_norm",
    "dropout",
    "history_dropout",
    "warmup_share",
    "on_bad_step",
    "spike_factor",
    "soft_ids.",
    "search.",
    "schedule.patience",
    "schedule.validation_users",
    "schedule.validation_steps",
)
"""What `allow_changed` may name (a dot at the end: anything below): neither models nor plan nor samples follow from it,
so that weights, steps and positions of a checkpoint go on to mean what they did."""


def identity(config: PretrainConfig) -> dict[str, Any]:
    """The configuration without what is free; of the engine the precision stays."""
    values = json.loads(json.dumps(dataclasses.asdict(config)))
    values["ids"] = config.ids.options()
    values["engine"] = {"precision": config.engine.precision}
    return {key: value for key, value in values.items() if key not in FREE}


def refuse_another(
    folder: Path, saved: dict[str, Any], ours: dict[str, Any], manifest_sha256: str, allowed: Sequence[str] = ()
) -> list[str]:
    """Raise ValueError where the checkpoint `folder`, whose `state.json` says `saved`, is one of another run.

    Returns the differences that `allowed` names."""
    if saved["version"] not in READABLE:
        known = " and ".join(map(str, READABLE))
        raise ValueError(f"{folder} is version {saved['version']}, this code reads {known}; give another --out")
    lines = differences(saved["config"], ours)
    accepted = [line for line in lines if (name := line.partition(" ")[0]) in allowed and _is_changeable(name)]
    changed = [line for line in lines if line not in accepted]
    if saved["manifest_sha256"] != manifest_sha256:
        changed.append("other shards")
    if changed:
        names = [line.partition(" ")[0] for line in changed]
        how = f", or --allow-changed {' '.join(names)}" if all(map(_is_changeable, names)) else ""
        raise ValueError(
            f"{folder} was made with {'; '.join(changed)}: give another --out, or the values of that run{how}"
        )
    return accepted


def _is_changeable(name: str) -> bool:
    return any(name == known or (known.endswith(".") and name.startswith(known)) for known in CHANGEABLE)


def differences(saved: dict[str, Any], ours: dict[str, Any], prefix: str = "") -> list[str]:
    """What differs, one line each: `recommender.d_model 128, not 64`. The saved value comes first."""
    lines = []
    for key in sorted(saved.keys() | ours.keys()):
        one, other = saved.get(key), ours.get(key)
        if isinstance(one, dict) and isinstance(other, dict):
            lines += differences(one, other, f"{prefix}{key}.")
        elif one != other:
            lines.append(f"{prefix}{key} {one}, not {other}")
    return lines
