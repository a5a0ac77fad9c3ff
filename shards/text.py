"""The text of an item: metadata in, `title: ...; brand: ...; categories: ...` out.

Enter fields by name with values as the raw files hold them (text, numbers, nested lists, null); leaves one line in the
layout of the reference's `item_plain_text.txt`. It must hold that the line is UTF-8 without control characters, that
`;` only parts fields, that a missing value reads `na` (a dash or another lone symbol is missing), and that time and
size stay linear in the input.
"""

import html
import math
import re
from collections.abc import Iterator, Mapping

MISSING = "na"
# An encoder reads 256 tokens of an item: about 64 words of description still fit behind title, brand and categories.
DESCRIPTION_WORDS = 64
# Dirt such as a page's source code in a title must not become the text of an item.
FIELD_CHARACTERS = 1_000
# Raw text looked at; markup can be many times longer than what it leaves.
RAW_CHARACTERS = 50_000
LONG_FIELDS = frozenset({"description"})
MISSING_WORDS = frozenset({"", "na", "n/a", "nan", "none", "null"})
# Pages saved by the crawl of 2018 begin with this script where a title or a price should stand.
CRAWLED_SCRIPT = "getTime("

# An unclosed script or tag reaches to the end of the text, which also keeps the search linear.
_SCRIPT = re.compile(r"<(script|style)\b.*?(?:</\1\s*>|\Z)", re.IGNORECASE | re.DOTALL)
_TAG = re.compile(r"<[/!]?[a-zA-Z!-][^<>]*(?:>|\Z)")
# `html.unescape` raises on numbers of thousands of digits.
_NO_CHARACTER = re.compile(r"&#[0-9]{8,};?")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
# Zero-width, bidirectional and byte-order marks, soft hyphens, and halves of surrogate pairs, which UTF-8 cannot hold.
_INVISIBLE = re.compile("[\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufeff\ud800-\udfff]")


def item_text(fields: Mapping[str, object]) -> str:
    """One line of text: each field in the order given, a missing one as `na`; descriptions stop after 64 words."""
    return "; ".join(f"{name}: {_field(name, value)}" for name, value in fields.items())


def clean_text(value: str) -> str:
    """Lower case, entities unescaped, without tags and control characters, one space between words; missing: empty."""
    value = value[:RAW_CHARACTERS]
    if CRAWLED_SCRIPT in value:
        return ""
    if "&" in value:
        value = _unescape(_unescape(value))  # dumps hold `&amp;amp;`
    if "<" in value:
        value = _TAG.sub(" ", _SCRIPT.sub(" ", value))
    if not value.isprintable():
        value = _INVISIBLE.sub("", _CONTROL.sub(" ", value))
    value = value.replace(";", ",").lower()
    text = " ".join(value.split())[:FIELD_CHARACTERS].strip()
    return "" if is_missing(text) else text


def is_missing(value: str) -> bool:
    """Whether a value says nothing: a word for that, or neither a letter nor a digit (`-`, `--`, `?`, an emoji)."""
    return value in MISSING_WORDS or not any(map(str.isalnum, value))


def field_values(text: str) -> list[str]:
    """The values of a text's fields that say something, in order; a text without fields is one value."""
    values = [part.partition(": ")[2].strip() or part.strip() for part in text.split(";")]
    return [value for value in values if value and value != MISSING]


def _unescape(value: str) -> str:
    return html.unescape(_NO_CHARACTER.sub(" ", value))


def _field(name: str, value: object) -> str:
    parts = list(dict.fromkeys(text for leaf in _leaves(value) if (text := clean_text(leaf))))
    if name in LONG_FIELDS:
        words = " ".join(parts).split()
        return " ".join(words[:DESCRIPTION_WORDS])[:FIELD_CHARACTERS].strip() or MISSING
    return ", ".join(parts)[:FIELD_CHARACTERS].strip(" ,") or MISSING


def _leaves(value: object) -> Iterator[str]:
    """The texts and numbers of a nested list, in order; without recursion, as lists may be nested deeply."""
    left = [value]
    while left:
        value = left.pop()
        if isinstance(value, str):
            yield value
        elif isinstance(value, list | tuple):
            left.extend(reversed(value))
        elif isinstance(value, float):
            if math.isfinite(value):
                yield repr(value).removesuffix(".0")
        elif isinstance(value, int) and not isinstance(value, bool) and abs(value) < 10**15:
            yield str(value)
