"""The ten prompt templates as token segments with one slot for the history (section 2.1), and one for the user's ID.

Enters: the token ids of a history's IDs, or of its items' texts, and of the user's ID. Leaves: the token ids of the
prompt and, for every position, which token of which item stands there. Must hold: segments are tokenised once and IDs
never again as text, so an ID keeps its canonical tokens and soft IDs can be put exactly where the discrete ones stand.
No template names the data set.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from transformers.models.t5.tokenization_t5 import T5Tokenizer

from pretrain.config.prompt import SEPARATOR, TEMPLATES, USER, PromptConfig
from shards.tables import ItemTable
from shards.tokenizer import EOS_ID


@dataclass(frozen=True)
class Prompt:
    """`tokens_S`: token ids with EOS. `item_S`: index into the history of the item whose token stands there, or -1.
    `offset_S`: the token's place inside the item's ID or text."""

    tokens_S: np.ndarray
    item_S: np.ndarray
    offset_S: np.ndarray


class ItemTexts(Sequence[np.ndarray]):
    """The first `length` tokens of each item's text, by row."""

    def __init__(self, items: ItemTable, length: int) -> None:
        self.items, self.length = items, length

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, row: int) -> np.ndarray:  # type: ignore[override]
        return self.items.tokens(row)[: self.length]


def told_items(config: PromptConfig, token_ids: Sequence[np.ndarray], items: ItemTable | None) -> Sequence[np.ndarray]:
    """The tokens that stand in a prompt for each item, by row: those of its ID, or of its text where the histories are
    texts (then `items` must be given)."""
    if config.history == "ids":
        return token_ids
    assert items is not None and len(items) == len(token_ids), "texts of the same catalogue"
    return ItemTexts(items, config.item_tokens)


def first_that_fits(lengths: Sequence[int], separator: int, room: int, most: int) -> int:
    """Where the newest pieces begin, whole, at most `most` of them, that have room with separators between them."""
    first = max(0, len(lengths) - most)
    while first < len(lengths) and sum(lengths[first:]) + separator * (len(lengths) - first - 1) > room:
        first += 1
    return first


class PromptBuilder:
    """Assembles prompts from tokenised segments."""

    def __init__(self, tokenizer: T5Tokenizer, config: PromptConfig) -> None:
        self.config = config
        self.eos: int = EOS_ID
        self.separator = self._encode(tokenizer, SEPARATOR)
        self.segments = [(self._encode(tokenizer, a), self._encode(tokenizer, b)) for a, b in TEMPLATES]
        self.user = [self._encode(tokenizer, part) for part in USER]
        shortest = max(len(before) + len(after) for before, after in self.segments) + 1
        if config.user_id != "none":
            shortest += sum(map(len, self.user)) + config.user_tokens
        if config.max_tokens <= shortest:
            raise ValueError(f"prompt.max_tokens is {config.max_tokens}; the templates alone need {shortest}")
        if config.history == "texts" and config.max_tokens < shortest + config.item_tokens:
            raise ValueError(
                f"prompt.max_tokens is {config.max_tokens}; the templates and one text of prompt.item_tokens need "
                f"{shortest + config.item_tokens}"
            )

    @staticmethod
    def _encode(tokenizer: T5Tokenizer, text: str) -> list[int]:
        return list(tokenizer(text, add_special_tokens=False)["input_ids"])

    def build(self, history: list[np.ndarray], template: int, user: np.ndarray | None = None) -> Prompt:
        """The prompt of a history of IDs or texts (token ids each, oldest first) and of the user's ID, if there is one.

        Whole oldest items are dropped until the prompt fits; `item_S` counts in the history as given.
        """
        before, after = self.segments[template]
        if user is not None and len(user):
            before = [*self.user[0], *user.tolist(), *self.user[1], *before]
        room = self.config.max_tokens - len(before) - len(after) - 1
        lengths = [len(ids) for ids in history]
        first = first_that_fits(lengths, len(self.separator), room, self.config.max_history)
        if self.config.user_id == "alone":
            first = len(history)
        tokens, item, offset = list(before), [-1] * len(before), [0] * len(before)
        for index in range(first, len(history)):
            if index > first:
                tokens += self.separator
                item += [-1] * len(self.separator)
                offset += [0] * len(self.separator)
            ids = history[index].tolist()
            tokens += ids
            item += [index] * len(ids)
            offset += range(len(ids))
        tail = [*after, self.eos]
        return Prompt(np.array(tokens + tail), np.array(item + [-1] * len(tail)), np.array(offset + [0] * len(tail)))
