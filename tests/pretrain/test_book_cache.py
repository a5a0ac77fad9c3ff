"""Books that runs and evaluations share: each is made once, and never taken for another."""

import dataclasses

import pytest
import torch

from pretrain.config.ids import IdConfig
from pretrain.ids import book_cache
from pretrain.ids.book import Book
from pretrain.ids.book_cache import BookCache, cached_book
from pretrain.runtime.progress import SILENT
from pretrain.runtime.world import World

PLAIN = IdConfig()
WORLD = World(0, 1, torch.device("cpu"))


@pytest.fixture
def made(monkeypatch, book_of):
    """What was made, one entry a call; the making itself is tested elsewhere."""
    calls = []

    def make(*arguments, **named):
        calls.append(arguments)
        return book_of(), "a report"

    monkeypatch.setattr(book_cache, "make_book", make)
    return calls


def test_a_book_is_made_once_for_the_same_generator_options_and_texts(small_model, tokenizer, items, tmp_path, made):
    def book(seed=2, config=PLAIN, table=items, folder=tmp_path):
        return cached_book(folder, small_model(seed), tokenizer, table, config, WORLD, SILENT)

    first, report = book()
    assert report is not None and len(made) == 1
    again, report = book(config=dataclasses.replace(PLAIN, blocks_per_wave=1))  # changes no ID
    assert report is None and len(made) == 1
    assert again.texts == first.texts and again.generator_hash == first.generator_hash
    book(seed=3)
    book(config=dataclasses.replace(PLAIN, groups=2))
    assert len(made) == 3 and len(list(tmp_path.glob("*.arrow"))) == 3
    book(folder=None)
    assert len(made) == 4, "without a cache it is made"


def test_a_damaged_book_is_not_taken(book_of, tmp_path):
    room = BookCache(tmp_path / "books")
    assert room.find("a" * 64) is None
    file = room.put("a" * 64, book_of())
    assert room.find("a" * 64) == file and room.find("b" * 64) is None
    assert room.put("a" * 64, book_of()) == file, "two who made the same book leave one"
    whole = file.read_bytes()
    file.write_bytes(whole[:-5])
    assert room.find("a" * 64) is None
    file.write_bytes(whole)
    assert room.find("a" * 64) == file


def test_nothing_half_written_is_left(book_of, tmp_path, monkeypatch):
    def full(self, path):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Book, "save", full)
    with pytest.raises(OSError, match="No space"):
        BookCache(tmp_path).put("a" * 64, book_of())
    assert list(tmp_path.iterdir()) == []
