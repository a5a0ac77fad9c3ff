"""The ten prompt templates, and the options of a prompt: how much of a history stands in it, and whether the user has
an ID.

Must hold: no template names the data set, and evaluation uses the first; the defaults are the paper's, with item IDs
alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from shards.bounds import Count, check

UserId = Literal["none", "with-items", "alone"]
SEPARATOR = ";"
USER = ("user", ":")
"""Before and after a user's ID, which comes first in any template."""
# (before the history, after it); worded by us in the manner of P5's sequential prompts.
TEMPLATES = (
    ("a customer has bought", "what will the customer buy next ?"),
    ("given the purchases", "predict the next item ."),
    ("history :", "next item :"),
    ("these items were chosen one after the other :", "which one follows ?"),
    ("someone who picked", "is likely to pick next"),
    ("purchase record , oldest first :", "continue the record with one item ."),
    ("after", "the following choice would be"),
    ("the shopper's list so far is", "name the item that comes after it ."),
    ("recommend an item to a person who has had", "recommendation :"),
    ("considering the sequence", "guess the item that comes next ."),
)


@dataclass(frozen=True)
class PromptConfig:
    """What a history becomes: its last `max_history` items, cut by whole oldest items to `max_tokens` tokens."""

    max_history: Count = 20
    """Most recent items of a history that are read."""
    max_tokens: Count = 512
    """Longest prompt; whole oldest items are dropped to fit."""
    history: Literal["ids", "texts"] = "ids"
    """What stands for an item of the history: its ID (the paper), or its text. The target is an ID in either case."""
    item_tokens: Count = 32
    """Tokens of an item's text in a history of texts, and in what a user ID is written from."""
    user_id: UserId = "none"
    """An ID of the user, which the ID generator writes from the texts of the history (Table 6): none, before the items
    ("with-items"), or in their stead ("alone")."""
    user_tokens: Count = 9
    """Tokens of a user's ID at most."""

    def __post_init__(self) -> None:
        check(self, lambda name: f"prompt.{name}")


def tokenizer_lines() -> tuple[str, ...]:
    """The templates as lines of text, for a tokenizer that is trained together with the shards."""
    return tuple(f"{before} {SEPARATOR} {SEPARATOR} {after}" for before, after in TEMPLATES)
