"""Checkpoints: a folder is written under a temporary name, hashed, marked COMPLETE and renamed.

Enters: the state of a run. Leaves: `<run>/checkpoints/step-NNNNNNN`. Must hold: a folder without COMPLETE or with a
wrong hash is never loaded; nothing is pickled, neither written nor read.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import uuid
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from pretrain.reporter import SILENT, Reporter
from pretrain.watchdog import beat
from pretrain.world import Agreed, World
from shards.whole import write_whole

MARKER = "COMPLETE"
DAMAGED = "DAMAGED"
FILES = "files.json"
STATE = "state.json"


def checkpoints_of(run: Path) -> list[Path]:
    """Complete checkpoints of a run, oldest first."""
    return sorted(marker.parent for marker in (run / "checkpoints").glob(f"step-*/{MARKER}"))


class Saver:
    """Writes the checkpoints of one run. Each rank writes and hashes its own files, in a thread if so wished; rank 0
    completes the folder when all have."""

    def __init__(self, run: Path, world: World, keep: int) -> None:
        self.run, self.world, self.keep = run, world, keep
        self._thread = ThreadPoolExecutor(1, "checkpoint")
        self._work: tuple[Path, Path, Future[dict[str, str]]] | None = None

    def begin(self, step: int, write: Callable[[Path], None]) -> None:
        """Start one checkpoint; one begun before is finished first. Collective.

        `write(folder)` puts this rank's files there, from values that nobody changes meanwhile.
        """
        assert self._work is None, "finish one checkpoint before the next"
        final = self.run / "checkpoints" / f"step-{step:07d}"
        if self.world.is_main:
            remove_drafts(self.run)
        nonce = self.world.gather(uuid.uuid4().hex[:8])[0]
        draft = final.with_name(f".{final.name}.{nonce}.writing")
        draft.mkdir(parents=True, exist_ok=True)
        self._work = final, draft, self._thread.submit(_write_and_hash, draft, write)

    def finish(self) -> Path | None:
        """Wait for the checkpoint that was begun, if one was, and complete it; returns it. Collective.

        Raises Agreed when a rank could not write; the draft is removed, older checkpoints stay.
        """
        if self._work is None:
            return None
        (final, draft, work), self._work = self._work, None
        error, hashes = None, {}
        try:
            hashes = work.result()
        except (OSError, SafetensorError) as problem:  # said below, once all ranks know; others are faults of ours
            error = f"rank {self.world.rank}: {getattr(problem, 'strerror', None) or problem}"
        parts = self.world.gather((error, hashes))
        errors = [text for text, _ in parts if text]
        if errors:
            if self.world.is_main:
                shutil.rmtree(draft, ignore_errors=True)
            raise Agreed(
                f"cannot write checkpoint {final} ({errors[0]}); make room and give the same command again: the run "
                "goes on from the checkpoint before"
            )
        if self.world.is_main:
            _complete(draft, final, {name: digest for _, part in parts for name, digest in part.items()})
            _prune(self.run, self.keep)
        self.world.barrier()
        return final

    @property
    def done(self) -> bool:
        """Whether `finish` would not wait for this rank."""
        return self._work is not None and self._work[2].done()


def write_alone(final: Path, write: Callable[[Path], None]) -> Path:
    """A checkpoint by this process alone, in place of one of that name; returns it."""
    draft = final.with_name(f".{final.name}.{uuid.uuid4().hex[:8]}.writing")
    try:
        draft.mkdir(parents=True)
        _complete(draft, final, _write_and_hash(draft, write))
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return final


def _write_and_hash(draft: Path, write: Callable[[Path], None]) -> dict[str, str]:
    own = draft / f".{uuid.uuid4().hex}"  # so that each rank knows which files are its own
    own.mkdir()
    write(own)
    hashes = {}
    for path in sorted(own.rglob("*")):
        if path.is_file():
            name = path.relative_to(own)
            hashes[name.as_posix()] = _sha256(path, sync=True)
            (draft / name).parent.mkdir(parents=True, exist_ok=True)
            os.replace(path, draft / name)
    shutil.rmtree(own)
    return hashes


def _complete(draft: Path, final: Path, hashes: dict[str, str]) -> None:
    write_whole(draft / FILES, json.dumps(dict(sorted(hashes.items())), indent=1).encode())
    write_whole(draft / MARKER, _sha256(draft / FILES).encode())
    shutil.rmtree(final, ignore_errors=True)
    os.replace(draft, final)


def remove_drafts(run: Path) -> list[str]:
    """Remove what killed jobs have left half written; returns the names."""
    drafts = sorted((run / "checkpoints").glob(".step-*.writing"))
    for draft in drafts:
        shutil.rmtree(draft)
    return [draft.name for draft in drafts]


def _prune(run: Path, keep: int) -> None:
    begun = [folder for folder, state in sound(run) if _place(state)[1] == 0]
    kept = {best(run), *begun[-1:]}
    for folder in checkpoints_of(run)[:-keep]:
        if folder not in kept:
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
    if marker.read_text() != _sha256(files):
        raise ValueError(f"{files} does not have the hash in {MARKER}; the checkpoint is damaged")
    hashes = json.loads(files.read_text())
    for name, expected in hashes.items() if only is None else [(only, hashes.get(only))]:
        path = folder / name
        if not path.is_file() or _sha256(path) != expected:
            raise ValueError(f"{path} is {'damaged' if path.is_file() else 'missing'}; the checkpoint cannot be used")
    return read_state(folder)


def read_state(folder: Path) -> dict[str, Any]:
    """`state.json` of a checkpoint, unverified."""
    return json.loads((folder / STATE).read_text())


def sound(run: Path) -> list[tuple[Path, dict[str, Any]]]:
    """Complete checkpoints whose `state.json` has its hash, oldest first, with what it says. Weights are not read."""
    found = []
    for folder in checkpoints_of(run):
        try:
            found.append((folder, verify(folder, only=STATE)))
        except ValueError:  # `newest_good` names it when a run would take it up
            continue
    return found


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
    validated = [(folder, state) for folder, state in sound(run) if state.get("validation")]
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
    found = best(path)
    if found is None:
        raise ValueError(f"{path} is neither a checkpoint nor a run folder with a complete checkpoint")
    return found


def _sha256(path: Path, sync: bool = False) -> str:
    with path.open("rb") as source:
        if sync:  # a hash in a list that survives a power cut must not belong to a file that does not
            os.fsync(source.fileno())
        digest = hashlib.sha256()
        while part := source.read(1 << 24):
            digest.update(part)
            beat(f"hashing {path}")
        return digest.hexdigest()
