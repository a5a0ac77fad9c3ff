"""The configuration of the `ids` job."""

from __future__ import annotations

from dataclasses import dataclass, field

from pretrain.config.ids import IdConfig
from shards.bounds import Count, check


@dataclass(frozen=True)
class IdsConfig:
    """The book of one catalogue."""

    generator: str
    """A run (its best checkpoint's generator), a generator folder, or any Hugging Face T5 of the shards' tokenizer."""
    shards: str
    """Shard folder, made by `idgenrec shard`."""
    out: str
    """The book's file; must not exist."""
    catalogue: str = "train"
    """"train" (the whole Fusion) or one data set of the shard folder."""
    extend: str | None = None
    """An older book of the same generator: its items keep their IDs, the others get one."""
    ids: IdConfig = field(default_factory=IdConfig)
    threads: Count = 1
    """CPU threads per rank."""

    def __post_init__(self) -> None:
        check(self)
