"""Writing checkpoints: a folder under a temporary name, hashed, marked COMPLETE and renamed.

Enters: what writes one rank's files, from values that nobody changes meanwhile. Leaves: a checkpoint, or nothing.
Must hold: a checkpoint that was begun is finished or undone; every rank comes to the same.
"""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from safetensors import SafetensorError

from pretrain.runtime.world import Agreed, World
from pretrain.training.checkpoint import FILES, MARKER, prune, sha256
from shards.files.atomic import write_whole

T = TypeVar("T")
Write = Callable[[Path], None]


class CheckpointWriter:
    """Writes the checkpoints of one run. Each rank writes and hashes its own files, in a thread; rank 0 completes the
    folder when all have."""

    def __init__(self, run: Path, world: World, keep: int) -> None:
        self.run, self.world, self.keep = run, world, keep
        self._thread = ThreadPoolExecutor(1, "checkpoint")
        self._work: tuple[Path, Path, Future[dict[str, str]]] | None = None

    def begin(self, step: int, write: Write) -> None:
        """Start one checkpoint; one begun before is finished first. Collective.

        `write(folder)` puts this rank's files there, from values that nobody changes meanwhile.
        """
        assert self._work is None, "finish one checkpoint before the next"
        final = self.run / "checkpoints" / f"step-{step:07d}"
        if self.world.is_main:
            remove_drafts(self.run)
        nonce = self.world.gather(uuid.uuid4().hex[:8])[0]
        draft = final.with_name(f".{final.name}.{nonce}.writing")
        self._work = final, draft, self._thread.submit(_write_and_hash, draft, write)

    def finish(self) -> Path | None:
        """Wait for the checkpoint that was begun, if one was, and complete it; returns it. Collective.

        Raises Agreed when a rank could not write; the draft is removed, older checkpoints stay.
        """
        if self._work is None:
            return None
        final, draft, work = self._work
        try:
            parts = self._together(final, work.result)
            hashes = {name: digest for part in parts for name, digest in part.items()}
            self._together(final, lambda: self._complete(draft, final, hashes) if self.world.is_main else None)
        except BaseException:
            self.undo()
            raise
        self._work = None
        return final

    def undo(self) -> None:
        """Give up the checkpoint that was begun, if one was. Waits for nobody: what a thread still writes goes when it
        has been written."""
        if self._work is None:
            return
        (_, draft, work), self._work = self._work, None
        work.add_done_callback(lambda _: shutil.rmtree(draft, ignore_errors=True))

    def _together(self, final: Path, do: Callable[[], T]) -> list[T]:
        """What `do` returns on every rank. Raises Agreed where the disk of one refuses; all else is a fault of ours."""
        result, error = None, None
        try:
            result = do()
        except (OSError, SafetensorError) as problem:
            error = f"rank {self.world.rank}: {getattr(problem, 'strerror', None) or problem}"
        answers = self.world.gather((result, error))
        errors = [text for _, text in answers if text]
        if errors:
            raise Agreed(
                f"cannot write checkpoint {final} ({errors[0]}); make room and give the same command again: the run "
                "goes on from the checkpoint before"
            )
        return [result for result, _ in answers]  # pyright: ignore[reportReturnType]

    def _complete(self, draft: Path, final: Path, hashes: dict[str, str]) -> None:
        _complete(draft, final, hashes)
        prune(self.run, self.keep)


def write_alone(final: Path, write: Write) -> Path:
    """A checkpoint by this process alone, in place of one of that name; returns it."""
    draft = final.with_name(f".{final.name}.{uuid.uuid4().hex[:8]}.writing")
    try:
        _complete(draft, final, _write_and_hash(draft, write))
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return final


def _write_and_hash(draft: Path, write: Write) -> dict[str, str]:
    own = draft / f".{uuid.uuid4().hex}"  # so that each rank knows which files are its own
    own.mkdir(parents=True)
    write(own)
    hashes = {}
    for path in sorted(own.rglob("*")):
        if path.is_file():
            name = path.relative_to(own)
            hashes[name.as_posix()] = sha256(path, sync=True)
            (draft / name).parent.mkdir(parents=True, exist_ok=True)
            os.replace(path, draft / name)
    shutil.rmtree(own)
    return hashes


def _complete(draft: Path, final: Path, hashes: dict[str, str]) -> None:
    write_whole(draft / FILES, json.dumps(dict(sorted(hashes.items())), indent=1).encode())
    write_whole(draft / MARKER, sha256(draft / FILES).encode())
    shutil.rmtree(final, ignore_errors=True)
    os.replace(draft, final)


def remove_drafts(run: Path) -> list[str]:
    """Remove what killed jobs have left half written; returns the names."""
    drafts = sorted((run / "checkpoints").glob(".step-*.writing"))
    for draft in drafts:
        shutil.rmtree(draft)
    return [draft.name for draft in drafts]
