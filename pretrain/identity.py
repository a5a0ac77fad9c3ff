"""What must not change between the parts of one run, and what may.

Enters: a PretrainConfig. Leaves: a nested dict. Must hold: what is free changes neither which samples are learned from
nor how they are weighted; the number of ranks is no part of it.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from pretrain.config import PretrainConfig

VERSION = 2
"""Of `state.json` (docs/contracts.md)."""
FREE = (
    "out",
    "shards",
    "tracking_uri",
    "experiment",
    "log_steps",
    "checkpoint_steps",
    "keep_checkpoints",
    "checkpoint_in_background",
    "stream_workers",
    "micro_batch_size",
    "threads",
    "hang_minutes",
    "peak_tflops",
)


def identity(config: PretrainConfig) -> dict[str, Any]:
    """The configuration without what is free; of the engine the precision stays."""
    values = json.loads(json.dumps(dataclasses.asdict(config)))
    values["ids"] = config.ids.options()
    values["engine"] = {"precision": config.engine.precision}
    return {key: value for key, value in values.items() if key not in FREE}


def refuse_another(folder: Path, saved: dict[str, Any], ours: dict[str, Any], manifest_sha256: str) -> None:
    """Raise ValueError where the checkpoint `folder`, whose `state.json` says `saved`, is one of another run."""
    if saved["version"] != VERSION:
        raise ValueError(
            f"{folder} is version {saved['version']}, this code reads version {VERSION}; give another --out"
        )
    changed = differences(saved["config"], ours)
    if saved["manifest_sha256"] != manifest_sha256:
        changed.append("other shards")
    if changed:
        raise ValueError(f"{folder} was made with {'; '.join(changed)}: give another --out, or the values of that run")


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
