"""Quality of IDs: each figure on IDs for which it is known."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pretrain.ids.quality import fields_of, measure

TEXTS = [
    "title: ember oak 7 chair; brand: velvet; categories: na",
    "title: moss lamp; brand: na; categories: home, light",
    "title: brand new frost; brand: ice; categories: home",
    "title: 12 candles; brand: ember; categories: home",
]
IDS = ["ember oak 7", "title moss", "brand new", "candles ember na"]


def of(ids, texts, tokens=None):
    return measure(ids, tokens or [np.arange(len(text.split())) for text in ids], texts)


def test_fields_of_a_text():
    assert fields_of("title: a: b; brand: na; categories: x, y") == {"title": "a: b", "categories": "x, y"}
    assert fields_of("just words") == {"text": "just words"} and fields_of("na") == {}


def test_words_numbers_and_leaks():
    found = of(IDS, TEXTS)
    assert found.leaked == {"title": 1, "brand": 0, "categories": 0, "na": 1}, "`brand new` stands in its title"
    assert found.words_kept == pytest.approx({"title": 7 / 10, "brand": 1 / 10, "categories": 0})
    assert found.numbers_kept == 0.5, "7 was kept, 12 was not"
    assert found.lengths == {2: 2, 3: 2}
    said = "\n".join(found.lines())
    assert "title 1, na 1" in said and "numbers kept: 50.0%" in said and "2: 50.0%, 3: 50.0%" in said


def test_nothing_to_say():
    found = of(["item 2"], [""])
    assert found.numbers_kept is None and not any(found.leaked.values()) and found.prefix_pairs == 0
    assert "field names that leaked into IDs: none" in found.lines()


@given(st.lists(st.lists(st.integers(2, 4), min_size=1, max_size=4).map(tuple), min_size=1, max_size=15, unique=True))
def test_prefix_pairs(sequences):
    expected = sum(len(a) < len(b) and b[: len(a)] == a for a in sequences for b in sequences)
    tokens = [np.array(sequence) for sequence in sequences]
    assert of(["x"] * len(tokens), [""] * len(tokens), tokens).prefix_pairs == expected
