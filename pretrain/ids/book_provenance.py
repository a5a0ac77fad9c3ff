"""Who makes an ID book: all that an item's list of candidates depends on, beside the item.

Enters: a generator, a tokenizer, options. Leaves: a value to compare. Must hold: two makers that are equal write the
same lists, to the last bit; a journal or a book of another maker is not mixed with ours.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from typing import Any

import torch
from transformers.models.t5.modeling_t5 import T5ForConditionalGeneration
from transformers.models.t5.tokenization_t5 import T5Tokenizer

from pretrain.config.ids import IdConfig
from pretrain.ids.book import Book
from pretrain.model.t5 import content_hash
from shards.tables import ItemTable
from shards.tokenizer import fingerprint


@dataclass(frozen=True)
class BookProvenance:
    """Generator, options, and what moves the last bits."""

    generator_hash: str
    tokenizer_fingerprint: str
    options: dict[str, Any]
    threads: int
    device: str
    torch: str

    @classmethod
    def of(cls, generator: T5ForConditionalGeneration, tokenizer: T5Tokenizer, config: IdConfig) -> BookProvenance:
        device = next(generator.parameters()).device
        kind = torch.cuda.get_device_name(device) if device.type == "cuda" else torch.backends.cpu.get_cpu_capability()
        made = content_hash(generator), fingerprint(tokenizer), config.options()
        return cls(*made, torch.get_num_threads(), kind, torch.__version__)

    def identity(self, items: ItemTable) -> str:
        """A hash of this and the catalogue."""
        digest = hashlib.sha256(json.dumps(dataclasses.asdict(self), sort_keys=True).encode())
        for part in ("\0".join(items.items).encode(), items.offsets.tobytes(), items.token_ids.tobytes()):
            digest.update(part)
        return digest.hexdigest()

    def known(self, old: Book | None, items: ItemTable) -> dict[int, int]:
        """Rows of the catalogue that have an ID in an older book -> their row there. Raises ValueError for a book of
        another maker."""
        if old is None:
            return {}
        for difference, theirs, ours in (
            ("another generator", old.generator_hash, self.generator_hash),
            ("another tokenizer", old.tokenizer_fingerprint, self.tokenizer_fingerprint),
            ("other options", old.options, self.options),
        ):
            if theirs != ours:
                raise ValueError(
                    f"the book to extend was made with {difference} ({theirs}, now {ours}); give the same, or make a "
                    "new book of the whole catalogue"
                )
        row_of = {item: row for row, item in enumerate(items.items)}
        return {row_of[item]: index for index, item in enumerate(old.items) if item in row_of}
