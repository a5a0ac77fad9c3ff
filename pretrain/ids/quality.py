"""What the IDs of a book are like, beside the item texts they were written from.

Enters: IDs and item texts by row. Leaves: counts and shares, and lines that say them. Pure: no model, no file.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from shards.text import MISSING


@dataclass(frozen=True)
class Quality:
    """IDs of N items.

    Attributes:
        items: N.
        distinct: different IDs over items; 1 in a book.
        lengths: number of IDs by tokens, EOS not counted.
        leaked: by field name ("title", "brand") and for "na", IDs with that word although no value of the item has it.
        prefix_pairs: pairs of IDs of which one is the beginning of the other, in tokens.
        words_kept: by field, the share of all words of IDs that stand in that field of their item.
        numbers_kept: of the items with a number in their first field, the share whose ID has one of them; None without.
    """

    items: int
    distinct: float
    lengths: dict[int, int]
    leaked: dict[str, int]
    prefix_pairs: int
    words_kept: dict[str, float]
    numbers_kept: float | None

    def lines(self) -> list[str]:
        """The same for people, one line each."""
        total = sum(self.lengths.values())
        lengths = ", ".join(f"{length}: {count / total:.1%}" for length, count in self.lengths.items())
        leaked = ", ".join(f"{name} {count:,}" for name, count in self.leaked.items() if count) or "none"
        by_field = ", ".join(f"{name} {share:.1%}" for name, share in self.words_kept.items())
        numbers = "no item has one" if self.numbers_kept is None else f"{self.numbers_kept:.1%} of the items with one"
        return [
            f"tokens of an ID: {lengths}",
            f"words of IDs by the field they stand in: {by_field}",
            f"numbers kept: {numbers}",
            f"field names that leaked into IDs: {leaked}",
            f"IDs that begin another: {self.prefix_pairs:,} pairs",
        ]


def fields_of(text: str) -> dict[str, str]:
    """The fields of an item text by name, missing ones left out; text without a name counts as `text`."""
    fields: dict[str, str] = {}
    for part in text.split("; "):
        name, colon, value = part.partition(": ")
        name, value = (name, value) if colon else ("text", part)
        if value.strip() != MISSING:
            fields[name] = f"{fields[name]} {value}" if name in fields else value
    return fields


def measure(ids: Sequence[str], token_ids: Sequence[np.ndarray], texts: Sequence[str]) -> Quality:
    """Quality of a book's IDs (`texts`, `token_ids` of a Book) beside the items' texts, all by row."""
    fields = [fields_of(text) for text in texts]
    names = list(dict.fromkeys(part.partition(": ")[0] for text in texts for part in text.split("; ") if ": " in part))
    leaked = dict.fromkeys([*names, MISSING], 0)
    counts: Counter[str] = Counter()
    words_in_all, with_number, number_kept = 0, 0, 0
    for text, own in zip(ids, fields, strict=True):
        words = text.split()
        values = {name: set(re.findall(r"\w+", value.lower())) for name, value in own.items()}
        everything = set().union(*values.values())
        words_in_all += len(words)
        for name, of_field in values.items():
            counts[name] += sum(word in of_field for word in words)
        for word in set(words) & (leaked.keys() - everything):
            leaked[word] += 1
        numbers = {word for word in next(iter(values.values()), set()) if word.isdigit()}
        with_number += bool(numbers)
        number_kept += bool(numbers & set(words))
    return Quality(
        items=len(ids),
        distinct=len({tuple(map(int, tokens)) for tokens in token_ids}) / max(1, len(token_ids)),
        lengths=dict(sorted(Counter(len(tokens) for tokens in token_ids).items())),
        leaked=leaked,
        prefix_pairs=_prefix_pairs(token_ids),
        words_kept={name: counts[name] / max(1, words_in_all) for name in (*names, *(counts.keys() - set(names)))},
        numbers_kept=number_kept / with_number if with_number else None,
    )


def _prefix_pairs(token_ids: Sequence[np.ndarray]) -> int:
    known = {tuple(map(int, tokens)) for tokens in token_ids}
    return sum(tokens[:length] in known for tokens in known for length in range(1, len(tokens)))
