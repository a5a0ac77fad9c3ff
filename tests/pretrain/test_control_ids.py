"""IDs that no generator writes: titles and random words, as controls."""

import dataclasses

import pytest
import torch

from pretrain.config.ids import IdConfig
from pretrain.config.prompt import PromptConfig
from pretrain.config.run import PretrainConfig, ScheduleConfig
from pretrain.ids.control_ids import RANDOM_WORDS
from pretrain.ids.drafts import write_drafts
from pretrain.ids.job import make_book
from pretrain.runtime.world import World
from shards.text import field_values

WORLD = World(0, 1, torch.device("cpu"))
TITLES, RANDOM = IdConfig(form="titles"), IdConfig(form="random-words")


def test_titles_are_the_beginning_of_the_text_and_unique(small_model, tokenizer, items):
    book, report = make_book(small_model(2), tokenizer, items, TITLES, WORLD)
    assert len({tuple(ids.tolist()) for ids in book.token_ids}) == len(items)
    for text, written, ids, suffixed in zip(items.texts, book.texts, book.token_ids, book.suffixed, strict=True):
        own = " ".join(field_values(text)).split()
        words = written.split()[:-1] if suffixed else written.split()
        assert own[: len(words)] == words
        if not suffixed:
            assert len(ids) <= TITLES.tier_range(TITLES.max_tiers - 1)[1]
    assert (book.attempt == 0).mean() > 0.5
    other, _ = make_book(small_model(9), tokenizer, items, TITLES, WORLD)
    assert other.texts == book.texts, "no generator has a say"
    assert report.waves >= 1


def test_random_words_are_the_items_own_draw(small_model, tokenizer, items):
    book, _ = make_book(small_model(2), tokenizer, items, RANDOM, WORLD)
    assert len(set(book.texts)) == len(items)
    assert all(len(text.split()) in (RANDOM_WORDS, RANDOM_WORDS + 1) for text in book.texts)
    assert book.options["form"] == "random-words"
    shared = [len(set(text.split()) & set(own.split())) for text, own in zip(book.texts, items.texts, strict=True)]
    assert sum(shared) < len(items), "they say nothing of the item"


def test_a_generator_that_writes_nothing_has_nothing_to_learn():
    with pytest.raises(ValueError, match=r"nothing to learn; set schedule\.generator_epochs to 0"):
        PretrainConfig("shards", "out", ids=TITLES)
    schedule = dataclasses.replace(ScheduleConfig(), generator_epochs=0.0)
    assert PretrainConfig("shards", "out", ids=TITLES, schedule=schedule).ids.form == "titles"
    taught = dataclasses.replace(schedule, teaching_steps=5)
    with pytest.raises(ValueError, match=r"need not be taught; set schedule\.teaching_steps to 0"):
        PretrainConfig("shards", "out", ids=TITLES, schedule=taught)
    named = PromptConfig(user_id="with-items")
    PretrainConfig("shards", "out", ids=TITLES, schedule=taught, prompt=named)  # it writes the users' IDs


def test_the_draft_of_a_title_is_the_title(small_model, tokenizer, items):
    drafts = write_drafts(small_model(2), tokenizer, items, TITLES, WORLD)
    book, _ = make_book(small_model(2), tokenizer, items, TITLES, WORLD)
    same = [draft.tolist() == ids.tolist() for draft, ids in zip(drafts, book.token_ids, strict=True)]
    first = [attempt == 0 for attempt in book.attempt]
    assert any(first) and all(equal for equal, took_first in zip(same, first, strict=True) if took_first)
