"""IDs that no generator writes: controls for what the generator's are worth.

Enters: item texts. Leaves: candidates for the same reconciliation. Must hold: a function of the item, its attempt
and the tokenizer alone, so that ranks and order change no ID.

"titles" copies the first words of an item, as many as a length tier holds; "random-words" draws as many words as IDs
usually have from a list of words that say nothing of the item.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from transformers.models.t5.modeling_t5 import T5ForConditionalGeneration
from transformers.models.t5.tokenization_t5 import T5Tokenizer

from pretrain.config.ids import IdConfig
from pretrain.ids.assign import Candidate, candidate_of
from pretrain.ids.blocks import Block, Layout
from pretrain.ids.book import canonical
from pretrain.ids.writer import Writer, cut_to_word
from shards import counters
from shards.tables import ItemTable
from shards.text import field_values
from shards.tokenizer import EOS_ID, UNK_ID

RANDOM_WORDS = 3
"""Words of a random ID."""


class ControlIdWriter(Writer):
    """Writes without a model; of the generator only the vocabulary is looked at."""

    def __init__(
        self, generator: T5ForConditionalGeneration, tokenizer: T5Tokenizer, items: ItemTable, layout: Layout,
        config: IdConfig, attempts: Callable[[int], int],
    ) -> None:  # fmt: skip
        super().__init__(generator, tokenizer, items, layout, config, attempts)
        # Whole words of letters, in the order of the vocabulary: the same for every catalogue.
        pieces = sorted(tokenizer.get_vocab().items(), key=lambda entry: entry[1])
        self.words = [piece[1:] for piece, _ in pieces if piece[:1] == "▁" and piece[1:].isalpha()]

    def write(self, block: Block) -> list[tuple[int, list[Candidate]]]:
        """One candidate an item: its title at the first attempt of a tier, other words at each attempt."""
        rows = [int(row) for row in block.rows_B if row >= 0]
        texts = [self._text(row) for row in rows]
        shortest, longest = self.config.tier_range(block.tier)
        written = []
        for row, ids in zip(rows, canonical(self.tokenizer, texts)[1], strict=True):
            cut = list(ids)
            if len(ids) > longest:
                cut = cut_to_word(np.array(ids[: longest + 1]), EOS_ID, self.word_start_V)
            [again] = canonical(self.tokenizer, self.tokenizer.batch_decode([cut]))[1]
            valid = shortest <= len(again) <= longest and UNK_ID not in again
            written.append((row, [candidate_of(again)] if valid else []))
        return written

    def _text(self, row: int) -> str:
        attempt = self.attempts(row)
        if self.config.form == "titles":
            return " ".join(field_values(self.items.texts[row])) if attempt % self.config.num_penalties == 0 else ""
        draw = counters.generator(0, "random words", self.items.items[row], attempt)
        return " ".join(self.words[index] for index in draw.integers(len(self.words), size=RANDOM_WORDS))


def writer_of(config: IdConfig) -> type[Writer]:
    """Who writes candidates of this form."""
    return Writer if config.form == "generated" else ControlIdWriter
