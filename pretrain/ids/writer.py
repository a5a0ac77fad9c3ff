"""The ID generator at work: blocks of items in, each item's candidate IDs out.

Enters: a frozen generator, the items and their layout. Leaves: canonical candidates in the order of the groups. Must
hold: an item's candidates are a pure function of (generator, text, attempt, row and shape of the call, threads, device
kind), whoever else is in the call and whether the encoder's output was kept or is made again, to the bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers.models.t5.modeling_t5 import T5ForConditionalGeneration
from transformers.models.t5.tokenization_t5 import T5Tokenizer

from pretrain.config.ids import IdConfig
from pretrain.decoding.decoder import T5Decoder
from pretrain.decoding.diverse import Diverse, DiverseConfig, diverse_search
from pretrain.ids.assign import Candidate, candidate_of, tokens_of
from pretrain.ids.blocks import SUFFIXES_PER_ATTEMPT, Block, Layout, attempt_of
from pretrain.ids.book import canonical
from shards.tables import ItemTable
from shards.tokenizer import EOS_ID, PAD_ID, UNK_ID


class Writer:
    """A generator in eval mode over one catalogue; `attempts(row)` says how often it was asked about an item."""

    def __init__(
        self, generator: T5ForConditionalGeneration, tokenizer: T5Tokenizer, items: ItemTable, layout: Layout,
        config: IdConfig, attempts: Callable[[int], int],
    ) -> None:  # fmt: skip
        self.tokenizer, self.items, self.layout, self.config = tokenizer, items, layout, config
        self.attempts = attempts
        self.decoder = T5Decoder(generator)
        self.word_start_V, forbidden_V = vocabulary_masks(tokenizer, generator)
        self.barred_N = forbidden_V.nonzero().squeeze(1)
        self.encoded: dict[int, Tensor] = {}
        self.cache_bytes = 0

    def write(self, block: Block) -> list[tuple[int, list[Candidate]]]:
        """Each item's candidates, in the order of the groups, those that are no ID left out."""
        shortest, longest = self.config.tier_range(block.tier)
        rows = [int(row) for row in block.rows_B if row >= 0]
        tokens_NT = self.search(block).tokens_BGKT[:, :, 0].cpu().numpy()[block.rows_B >= 0].reshape(-1, longest + 1)
        cut = [cut_to_word(tokens_T, EOS_ID, self.word_start_V) for tokens_T in tokens_NT]
        _, encoded = canonical(self.tokenizer, self.tokenizer.batch_decode(cut, skip_special_tokens=True))
        valid = [candidate_of(ids) if len(ids) >= shortest and UNK_ID not in ids else None for ids in encoded]
        groups = self.config.groups
        return [
            (row, [candidate for candidate in valid[index * groups : (index + 1) * groups] if candidate])
            for index, row in enumerate(rows)
        ]

    def search(self, block: Block) -> Diverse:
        """Diverse beam search of one block, each item with the penalty of its next attempt."""
        config = self.config
        tries = [attempt_of(self.attempts(row), config) if row >= 0 else None for row in block.rows_B.tolist()]
        encoded_BSE, mask_BS = self._read(block)
        penalty_B = torch.tensor([0.0 if attempt is None else attempt.penalty for attempt in tries])
        return diverse_search(
            self.decoder, self.decoder.start(encoded_BSE, mask_BS), penalty_B.to(mask_BS.device),
            DiverseConfig(config.groups, *config.tier_range(block.tier), EOS_ID, self.barred_N)
        )  # fmt: skip

    def suffixed(self, row: int, first: Candidate | None) -> list[Candidate]:
        """`<base> 2`, `<base> 3`, ...: base is the first candidate that was written, else the first words of the text,
        else "item". Raises ValueError for a tokenizer that cannot write numbers."""
        start = attempt_of(self.attempts(row), self.config).first_suffix
        assert start is not None
        if first is not None:
            base = self.tokenizer.decode(tokens_of(first).tolist())
        else:
            words, encoded = canonical(self.tokenizer, [" ".join(self.items.texts[row].split()[:4])])
            base = words[0] if encoded[0] and UNK_ID not in encoded[0] else "item"
        numbers = range(start, start + SUFFIXES_PER_ATTEMPT)
        _, encoded = canonical(self.tokenizer, [f"{base} {number}" for number in numbers])
        candidates = [candidate_of(ids) for ids in encoded if ids and UNK_ID not in ids]
        if not candidates:
            raise ValueError(
                f"item {self.items.items[row]} needs a number in its ID ('{base} {start}') and the tokenizer has no "
                "pieces for digits; build the shards with a tokenizer that has them"
            )
        return candidates

    def keep_only(self, rows: Iterable[int]) -> None:
        """Forget the encoder's output of all other items."""
        self.encoded = {row: self.encoded[row] for row in rows if row in self.encoded}
        self.cache_bytes = sum(states.nbytes for states in self.encoded.values())

    def _read(self, block: Block) -> tuple[Tensor, Tensor]:
        """The encoder's output for a block, [B, S, E], zero where there is no text, and its mask.

        Texts are always encoded at their own row of a first call, also when they are read again for a later attempt.
        """
        rows = [int(row) for row in block.rows_B if row >= 0]
        fresh: dict[int, Tensor] = {}
        for _, rows_B in self.layout.blocks((row for row in rows if row not in self.encoded), self.config.block_size):
            ids_BS, mask_BS = self._texts(rows_B, block.width)
            encoded_BSE = self.decoder.encode(ids_BS, mask_BS)
            lengths = mask_BS.sum(1).tolist()
            fresh |= {int(row): encoded_BSE[i, : lengths[i]].clone() for i, row in enumerate(rows_B) if row >= 0}
        for row, states in fresh.items():
            if self.cache_bytes + states.nbytes <= self.config.encoder_cache_gb * 1e9:
                self.encoded[row] = states
                self.cache_bytes += states.nbytes
        _, mask_BS = self._texts(block.rows_B, block.width)
        like = next(iter(fresh.values())) if fresh else self.encoded[rows[0]]
        encoded_BSE = like.new_zeros(len(block.rows_B), block.width, like.shape[1])
        for index, row in enumerate(block.rows_B.tolist()):
            if row >= 0:
                states = fresh[row] if row in fresh else self.encoded[row]
                encoded_BSE[index, : len(states)] = states
        return encoded_BSE, mask_BS

    def _texts(self, rows_B: np.ndarray, width: int) -> tuple[Tensor, Tensor]:
        """Token ids and mask of the items' texts, [B, width]; a row without an item is one token of padding, read."""
        ids_BS = np.full((len(rows_B), width), PAD_ID, dtype=np.int64)
        mask_BS = np.zeros((len(rows_B), width), dtype=np.int64)
        mask_BS[:, 0] = 1
        for index, row in enumerate(rows_B.tolist()):
            if row >= 0:
                text = self.items.tokens(row)[: self.config.item_text_tokens - 1]
                ids_BS[index, : len(text) + 1] = [*text, EOS_ID]
                mask_BS[index, : len(text) + 1] = 1
        device = self.barred_N.device
        return torch.from_numpy(ids_BS).to(device), torch.from_numpy(mask_BS).to(device)


def cut_to_word(tokens_T: np.ndarray, eos: int, word_start_V: np.ndarray) -> list[int]:
    """Tokens before EOS; at the cap, back to the last position whose next piece starts a word (or is EOS)."""
    ends = np.flatnonzero(tokens_T == eos)
    if len(ends):
        return tokens_T[: ends[0]].tolist()
    starts = np.flatnonzero(word_start_V[tokens_T])
    return tokens_T[: starts[-1]].tolist() if len(starts) else []


def greedy(tokenizer: T5Tokenizer, generator: T5ForConditionalGeneration, tokens: int) -> dict[str, Any]:
    """Options of transformers' `generate` to write the first group of diverse beam search: greedy, up to `tokens` and
    one more, which tells whether the last word is whole, and never a token that can be in no ID."""
    barred_V = vocabulary_masks(tokenizer, generator)[1]
    return {
        "pad_token_id": PAD_ID,
        "eos_token_id": EOS_ID,
        "decoder_start_token_id": generator.config.decoder_start_token_id,
        "min_new_tokens": 1,
        "max_new_tokens": tokens + 1,
        "suppress_tokens": barred_V.nonzero().squeeze(1).tolist(),
    }


def vocabulary_masks(tokenizer: T5Tokenizer, generator: T5ForConditionalGeneration) -> tuple[np.ndarray, Tensor]:
    """Which tokens start a word (or end the ID); which are never taken: pad, `<unk>`, extra ids, padding rows."""
    size = generator.config.vocab_size
    word_start_V = np.zeros(size, dtype=bool)
    forbidden_V = torch.ones(size, dtype=torch.bool, device=next(generator.parameters()).device)
    special = set(tokenizer.all_special_ids)
    for piece, index in tokenizer.get_vocab().items():
        if index < size and index not in special:
            word_start_V[index] = piece.startswith("▁")
            forbidden_V[index] = False
    word_start_V[EOS_ID] = True
    forbidden_V[EOS_ID] = False
    return word_start_V, forbidden_V
