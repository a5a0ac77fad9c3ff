"""Prompts: segments and IDs keep their own tokens; a cut drops whole oldest items."""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pretrain.config.prompt import SEPARATOR, TEMPLATES, PromptConfig, tokenizer_lines
from pretrain.data.prompts import PromptBuilder, told_items

HISTORIES = st.lists(st.lists(st.integers(3, 90), min_size=1, max_size=9), max_size=12)
DATA_SETS = {
    *("amazon", "yelp", "garden", "kitchen", "stationery", "outdoors", "gifts", "places", "beauty", "sports", "toys"),
    *("games", "instruments", "office", "phones", "books", "movies", "music", "clothing", "electronics", "video"),
    *("pets", "grocery", "health", "home", "automotive", "tools", "baby"),
}


def test_ten_templates_and_none_names_a_data_set(manifest):
    assert len(TEMPLATES) == len(set(TEMPLATES)) == 10
    words = set(re.findall(r"\w+", " ".join(tokenizer_lines()).lower()))
    names = {word for member in manifest.members for word in re.findall(r"[a-z]+", member.name.lower())}
    assert not words & {name + end for name in names | DATA_SETS for end in ("", "s")}
    assert not re.search(r"[{}<>]|data ?set", " ".join(tokenizer_lines()).lower()), "no placeholder is left"


@settings(max_examples=100)
@given(HISTORIES, st.integers(0, 9), st.integers(0, 40), st.integers(1, 8))
def test_ids_stand_as_they_are_and_the_oldest_go_whole(tokenizer, histories, template, room, max_history):
    shortest = PromptBuilder(tokenizer, PromptConfig())
    longest = max(len(before) + len(after) for before, after in shortest.segments) + 2
    builder = PromptBuilder(tokenizer, PromptConfig(max_history=max_history, max_tokens=longest + room))
    history = [np.array(tokens, dtype=np.int32) for tokens in histories]
    prompt = builder.build(history, template)
    tokens, item, offset = prompt.tokens_S.tolist(), prompt.item_S.tolist(), prompt.offset_S.tolist()
    assert len(tokens) == len(item) == len(offset) <= longest + room
    used = sorted(set(item) - {-1})
    assert len(used) <= max_history
    assert used == list(range(len(history) - len(used), len(history))), "the newest items, in order"
    before, after = builder.segments[template]
    assert before == tokenizer(TEMPLATES[template][0], add_special_tokens=False)["input_ids"]
    expected = list(before)
    for index in used:
        expected += (builder.separator if index > used[0] else []) + histories[index]
    assert tokens == [*expected, *after, tokenizer.eos_token_id]
    for index in used:
        places = [place for place, owner in enumerate(item) if owner == index]
        assert [tokens[place] for place in places] == histories[index], "an ID stands whole"
        assert [offset[place] for place in places] == list(range(len(histories[index])))
        assert places == list(range(places[0], places[0] + len(places)))
    if len(used) < min(len(history), max_history):
        older = len(histories[len(history) - len(used) - 1]) + (len(builder.separator) if used else 0)
        assert len(tokens) + older > longest + room, "no item goes that would have fitted"


def test_ids_are_never_tokenised_again(tokenizer):
    """Pieces that the tokenizer would merge or split when it read them as text stay apart."""
    builder = PromptBuilder(tokenizer, PromptConfig())
    spelled = [tokenizer.convert_tokens_to_ids(piece) for piece in ["▁", *"ember"]]
    assert tokenizer.unk_token_id not in spelled
    assert tokenizer(tokenizer.decode(spelled), add_special_tokens=False)["input_ids"] != spelled
    for template in range(10):
        prompt = builder.build([np.array(spelled), np.array(spelled[::-1])], template)
        assert prompt.tokens_S[prompt.item_S == 0].tolist() == spelled
        assert prompt.tokens_S[prompt.item_S == 1].tolist() == spelled[::-1]


def test_the_separator_and_segments_are_known_to_the_tokenizer(tokenizer):
    builder = PromptBuilder(tokenizer, PromptConfig())
    assert SEPARATOR == ";" and tokenizer.decode(builder.separator).strip() == ";"
    for parts in builder.segments:
        assert all(parts) and all(tokenizer.unk_token_id not in part for part in parts)


def test_a_prompt_without_room_is_refused(tokenizer):
    with pytest.raises(ValueError, match="prompt.max_tokens is 4; the templates alone need"):
        PromptBuilder(tokenizer, PromptConfig(max_tokens=4))
    with pytest.raises(ValueError, match="one text of prompt.item_tokens need"):
        PromptBuilder(tokenizer, PromptConfig(max_tokens=64, history="texts", item_tokens=60))


def test_items_are_told_by_their_ids_or_by_the_beginning_of_their_texts(items, book_of):
    ids = book_of().token_ids
    assert told_items(PromptConfig(), ids, None) is ids
    told = told_items(PromptConfig(history="texts", item_tokens=5), ids, items)
    assert len(told) == len(items)
    for row, tokens in enumerate(told):
        assert tokens.tolist() == items.tokens(row)[:5].tolist() != []
    with pytest.raises(AssertionError, match="same catalogue"):
        told_items(PromptConfig(history="texts"), ids[:3], items)
