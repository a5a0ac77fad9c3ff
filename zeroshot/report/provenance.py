"""Where a result comes from: code, data, versions, machine, time.

Enters: checkpoint, its state and the manifest. Leaves: the provenance object of `results.json`, hashes of data. Must
hold: no user name, host name or environment variable is in it; two seeds of one recipe have the same `recipe_sha256`;
torch is imported by who asks for the hardware alone, because the command line shows versions at once.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import platform
import subprocess
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from shards.cores import cores
from zeroshot.protocol.config import EvaluateConfig

LIBRARIES = ("torch", "deepspeed", "transformers", "webdataset", "sentencepiece", "mlflow", "numpy")


def provenance(
    checkpoint: Path, state: dict[str, Any], manifest_sha256: str, config: EvaluateConfig, wall_seconds: float,
    world_size: int,
) -> dict[str, Any]:  # fmt: skip
    """The provenance of a result made now, by this code."""
    import torch

    commit, dirty = git_state(Path(__file__).parent)
    return {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "git": commit,
        "dirty": dirty,
        "versions": versions(),
        "hardware": {
            "machine": platform.machine(),
            "cores": cores(),
            "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
            "ranks": world_size,
        },
        "wall_seconds": round(wall_seconds, 1),
        "checkpoint": checkpoint.name,
        "manifest_sha256": manifest_sha256,
        "training_manifest_sha256": state["manifest_sha256"],
        **recipe(state["config"], state["manifest_sha256"]),
        "scoring": asdict(config.search)
        | {"blend_weight": config.blend_weight, "popularity_weight": config.popularity_weight}
        | {"repeats": config.repeats, "precision": config.precision},
        "seed": config.seed,
    }


def recipe(config: dict[str, Any], manifest_sha256: str) -> dict[str, Any]:
    """The hash of a run's whole configuration, that of the recipe (configuration without the seed, and the training
    data), and the seed."""
    shared = {key: value for key, value in config.items() if key != "seed"}
    return {
        "config_sha256": json_sha256(config),
        "recipe_sha256": json_sha256({"config": shared, "manifest": manifest_sha256}),
        "training_seed": config["seed"],
    }


def json_sha256(value: Any) -> str:
    """The hash of a value's canonical JSON."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def versions(libraries: tuple[str, ...] = LIBRARIES) -> dict[str, str]:
    """Python's version and those of the libraries, as installed."""
    return {"python": platform.python_version()} | {
        library: importlib.metadata.version(library) for library in libraries
    }


def git_state(folder: Path) -> tuple[str, bool]:
    """Commit of the code and whether the work tree differs from it; ("unknown", False) outside a checkout."""

    def git(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(["git", "-C", str(folder), *words], capture_output=True, text=True, check=False)

    try:
        head = git("rev-parse", "HEAD")
    except FileNotFoundError:
        return "unknown", False
    if head.returncode:
        return "unknown", False
    return head.stdout.strip(), bool(git("status", "--porcelain").stdout.strip())
