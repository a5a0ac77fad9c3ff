"""Users in blocks: in which order they are asked, and the finished blocks of an evaluation that may be killed.

Enters: a task, a recommender, judged blocks. Leaves: the same blocks whatever the order of the users and the number of
ranks; one file per finished block, under a name that says what it depends on. Must hold: a file is there whole or not
at all, is taken only where its hash is right, and never where anything else has changed.

The bits of a matrix product depend on its shape, so what a model says of a user depends, in the last bits, on who is
asked with him. Users are therefore sorted by the length of their input, and blocks are cut from that order.
"""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from shards.files.atomic import write_whole
from zeroshot.protocol.recommender import Judged, Recommender, Resumable
from zeroshot.tasks.task import Task

FOLDER = ".judging"
"""In the output folder, while an evaluation is under way."""


@dataclass(frozen=True)
class Blocks:
    """`order_N`: the task's users in the order in which they are asked, `size` at a time."""

    order_N: np.ndarray
    size: int

    @classmethod
    def arrange(cls, task: Task, recommender: Recommender, size: int) -> Blocks:
        """By length of input, then by history, then by name: the order of the users in the task does not count."""
        if size < 1:
            raise ValueError(f"block is {size}: at least one user per question")
        resumable = isinstance(recommender, Resumable)
        lengths_N = recommender.input_lengths(task.histories) if resumable else task.history_lengths
        keys = [
            (length, np.asarray(history, dtype=">i8").tobytes(), user)
            for length, history, user in zip(lengths_N.tolist(), task.histories, task.users, strict=True)
        ]
        return cls(np.array(sorted(range(len(keys)), key=keys.__getitem__), dtype=np.int64), size)

    def __len__(self) -> int:
        return -(-len(self.order_N) // self.size)

    def users(self, number: int) -> np.ndarray:
        """Rows in the task of the users of a block."""
        return self.order_N[number * self.size : (number + 1) * self.size]

    def joined(self, parts: dict[int, Judged]) -> Judged:
        """All blocks, back in the order of the task; each user is there exactly once."""
        assert sorted(parts) == list(range(len(self))), "a block was lost"
        assert all(len(part) == len(self.users(number)) for number, part in parts.items()), "a block lost users"
        return Judged.joined([parts[number] for number in sorted(parts)]).take(np.argsort(self.order_N))


class BlockStore:
    """The finished blocks of one (task, recommender, protocol), in a folder that all ranks see."""

    def __init__(self, folder: Path, identity: str) -> None:
        self.folder = folder / identity[:32]
        self.folder.mkdir(parents=True, exist_ok=True)

    def path(self, number: int) -> Path:
        return self.folder / f"block-{number:06d}"

    def read(self, number: int) -> Judged | None:
        """A block, or None where there is none or a damaged one: then it is judged again."""
        if not self.path(number).is_file():
            return None
        digest, _, content = self.path(number).read_bytes().partition(b"\n")
        if hashlib.sha256(content).hexdigest().encode() != digest:
            return None
        with np.load(io.BytesIO(content)) as arrays:
            return Judged(arrays["ranks_N"], arrays["top_NK"], arrays["scores_NK"], float(arrays["seconds"]))

    def write(self, number: int, judged: Judged) -> None:
        """Keep a block; it is on the disk when this returns."""
        content = io.BytesIO()
        np.savez(
            content, ranks_N=judged.ranks_N, top_NK=judged.top_NK, scores_NK=judged.scores_NK, seconds=judged.seconds
        )
        digest = hashlib.sha256(content.getvalue()).hexdigest().encode()
        write_whole(self.path(number), digest + b"\n" + content.getvalue())


def identity_of(task: Task, recommender: str, protocol: str, blocks: Blocks) -> str:
    """A hash of all that a block depends on; `recommender` is the recommender's own identity."""
    head = [task.name, recommender, protocol, blocks.size, len(task.items), code_hash()]
    digest = hashlib.sha256(json.dumps(head).encode())
    for row in blocks.order_N:
        history = np.asarray(task.histories[row], dtype="<i8")
        digest.update(json.dumps([task.users[row], len(history), int(task.targets[row])]).encode() + history.tobytes())
    if task.candidates is not None:
        digest.update(b"candidates" + np.asarray(task.candidates, dtype="<i8").tobytes())
    return digest.hexdigest()


@cache
def code_hash() -> str:
    """A hash of the code that judges and of the model's own: blocks of an older one are not taken over."""
    root, digest = Path(__file__).parent.parent, hashlib.sha256()
    for room in ("pretrain", "zeroshot"):
        for file in sorted((root / room).rglob("*.py")):
            digest.update(file.relative_to(root).as_posix().encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()
