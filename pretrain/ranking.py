"""Histories to ranked lists through trie and beam: the recommender at work.

Enters: a recommender, an ID book with the rows of one catalogue, histories of item rows. Leaves: a Ranking. Used for
validation here and by the judge upstairs. Must hold: the target is no argument, so no list can depend on it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from transformers import T5ForConditionalGeneration
from transformers.models.t5.tokenization_t5 import T5Tokenizer

from pretrain.batches import text_batch
from pretrain.config import PromptConfig
from pretrain.decoding.constrained import beam_search
from pretrain.decoding.decoder import T5Decoder
from pretrain.decoding.trie import Trie
from pretrain.metrics import Ranking
from pretrain.prompts import PromptBuilder
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
        beam: int,
        batch_size: int = 16,
        progress: Callable[[int], None] = lambda done: None,
    ) -> None:
        self.name, self.beam, self.batch_size, self.progress = name, beam, batch_size, progress
        self.model = model.eval()
        self.token_ids = token_ids
        self.prompts = PromptBuilder(tokenizer, prompt)
        device = next(model.parameters()).device
        self.trie = Trie.build(list(token_ids), EOS_ID).to(device)
        self.decoder = T5Decoder(model)

    def rank(self, histories: list[np.ndarray], exclude_history: bool) -> Ranking:
        """Lists of up to `beam` items for each history of item rows (oldest first)."""
        items_NK = np.full((len(histories), self.beam), -1, dtype=np.int64)
        scores_NK = np.full((len(histories), self.beam), -np.inf)
        prompts = [
            self.prompts.build([self.token_ids[row] for row in history], EVALUATION_TEMPLATE).tokens_S
            for history in histories
        ]
        order = sorted(range(len(histories)), key=lambda index: (len(prompts[index]), index))
        device = self.trie.token_E.device
        for start in range(0, len(order), self.batch_size):
            chosen = order[start : start + self.batch_size]
            batch = text_batch([prompts[index] for index in chosen], [[]] * len(chosen), self.prompts.eos).to(device)
            state = self.decoder.start(batch.input_ids_BS, batch.mask_BS)
            excluded = [torch.from_numpy(np.unique(histories[i]).astype(np.int64)) for i in chosen]
            lists = beam_search(self.decoder, state, self.trie, self.beam, excluded if exclude_history else None)
            items_NK[chosen] = lists.items_BK.cpu().numpy()
            scores_NK[chosen] = lists.scores_BK.cpu().numpy()
            self.progress(start + len(chosen))
        return Ranking(scores_NK, items_NK)
