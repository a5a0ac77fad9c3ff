"""User IDs: a few words on what a customer has bought, by the ID generator (section 2.1, Figure 2; Table 6).

Enters: the generator, the texts of a catalogue, histories of item rows. Leaves: the token ids of one ID for each
history. Must hold: only the given items are read, so that no target can be; IDs are canonical, and not forced unique;
the same list of histories gives the same IDs, to the bit.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from transformers.generation.configuration_utils import GenerationConfig
from transformers.models.t5.modeling_t5 import T5ForConditionalGeneration
from transformers.models.t5.tokenization_t5 import T5Tokenizer

from pretrain.config.prompt import SEPARATOR, PromptConfig
from pretrain.data.batches import text_batch
from pretrain.data.prompts import ItemTexts, first_that_fits
from pretrain.ids.book import canonical
from pretrain.ids.writer import cut_to_word, greedy, vocabulary_masks
from pretrain.model.t5 import content_hash
from pretrain.runtime.watchdog import beat
from shards.tables import ItemTable
from shards.tokenizer import EOS_ID, UNK_ID

NOBODY = np.zeros(0, dtype=np.int32)


class UserIds:
    """A generator in eval mode that writes, greedily, about the histories of one catalogue."""

    def __init__(
        self, generator: T5ForConditionalGeneration, tokenizer: T5Tokenizer, items: ItemTable, prompt: PromptConfig,
        rows_per_call: int = 32,
    ) -> None:  # fmt: skip
        self.generator: Any = generator.eval()
        self.tokenizer, self.prompt = tokenizer, prompt
        self.texts, self.rows_per_call = ItemTexts(items, prompt.item_tokens), rows_per_call
        self.separator = list(tokenizer(SEPARATOR, add_special_tokens=False)["input_ids"])
        self.word_start_V = vocabulary_masks(tokenizer, generator)[0]
        self.search = GenerationConfig(**greedy(tokenizer, generator, prompt.user_tokens))

    def write(self, histories: Sequence[np.ndarray]) -> list[np.ndarray]:
        """The ID of whoever has each history (item rows, oldest first): int32 token ids, at most `prompt.user_tokens`;
        empty for an empty history, and where nothing was written that could be an ID."""
        asked = [index for index, history in enumerate(histories) if len(history)]
        names_N = [NOBODY] * len(histories)
        for first in range(0, len(asked), self.rows_per_call):
            beat(f"users' IDs, {first:,} of {len(asked):,} written")
            chosen = asked[first : first + self.rows_per_call]
            for index, tokens in zip(chosen, self._write([histories[index] for index in chosen]), strict=True):
                names_N[index] = tokens
        return names_N

    def identity(self) -> str:
        """A hash of what an ID depends on beside the prompt's options and the tokenizer."""
        digest = hashlib.sha256(content_hash(self.generator).encode())
        for row in range(len(self.texts)):
            text = self.texts[row]
            digest.update(len(text).to_bytes(4, "little") + np.asarray(text, dtype="<i4").tobytes())
        return digest.hexdigest()

    def text_of(self, history: np.ndarray) -> list[int]:
        """What the generator reads: the newest items' texts, as many as a prompt has room for, and EOS."""
        texts = [self.texts[row] for row in history[-self.prompt.max_history :]]
        lengths = [len(text) for text in texts]
        first = first_that_fits(lengths, len(self.separator), self.prompt.max_tokens - 1, self.prompt.max_history)
        tokens: list[int] = []
        for text in texts[first:]:
            tokens += [*(self.separator if tokens else ()), *text.tolist()]
        return [*tokens, EOS_ID]

    @torch.inference_mode()
    def _write(self, histories: list[np.ndarray]) -> list[np.ndarray]:
        batch = text_batch([self.text_of(history) for history in histories], [[]] * len(histories), EOS_ID)
        batch = batch.to(self.generator.device)
        written_BT = self.generator.generate(
            input_ids=batch.input_ids_BS, attention_mask=batch.mask_BS, generation_config=self.search
        )
        cut = [cut_to_word(tokens_T[1:], EOS_ID, self.word_start_V) for tokens_T in written_BT.cpu().numpy()]
        _, encoded = canonical(self.tokenizer, self.tokenizer.batch_decode(cut, skip_special_tokens=True))
        # A word that the tokenizer lacks says nothing.
        return [self._bounded([token for token in ids if token != UNK_ID]) for ids in encoded]

    def _bounded(self, ids: list[int]) -> np.ndarray:
        """Whole words within the limit: when they are normalised they may be more tokens than were written."""
        if len(ids) > self.prompt.user_tokens:
            ids = cut_to_word(np.array(ids[: self.prompt.user_tokens + 1]), EOS_ID, self.word_start_V)
        return np.array(ids, dtype=np.int32)
