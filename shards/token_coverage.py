"""What a model can read of item texts: which items say nothing to it, and how many tokens it does not know.

Enter texts, their token ids and the tokenizer; leaves a `TokenCoverage`. It must hold that the build, the data card,
the audit and `recommend` count alike, and that a script outside the vocabulary, of which only `<unk>` is left, counts
as no text.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from shards.text import is_missing
from shards.tokenizer import UNK_ID, encode_texts

if TYPE_CHECKING:
    from transformers.models.t5.tokenization_t5 import T5Tokenizer as T5TokenizerFast

# Ids that do not meet (leading zeros, an asin against a parent_asin, the metadata of another category) leave next to
# none; a catalogue of which nine items in ten say nothing cannot be recommended from by its words.
MIN_SHARE_WITH_TEXT = 0.1


@dataclass(frozen=True)
class TokenCoverage:
    """bare: of each item whether it has no text that can be read. tokens, unknown: of all texts, `<unk>` among them."""

    bare: list[bool]
    tokens: int
    unknown: int


def token_coverage(
    tokenizer: "T5TokenizerFast", texts: Sequence[str], token_ids: Sequence[Sequence[int]]
) -> TokenCoverage:
    """Counts of these texts, whose token ids are given."""
    bare: list[bool] = []
    suspects: list[int] = []
    for row, (text, ids) in enumerate(zip(texts, token_ids, strict=True)):
        bare.append(not values(text))
        if not bare[-1] and UNK_ID in ids:
            suspects.append(row)
    # Without field names, which are known whatever the language of the values.
    left = encode_texts(tokenizer, [" ".join(values(texts[row])) for row in suspects])
    for row, ids in zip(suspects, left, strict=True):
        pieces = (tokenizer.convert_ids_to_tokens(token) for token in ids if token != UNK_ID)
        bare[row] = is_missing("".join(map(str, pieces)))
    return TokenCoverage(bare, sum(map(len, token_ids)), sum(list(ids).count(UNK_ID) for ids in token_ids))


def values(text: str) -> list[str]:
    """The values of a text's fields, without those that are missing."""
    stripped = [part.split(":", 1)[-1].strip() for part in text.split(";")]
    return [value for value in stripped if not is_missing(value.lower())]


def share(unknown: int, tokens: int) -> str:
    """Of the tokens that are unknown, for a person."""
    if not unknown:
        return "none"
    return f"{unknown / tokens:.1%}" if unknown / tokens >= 0.001 else "under 0.1%"


def refuse_few_texts(name: str, bare: int, items: int, why: str) -> None:
    """ValueError where too few items of a data set have a text."""
    if items - bare < MIN_SHARE_WITH_TEXT * items:
        raise ValueError(
            f"{name}: {items - bare:,} of {items:,} items have a text, fewer than {MIN_SHARE_WITH_TEXT:.0%}; {why}"
        )
