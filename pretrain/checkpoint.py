"""Checkpoints: a folder is written under a temporary name, hashed, marked COMPLETE and renamed.

Enters: the state of a run. Leaves: `<run>/checkpoints/step-NNNNNNN`. Must hold: a folder without COMPLETE or with a
wrong
hash is never loaded, and nothing is unpickled before its hash was checked (DeepSpeed loads pickles).
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pretrain.world import World

MARKER = "COMPLETE"
FILES = "files.json"


def checkpoints_of(run: Path) -> list[Path]:
    """Complete checkpoints of a run, oldest first."""
    return sorted(marker.parent for marker in (run / "checkpoints").glob(f"step-*/{MARKER}"))


def save(
    run: Path,
    step: int,
    world: World,
    write_main: Callable[[Path], None],
    write_all: Callable[[Path], None],
    keep: int,
) -> Path:
    """Write one checkpoint. Collective: `write_all(folder)` runs on every rank, `write_main(folder)` on rank 0.

    Older checkpoints beyond the `keep` newest are removed, the best by validation excepted.
    """
    final = run / "checkpoints" / f"step-{step:07d}"
    draft = final.with_name(f".{final.name}.writing")
    if world.is_main:
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
    world.barrier()
    write_all(draft)
    world.barrier()
    if world.is_main:
        write_main(draft)
        files = {str(path.relative_to(draft)): _sha256(path) for path in sorted(draft.rglob("*")) if path.is_file()}
        (draft / FILES).write_text(json.dumps(files, indent=1))
        (draft / MARKER).write_text(_sha256(draft / FILES))
        shutil.rmtree(final, ignore_errors=True)
        os.replace(draft, final)
        _prune(run, keep)
    world.barrier()
    return final


def _prune(run: Path, keep: int) -> None:
    complete = checkpoints_of(run)
    for folder in complete[:-keep]:
        if folder != best(run):
            shutil.rmtree(folder)


def verify(folder: Path) -> dict[str, Any]:
    """Check marker and hashes and return `state.json`. Raises ValueError naming the first file that is wrong."""
    marker, files = folder / MARKER, folder / FILES
    if not marker.is_file() or not files.is_file():
        raise ValueError(f"{folder} is not a complete checkpoint (no {MARKER} marker); give another one")
    if marker.read_text() != _sha256(files):
        raise ValueError(f"{files} does not have the hash in {MARKER}; the checkpoint is damaged")
    for name, expected in json.loads(files.read_text()).items():
        path = folder / name
        if not path.is_file() or _sha256(path) != expected:
            raise ValueError(f"{path} is {'damaged' if path.is_file() else 'missing'}; the checkpoint cannot be used")
    return read_state(folder)


def read_state(folder: Path) -> dict[str, Any]:
    """`state.json` of a checkpoint, unverified."""
    return json.loads((folder / "state.json").read_text())


def newest(run: Path) -> Path | None:
    """The newest complete checkpoint of a run, or None."""
    complete = checkpoints_of(run)
    return complete[-1] if complete else None


def best(run: Path) -> Path | None:
    """The complete checkpoint with the highest validation NDCG@10 (the newest one where none was validated)."""
    complete = checkpoints_of(run)
    scored = [(read_state(folder).get("validation") or {}).get("NDCG@10") for folder in complete]
    candidates = [(score, index) for index, score in enumerate(scored) if score is not None]
    return complete[max(candidates)[1]] if candidates else newest(run)


def resolve(path: Path) -> Path:
    """A checkpoint folder given as itself or as its run folder (then the best one). Raises ValueError when there is
    none."""
    if (path / "state.json").is_file():
        return path
    found = best(path)
    if found is None:
        raise ValueError(f"{path} is neither a checkpoint nor a run folder with a complete checkpoint")
    return found


def _sha256(path: Path) -> str:
    with path.open("rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()
