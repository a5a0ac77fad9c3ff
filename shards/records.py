"""The words that all rooms speak: Arrow schemas, a sample and a position of the stream.

Nothing here reads or writes a file. Terms are those of docs/contracts.md: a record is one user's training sequence
(all items but the last two), a sample is `(record, prefix_end)`, a slot is a place in the global order of one epoch.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from dataclasses import fields as dataclass_fields
from typing import Any

import numpy as np
import pyarrow as pa

ITEM_SCHEMA = pa.schema([("item", pa.string()), ("text", pa.string()), ("token_ids", pa.list_(pa.int32()))])
HOLDOUT_SCHEMA = pa.schema(
    [
        ("record", pa.string()),
        ("user", pa.string()),
        ("history", pa.list_(pa.int32())),
        ("valid", pa.int32()),
        ("test", pa.int32()),
    ]
)
POSITION_VERSION = 3


def record_key(category: str, number: int) -> str:
    """`<category>/<number>` with nine digits; the WebDataset `__key__` of user number `number` (0-based) too."""
    return f"{category}/{number:09d}"


@dataclass(frozen=True)
class Sample:
    """One training sample: predict `target` from `history` (int32 rows of the Fusion, oldest first, never empty)."""

    key: str
    prefix_end: int
    history: np.ndarray
    target: int
    slot: int


@dataclass(frozen=True)
class Position:
    """A place in the stream, the same on every rank: `slot` is the first slot of `epoch` not yet consumed.

    length_window, prefix_run: those of the stream (0 and 1 = none); another one is another order, in which the slot
    means nothing.
    """

    seed: int
    epoch: int = 0
    slot: int = 0
    length_window: int = 0
    prefix_run: int = 1
    version: int = POSITION_VERSION

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if not isinstance(value, int) or isinstance(value, bool):
                raise ValueError(f"position: {name} must be an integer, not {value!r}")  # noqa: TRY004 - read from JSON
        if self.version != POSITION_VERSION:
            raise ValueError(f"position: version {self.version} is unknown, this code reads version {POSITION_VERSION}")
        if min(self.epoch, self.slot, self.length_window) < 0:
            raise ValueError(
                f"position: epoch {self.epoch}, slot {self.slot} and length_window {self.length_window} must not be "
                "negative"
            )
        if self.prefix_run < 1:
            raise ValueError(f"position: prefix_run {self.prefix_run} must be at least 1")

    def to_json(self) -> dict[str, int]:
        """The JSON object of docs/contracts.md."""
        return asdict(self)

    @staticmethod
    def from_json(value: Mapping[str, Any] | str) -> "Position":
        """Reads a JSON object or its text; ValueError on unknown or missing keys and unknown versions."""
        try:
            fields = dict(json.loads(value) if isinstance(value, str) else value)
        except (TypeError, ValueError) as error:
            raise ValueError(f"position: not a JSON object ({error})") from error
        names = [known.name for known in dataclass_fields(Position)]
        if set(fields) != set(names):
            raise ValueError(f"position: keys must be {', '.join(names)}, not {', '.join(map(str, fields))}")
        return Position(**fields)
