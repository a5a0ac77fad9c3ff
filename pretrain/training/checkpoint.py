"""The checkpoints of a run, `<run>/checkpoints/step-NNNNNNN`: which are whole, which is the newest, which the best.

Enters: a run folder. Leaves: folders and what their `state.json` says. Must hold: a folder without COMPLETE or with a
wrong hash is never loaded; a score belongs to the state that was validated, and to no other; nothing is pickled.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
from pathlib import Path
from typing import Any

from pretrain.runtime.progress import SILENT, Reporter
from pretrain.runtime.watchdog import beat

MARKER = "COMPLETE"
DAMAGED = "DAMAGED"
FILES = "files.json"
STATE = "state.json"
SCORED = 3
"""From this version of `state.json` on its score is its own; before, what was not validated had the last one."""


def checkpoints_of(run: Path) -> list[Path]:
    """Complete checkpoints of a run, oldest first."""
    return sorted(marker.parent for marker in (run / "checkpoints").glob(f"step-*/{MARKER}"))


def prune(run: Path, keep: int) -> None:
    """Remove what is neither the best, nor the start of the phase that is under way, nor one of the `keep` newest."""
    begun = [folder for folder, state in sound(run) if _place(state)[1] == 0]
    spared = {best(run), *begun[-1:]}
    for folder in checkpoints_of(run)[:-keep]:
        if folder not in spared:
            (folder / MARKER).unlink()  # a kill in the middle of the removal leaves no checkpoint that looks whole
            shutil.rmtree(folder)


def _place(state: dict[str, Any]) -> tuple[int, int]:
    """Phase and step of a `state.json`."""
    return state["state"]["phase"], state["state"]["step"]


def verify(folder: Path, only: str | None = None) -> dict[str, Any]:
    """Check marker and hashes, of one file `only` if so wished, and return `state.json`. Raises ValueError naming the
    first file that is wrong."""
    marker, files = folder / MARKER, folder / FILES
    if not marker.is_file() or not files.is_file():
        raise ValueError(f"{folder} is not a complete checkpoint (no {MARKER} marker); give another one")
    if marker.read_text() != sha256(files):
        raise ValueError(f"{files} does not have the hash in {MARKER}; the checkpoint is damaged")
    hashes = json.loads(files.read_text())
    for name, expected in hashes.items() if only is None else [(only, hashes.get(only))]:
        path = folder / name
        if not path.is_file() or sha256(path) != expected:
            raise ValueError(f"{path} is {'damaged' if path.is_file() else 'missing'}; the checkpoint cannot be used")
    return read_state(folder)


def read_state(folder: Path) -> dict[str, Any]:
    """`state.json` of a checkpoint, unverified, without a score that is of another state."""
    state = json.loads((folder / STATE).read_text())
    if state.get("version", 0) < SCORED and not _was_validated(state):
        state["validation"] = None
    return state


def _was_validated(state: dict[str, Any]) -> bool:
    """Whether the schedule validates at the place of a checkpoint that may have its score from one before."""
    every, step = state["config"]["schedule"]["validation_steps"], _place(state)[1]
    return step == 0 or (every is not None and step % every == 0)


def sound(run: Path) -> list[tuple[Path, dict[str, Any]]]:
    """Complete checkpoints whose `state.json` has its hash, oldest first, with what it says. Weights are not read."""
    whole = []
    for folder in checkpoints_of(run):
        try:
            whole.append((folder, verify(folder, only=STATE)))
        except ValueError:  # `newest_good` names it when a run would take it up
            continue
    return whole


def newest(run: Path) -> Path | None:
    """The newest complete checkpoint of a run, or None; unverified."""
    complete = checkpoints_of(run)
    return complete[-1] if complete else None


def newest_good(run: Path, reporter: Reporter = SILENT) -> Path | None:
    """The newest checkpoint whose files have their hashes; None where the run has no checkpoint at all.

    Damaged ones are named, marked DAMAGED instead of COMPLETE, and passed over. Raises ValueError when all are.
    """
    complete = checkpoints_of(run)
    for folder in reversed(complete):
        try:
            verify(folder)
        except ValueError as problem:
            reporter.line(f"passing over a checkpoint: {problem}")
            (folder / MARKER).rename(folder / DAMAGED)
        else:
            return folder
    if complete or list((run / "checkpoints").glob(f"step-*/{DAMAGED}")):
        raise ValueError(f"no checkpoint of {run} can be used, all are damaged; give another --out to start anew")
    return None


def best(run: Path) -> Path | None:
    """The newest complete checkpoint that validation has found as good as the best (`schedule.judged`): among those
    whose differences are chance, the one trained most. The newest of all where none was validated."""
    validated: list[tuple[Path, dict[str, Any]]] = []
    for folder, state in sound(run):
        scores = [earlier["validation"] for _, earlier in validated]
        inherited = state.get("version", 0) < SCORED and state["validation"] in scores
        if state["validation"] and not inherited:
            validated.append((folder, state))
    if not validated:
        return newest(run)
    as_good = validated[-1][1]["state"].get("as_good")
    if as_good is None:  # a run whose best is of before there was one: the best alone
        as_good = math.inf
    return max((min(state["validation"]["NDCG@10"], as_good), folder) for folder, state in validated)[1]


def phase_start(run: Path, phase: int) -> Path | None:
    """The checkpoint between phase `phase` and the one before it, if it is there; unverified."""
    return next((folder for folder, state in sound(run) if _place(state) == (phase, 0)), None)


def resolve(path: Path) -> Path:
    """A checkpoint folder given as itself or as its run folder (then the best one). Raises ValueError when there is
    none."""
    if (path / STATE).is_file():
        return path
    folder = best(path)
    if folder is None:
        raise ValueError(f"{path} is neither a checkpoint nor a run folder with a complete checkpoint")
    return folder


def sha256(path: Path, sync: bool = False) -> str:
    """Of a file, which is on the disk first where `sync` says so."""
    with path.open("rb") as source:
        if sync:  # a hash in a list that survives a power cut must not belong to a file that does not
            os.fsync(source.fileno())
        digest = hashlib.sha256()
        while part := source.read(1 << 24):
            digest.update(part)
            beat(f"hashing {path}")
        return digest.hexdigest()
