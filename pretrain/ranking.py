"""Histories to ranked lists through trie and beam: the recommender at work.

Enters: a recommender, an ID book with the rows of one catalogue, histories of item rows. Leaves: a Ranking. Used for
validation here and by the judge upstairs. Must hold: the target is no argument, so no list can depend on it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from transformers import T5ForConditionalGeneration
from transformers.models.t5.tokenization_t5 import T5Tokenizer

from pretrain.batches import text_batch
from pretrain.config import PromptConfig, SearchConfig
from pretrain.decoding.constrained import beam_search
from pretrain.decoding.decoder import T5Decoder
from pretrain.decoding.trie import Trie
from pretrain.metrics import Ranking
from pretrain.prompts import PromptBuilder, told_items
from shards.tables import ItemTable
from shards.tokenizer import EOS_ID

EVALUATION_TEMPLATE = 0


class GenerativeRecommender:
    """Beam search over the catalogue's trie for each history; scores are log-probabilities (equation 3)."""

    def __init__(
        self,
        name: str,
        model: T5ForConditionalGeneration,
        tokenizer: T5Tokenizer,
        token_ids: Sequence[np.ndarray],
        prompt: PromptConfig,
        search: SearchConfig,
        batch_size: int = 32,
        progress: Callable[[int], None] = lambda done: None,
        candidates: np.ndarray | None = None,
        items: ItemTable | None = None,
    ) -> None:
        """`token_ids`: the IDs of the whole catalogue, by row; `candidates`: the rows that may be listed, ascending
        (None: all); `items`: the catalogue's texts, needed where `prompt.history` is "texts"."""
        self.name, self.search, self.batch_size, self.progress = name, search, batch_size, progress
        self.model = model.eval()
        self.told = told_items(prompt, token_ids, items)
        self.prompts = PromptBuilder(tokenizer, prompt)
        device = next(model.parameters()).device
        self.decoder = T5Decoder(model)
        rows = range(len(token_ids)) if candidates is None else candidates.tolist()
        ids = [token_ids[row] for row in rows]
        self.trie = Trie.build(ids, EOS_ID, self.decoder.vocab_size, rows=candidates).to(device)

    def inputs(self, histories: list[np.ndarray]) -> list[np.ndarray]:
        """What the model reads for each history of item rows: the tokens of its prompt."""
        return [
            self.prompts.build([self.told[row] for row in history], EVALUATION_TEMPLATE).tokens_S
            for history in histories
        ]

    def rank(self, histories: list[np.ndarray], exclude_history: bool) -> Ranking:
        """Lists of up to `search.length` items for each history of item rows (oldest first)."""
        items_NK = np.full((len(histories), self.search.length), -1, dtype=np.int64)
        scores_NK = np.full(items_NK.shape, -np.inf)
        prompts = self.inputs(histories)
        order = sorted(range(len(histories)), key=lambda index: (len(prompts[index]), index))
        device = self.trie.device
        for start in range(0, len(order), self.batch_size):
            chosen = order[start : start + self.batch_size]
            batch = text_batch([prompts[index] for index in chosen], [[]] * len(chosen), self.prompts.eos).to(device)
            encoded_BSE = self.decoder.encode(batch.input_ids_BS, batch.mask_BS)
            state = self.decoder.start(encoded_BSE, batch.mask_BS)
            excluded = [histories[index] for index in chosen] if exclude_history else None
            lists = beam_search(self.decoder, state, self.trie, self.search, excluded)
            items_NK[chosen] = lists.items_BK.cpu().numpy()
            scores_NK[chosen] = lists.scores_BK.cpu().numpy()
            self.progress(start + len(chosen))
        return Ranking(scores_NK, items_NK)
