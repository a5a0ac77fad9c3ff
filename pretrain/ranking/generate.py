"""Histories to ranked lists through trie and beam: the recommender at work.

Enters: a recommender, an ID book with the rows of one catalogue, histories of item rows. Leaves: a Ranking. Used for
validation here and by the judge upstairs. Must hold: the target is no argument, so no list can depend on it; histories
that come sorted by the length of their prompts are asked in calls of `batch_size`, from the first on, so that blocks of
a multiple of that give the same bits however many there are.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import torch
from transformers.models.t5.modeling_t5 import T5ForConditionalGeneration
from transformers.models.t5.tokenization_t5 import T5Tokenizer

from pretrain.config.prompt import PromptConfig
from pretrain.data.batches import TextBatch, text_batch
from pretrain.data.prompts import PromptBuilder, told_items
from pretrain.data.user_ids import UserIds
from pretrain.decoding.config import SearchConfig
from pretrain.decoding.constrained import beam_search
from pretrain.decoding.decoder import T5Decoder
from pretrain.decoding.prior import catalogue_prior
from pretrain.decoding.trie import Trie
from pretrain.model.t5 import content_hash
from pretrain.ranking.metrics import Ranking
from pretrain.runtime.watchdog import beat
from pretrain.runtime.world import World
from shards.tables import ItemTable
from shards.tokenizer import EOS_ID

EVALUATION_TEMPLATE = 0


class Worth(Protocol):
    """What each item is worth beside the model: added to its score."""

    def __call__(self, histories: list[np.ndarray]) -> np.ndarray:
        """Of all items of the catalogue after each history, [N, I]."""
        ...

    def identity(self) -> str:
        """A hash of all that it depends on."""
        ...


def prior_of(
    model: T5ForConditionalGeneration, tokenizer: T5Tokenizer, token_ids: Sequence[np.ndarray], prompt: PromptConfig,
    search: SearchConfig, world: World | None = None, template: int = EVALUATION_TEMPLATE,
) -> list[np.ndarray] | None:  # fmt: skip
    """Log-probabilities of all IDs after an empty history, where the search takes a share of them away, else None. With
    a World they are shared out over its ranks; collective then."""
    if not search.prior_weight:
        return None
    nothing_S = PromptBuilder(tokenizer, prompt).build([], template).tokens_S
    return catalogue_prior(T5Decoder(model.eval()), nothing_S, token_ids, EOS_ID, world)


class GenerativeRecommender:
    """Beam search over the catalogue's trie for each history; scores are log-probabilities (equation 3), less
    a share of the prior and with what items are worth besides, where asked for."""

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
        template: int = EVALUATION_TEMPLATE,
        log_prior: Sequence[np.ndarray] | None = None,
        worth: Worth | None = None,
        never_repeat: bool = False,
        generator: T5ForConditionalGeneration | None = None,
    ) -> None:
        """`token_ids`: the IDs of the whole catalogue, by row; `candidates`: the rows that may be listed, ascending
        (None: all); `items`: the catalogue's texts, needed where `prompt.history` is "texts" or a user's ID is asked
        for (`prompt.user_id`), which `generator` writes then; `template`: which of the ten asks; `log_prior`: what
        `prior_of` says of these IDs, where it is known; `worth`: what is added to the scores; `never_repeat`: no list
        holds an item of its history, asked for or not."""
        self.name, self.search, self.batch_size, self.progress = name, search, batch_size, progress
        self.template, self.token_ids, self.candidates = template, token_ids, candidates
        self.model = model.eval()
        self.told = told_items(prompt, token_ids, items)
        self.prompts = PromptBuilder(tokenizer, prompt)
        self.user_ids: UserIds | None = None
        self.named: tuple[list[np.ndarray], list[np.ndarray]] | None = None
        if prompt.user_id != "none":
            assert generator is not None and items is not None, "users' IDs are written by the generator, from texts"
            self.user_ids = UserIds(generator, tokenizer, items, prompt, batch_size)
        device = next(model.parameters()).device
        self.decoder = T5Decoder(model)
        rows = range(len(token_ids)) if candidates is None else candidates.tolist()
        ids = [token_ids[row] for row in rows]
        self.last: tuple[TextBatch, torch.Tensor] | None = None
        self.never_repeat = never_repeat
        self.answered: tuple[list[np.ndarray], Ranking] | None = None
        self.worth, weights = worth, None
        if log_prior is None:
            log_prior = prior_of(model, tokenizer, token_ids, prompt, search, template=template)
        if log_prior is not None:
            weights = [-search.prior_weight * log_prior[row] for row in rows]
        self.trie = Trie.build(ids, EOS_ID, self.decoder.vocab_size, weights, candidates).to(device)

    def inputs(self, histories: list[np.ndarray]) -> list[np.ndarray]:
        """What the model reads for each history of item rows: the tokens of its prompt."""
        return [self._prompt(history, user) for history, user in zip(histories, self._users(histories), strict=True)]

    def rank(self, histories: list[np.ndarray], exclude_history: bool) -> Ranking:
        """Lists of up to `search.length` items for each history of item rows (oldest first)."""
        if not self.never_repeat:
            return self._search(histories, exclude_history)
        # Both protocols have the same lists then, and one asks right after the other. Kept for one question alone, so
        # that an audit that asks twice gets two answers.
        kept, self.answered = self.answered, None
        if kept is not None and len(kept[0]) == len(histories) and all(map(np.array_equal, kept[0], histories)):
            return kept[1]
        ranking = self._search(histories, True)
        self.answered = [history.copy() for history in histories], ranking
        return ranking

    def _search(self, histories: list[np.ndarray], exclude_history: bool) -> Ranking:
        items_NK = np.full((len(histories), self.search.length), -1, dtype=np.int64)
        scores_NK = np.full(items_NK.shape, -np.inf)
        prompts = self.inputs(histories)
        order = sorted(range(len(histories)), key=lambda index: (len(prompts[index]), index))
        device = self.trie.device
        for start in range(0, len(order), self.batch_size):
            chosen = order[start : start + self.batch_size]
            batch = text_batch([prompts[index] for index in chosen], [[]] * len(chosen), self.prompts.eos).to(device)
            encoded_BSE = self._encoded(batch)
            state = self.decoder.start(encoded_BSE, batch.mask_BS)
            excluded = [histories[index] for index in chosen] if exclude_history else None
            worth_BI = None
            if self.worth is not None:
                worth_BI = torch.from_numpy(self.worth([histories[index] for index in chosen])).to(device)
            lists = beam_search(self.decoder, state, self.trie, self.search, excluded, bonus_BI=worth_BI)
            items_NK[chosen] = lists.items_BK.cpu().numpy()
            scores_NK[chosen] = lists.scores_BK.cpu().numpy()
            self.progress(start + len(chosen))
            beat(f"{self.name}, {start + len(chosen):,} of {len(order):,} users ranked")
        return Ranking(scores_NK, items_NK)

    def _encoded(self, batch: TextBatch) -> torch.Tensor:
        """What the encoder makes of a call; kept until the next, because the other protocol asks the same again."""
        if self.last is None or not torch.equal(self.last[0].input_ids_BS, batch.input_ids_BS):
            self.last = None  # before the next one is made
            self.last = batch, self.decoder.encode(batch.input_ids_BS, batch.mask_BS)
        return self.last[1]

    def input_lengths(self, histories: list[np.ndarray]) -> np.ndarray:
        """Tokens of each history's prompt, a user's ID left out, which would have to be written."""
        return np.array([len(self._prompt(history, None)) for history in histories], dtype=np.int64)

    def identity(self) -> str:
        """A hash of everything that a list depends on, down to the bit: model, IDs, texts, prompt, search, calls and
        what computes them."""
        device, prompts = self.trie.device, self.prompts
        kind = torch.cuda.get_device_name(device) if device.type == "cuda" else torch.backends.cpu.get_cpu_capability()
        facts = [
            content_hash(self.model), self.model.config.to_json_string(), dataclasses.asdict(prompts.config),
            prompts.segments[self.template], prompts.separator, dataclasses.asdict(self.search), self.batch_size,
            kind, torch.get_num_threads(), torch.__version__, self.never_repeat,
        ]  # fmt: skip
        digest = hashlib.sha256(json.dumps(facts).encode())
        if self.user_ids is not None:
            digest.update(b"users" + self.user_ids.identity().encode())
        # Where histories are texts, `told` are the texts, and the trie still is of IDs.
        for ids in (*self.token_ids, *(self.told if self.told is not self.token_ids else ())):
            digest.update(len(ids).to_bytes(4, "little") + np.asarray(ids, dtype="<i4").tobytes())
        if self.worth is not None:
            digest.update(b"worth" + self.worth.identity().encode())
        if self.candidates is not None:
            digest.update(b"candidates" + np.asarray(self.candidates, dtype="<i8").tobytes())
        return digest.hexdigest()

    def _users(self, histories: list[np.ndarray]) -> list[np.ndarray] | list[None]:
        """The IDs that name the users; kept until the next question, because the other protocol asks the same again."""
        if self.user_ids is None:
            return [None] * len(histories)
        kept = self.named
        if kept is None or len(kept[0]) != len(histories) or not all(map(np.array_equal, kept[0], histories)):
            kept = self.named = [history.copy() for history in histories], self.user_ids.write(histories)
        return kept[1]

    def _prompt(self, history: np.ndarray, user: np.ndarray | None) -> np.ndarray:
        return self.prompts.build([self.told[row] for row in history], self.template, user).tokens_S
