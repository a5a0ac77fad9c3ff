"""The ID book: each item's textual ID, as text and as canonical token ids.

Enters: items and the IDs Algorithm 1 gave them. Leaves: an Arrow file, look-up by row and by ID, the difference of two
books. Must hold, checked whenever a
book is built or loaded: token ids are unique, none is empty, none holds `<unk>`, and encoding the text gives the token
ids.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from transformers.models.t5.tokenization_t5 import T5Tokenizer

from pretrain.runtime.watchdog import beat
from shards.files.atomic import whole
from shards.tokenizer import UNK_ID, fingerprint

VERSION = "2"
SCHEMA = pa.schema(
    [
        ("item", pa.string()),
        ("text", pa.string()),
        ("token_ids", pa.list_(pa.int32())),
        ("attempt", pa.int32()),
        ("tier", pa.int32()),
        ("suffixed", pa.bool_()),
    ]
)


def normalise(text: str) -> str:
    r"""The canonical form of an ID: its `\w+` words in lower case, joined by one space."""
    return " ".join(re.findall(r"\w+", text.lower()))


def canonical(tokenizer: T5Tokenizer, texts: list[str]) -> tuple[list[str], list[tuple[int, ...]]]:
    """Normalised texts and their token ids (without EOS); comparing IDs means comparing these."""
    normal = [normalise(text) for text in texts]
    encoded = tokenizer(normal, add_special_tokens=False)["input_ids"] if normal else []
    return normal, [tuple(ids) for ids in encoded]


class Changed(NamedTuple):
    """An item whose ID differs between two books."""

    item: str
    before: str
    after: str


@dataclass(frozen=True)
class Difference:
    """Two books side by side: of the items in both, the share whose ID changed and who they are, in the order of the
    later book; items that only one of them has."""

    share_changed: float
    changed: list[Changed]
    added: list[str]
    removed: list[str]

    def lines(self, examples: int = 10) -> list[str]:
        """The same for people."""
        lines = [
            f"{self.share_changed:.2%} of the IDs in both changed; {len(self.added):,} items added, "
            f"{len(self.removed):,} removed"
        ]
        lines += [f"  {item}: {before} -> {after}" for item, before, after in self.changed[:examples]]
        more = len(self.changed) - examples
        return [*lines, f"  and {more:,} more"] if more > 0 else lines


@dataclass(frozen=True)
class Book:
    """IDs by item row.

    `attempt` counts diversity penalties tried within all tiers, `tier` the length tier (0 = 1-9). `options` are those
    of IdConfig that candidates depend on.
    """

    items: list[str]
    texts: list[str]
    token_ids: list[np.ndarray]
    attempt: np.ndarray
    tier: np.ndarray
    suffixed: np.ndarray
    generator_hash: str
    tokenizer_fingerprint: str
    options: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.items)

    @cached_property
    def sha256(self) -> str:
        """Hash over items, token ids and generator hash."""
        digest = hashlib.sha256(self.generator_hash.encode())
        for item, ids in zip(self.items, self.token_ids, strict=True):
            digest.update(item.encode() + b"\0" + np.asarray(ids, dtype=np.int32).tobytes() + b"\0")
        return digest.hexdigest()

    def verify(self, tokenizer: T5Tokenizer) -> None:
        """Raise ValueError, naming the item, when an ID is empty, holds `<unk>`, does not round-trip or is not
        unique."""
        _, encoded = canonical(tokenizer, self.texts)
        seen: dict[tuple[int, ...], str] = {}
        for item, text, ids, again in zip(self.items, self.texts, self.token_ids, encoded, strict=True):
            key = tuple(int(token) for token in ids)
            if not key:
                raise ValueError(f"ID book: item {item} has an empty ID")
            if UNK_ID in key:
                raise ValueError(f"ID book: the ID of item {item} holds <unk>")
            if key != again:
                raise ValueError(f"ID book: '{text}' of item {item} does not encode to its token ids")
            if key in seen:
                raise ValueError(f"ID book: items {seen[key]} and {item} share the ID '{text}'")
            seen[key] = item

    @cached_property
    def row_of(self) -> dict[str, int]:
        """Row by ID, in its canonical form (`normalise`)."""
        return {text: row for row, text in enumerate(self.texts)}

    def difference(self, before: Book) -> Difference:
        """What changed since `before`."""
        earlier = dict(zip(before.items, before.texts, strict=True))
        later = dict(zip(self.items, self.texts, strict=True))
        both = [Changed(item, earlier[item], text) for item, text in later.items() if item in earlier]
        changed = [entry for entry in both if entry.before != entry.after]
        return Difference(
            share_changed=len(changed) / max(1, len(both)),
            changed=changed,
            added=[item for item in later if item not in earlier],
            removed=[item for item in earlier if item not in later],
        )

    def summary(self) -> dict[str, float]:
        """Shares of items with a second attempt, a longer tier, a suffix; mean ID length in tokens."""
        return {
            "num_items": len(self),
            "second_attempt_share": float(np.mean(self.attempt > 0)),
            "longer_share": float(np.mean(self.tier > 0)),
            "suffixed_share": float(np.mean(self.suffixed)),
            "mean_tokens": float(np.mean([len(ids) for ids in self.token_ids])),
        }

    def describe(self) -> str:
        """The summary as one line, beside the paper's figures (section 3.2)."""
        shares = self.summary()
        return (
            f"{len(self):,} IDs of {shares['mean_tokens']:.1f} tokens: second attempt "
            f"{shares['second_attempt_share']:.2%} (paper 11.20%), longer {shares['longer_share']:.2%} (paper 3.72%), "
            f"suffixed {shares['suffixed_share']:.2%}"
        )

    def save(self, path: Path) -> None:
        """Write the book as one Arrow IPC file, whole or not at all."""
        metadata = {
            "version": VERSION,
            "generator_hash": self.generator_hash,
            "tokenizer_fingerprint": self.tokenizer_fingerprint,
            "options": json.dumps(self.options, sort_keys=True),
        }
        columns = [self.items, self.texts, self.token_ids, self.attempt, self.tier, self.suffixed]
        arrays = [pa.array(column, type=field.type) for column, field in zip(columns, SCHEMA, strict=True)]
        table = pa.Table.from_arrays(arrays, schema=SCHEMA.with_metadata(metadata))
        with whole(path) as sink, pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)

    @classmethod
    def load(cls, path: Path, tokenizer: T5Tokenizer) -> Book:
        """Read and verify a book. Raises ValueError for another version or a broken book."""
        beat(f"reading {path}")
        if not path.is_file():
            raise ValueError(f"no ID book at {path}; make one with `idgenrec ids`")
        try:
            with pa.memory_map(str(path)) as source:
                table = pa.ipc.open_file(source).read_all()
        except pa.ArrowInvalid as error:
            raise ValueError(f"{path} is no ID book ({error}); make one with `idgenrec ids`") from error
        metadata = {key.decode(): value.decode() for key, value in (table.schema.metadata or {}).items()}
        if metadata.get("version") != VERSION:
            raise ValueError(f"{path} is an ID book of version {metadata.get('version')}; this release reads {VERSION}")
        column = {name: table.column(name) for name in SCHEMA.names}
        book = cls(
            items=column["item"].to_pylist(),
            texts=column["text"].to_pylist(),
            token_ids=[np.asarray(ids, dtype=np.int32) for ids in column["token_ids"].to_pylist()],
            attempt=column["attempt"].to_numpy(),
            tier=column["tier"].to_numpy(),
            suffixed=column["suffixed"].to_numpy(),
            generator_hash=metadata["generator_hash"],
            tokenizer_fingerprint=metadata["tokenizer_fingerprint"],
            options=json.loads(metadata["options"]),
        )
        try:
            book.verify(tokenizer)
        except ValueError as error:
            if book.tokenizer_fingerprint == fingerprint(tokenizer):
                raise
            raise ValueError(
                f"{path} was made with another tokenizer; give the shards or the checkpoint that it was made for"
            ) from error
        return book
