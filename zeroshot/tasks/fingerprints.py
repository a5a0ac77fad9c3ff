"""Fingerprints: SHA-256 of a task's data in one canonical form, and what must come out.

Enters: item names, texts, and everyone's whole sequences. Leaves: hashes by name, and whether counts and sequences are
the published ones. Must hold: a fingerprint does not depend on the order of users, on rows, on the name of the data set
or on the layout of a shard folder, only on what was read.

The canonical form of sequences is one line a user, users sorted: the user and the items, oldest first, joined by tabs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from zeroshot.tasks.suite import TaskSpec


@dataclass(frozen=True)
class Fingerprints:
    """Hashes in hex.

    items: item ids in the order of their rows, on which IDs depend. texts: item and text, sorted by item. sequences: in
    the task's order. interactions: the same with each user's items sorted by id.
    """

    items: str
    texts: str
    sequences: str
    interactions: str

    @property
    def data(self) -> str:
        """One hash of all the data of the task."""
        return _sha256([self.items, self.texts, self.sequences])


def fingerprints(
    items: Sequence[str], texts: Sequence[str], users: Sequence[str], sequences: Sequence[np.ndarray]
) -> Fingerprints:
    """Of raw item ids and texts by row, and of everyone's whole sequences of rows."""
    names = np.array(items, dtype=object)
    by_user = sorted(((user, names[rows].tolist()) for user, rows in zip(users, sequences, strict=True)))
    return Fingerprints(
        items=_sha256(items),
        texts=_sha256("\t".join(pair) for pair in sorted(zip(items, texts, strict=True))),
        sequences=_sha256("\t".join([user, *row]) for user, row in by_user),
        interactions=_sha256("\t".join([user, *sorted(row)]) for user, row in by_user),
    )


def users_sha256(users: Iterable[str]) -> str:
    """Of a set of users, sorted, one a line: names a published sample."""
    return _sha256(sorted(users))


def counts_match(spec: TaskSpec, users: int, items: int, interactions: int) -> bool | None:
    """Whether the counts are the expected ones; None where none are known."""
    expected = spec.expected
    if expected is None:
        return None
    return (users, items, interactions) == (expected.users, expected.items, expected.interactions)


def sequences_match(spec: TaskSpec, data: Fingerprints) -> bool | None:
    """Whether the sequences are those of this version, to the byte; None where their hash is not known."""
    return None if spec.sequences_sha256 is None else spec.sequences_sha256 == data.sequences


def _sha256(lines: Iterable[str]) -> str:
    digest = hashlib.sha256()
    for line in lines:
        digest.update(f"{line}\n".encode())
    return digest.hexdigest()
