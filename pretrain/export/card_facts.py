"""The facts that a model card is written from.

Enters: what the export found in a checkpoint, beside it and in the shards. Leaves: values that cannot change. Must
hold: what was not at hand is None, so that the card can say that it is not known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from shards.manifest import Manifest

Part = Literal["recommender", "generator"]
PARTS: tuple[Part, ...] = ("recommender", "generator")
Precision = Literal["float32", "bf16"]


@dataclass(frozen=True)
class PhaseDone:
    """A phase that had ended: its kind, its optimiser steps, the share of its model's weights that it moved."""

    kind: str
    steps: int
    share_moved: float


@dataclass(frozen=True)
class Facts:
    """What a card is written from.

    Attributes:
        checkpoint: name of the checkpoint's folder.
        config, validation, finished: from its `state.json`.
        manifest_sha256: of the shards it was trained on; `manifest`: theirs, where it was at hand.
        precision: of the exported weights.
        parameters: number by part.
        items: of the book, by category, in the book's order.
        book: figures of the book (`Book.summary`); `book_is_current`: the exported generator wrote it.
        generator_hash: of the checkpoint's generator, as the books it writes carry it.
        history: IDs of the first items of the book.
        phases: those that had ended; None where the run's figures were not at hand.
        files: sha256 by file.
        versions: of what exported it.
    """

    checkpoint: str
    config: Mapping[str, Any]
    validation: Mapping[str, float] | None
    finished: bool
    manifest_sha256: str
    manifest: Manifest | None
    precision: Precision
    parameters: Mapping[Part, int]
    items: Mapping[str, int]
    book: Mapping[str, float]
    book_is_current: bool
    generator_hash: str
    history: Sequence[str]
    phases: Sequence[PhaseDone] | None
    files: Mapping[str, str]
    versions: Mapping[str, str]
