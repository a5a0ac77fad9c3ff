"""The configuration of the `ids` job."""

from __future__ import annotations

from dataclasses import dataclass, field

from pretrain.config import IdConfig


@dataclass(frozen=True)
class IdsConfig:
    """`generator`: a checkpoint's generator folder or any Hugging Face T5. `catalogue`: "train" (the whole Fusion) or
    one data set of the shard folder. `out`: the book's file, must not exist."""

    generator: str
    shards: str
    out: str
    catalogue: str = "train"
    ids: IdConfig = field(default_factory=IdConfig)
    threads: int = 1
