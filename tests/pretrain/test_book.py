"""The ID book: what is refused, what comes back from the file, what changed between two books."""

import dataclasses
import os

import numpy as np
import pyarrow as pa
import pytest

from pretrain.ids.book import Book, canonical, normalise
from shards.files import atomic
from shards.tokenizer import fingerprint


def changed(book, row, **values):
    """The book with one row's text or token ids replaced."""
    fields = {}
    for name, value in values.items():
        column = list(getattr(book, name))
        column[row] = value
        fields[name] = column
    return dataclasses.replace(book, **fields)


@pytest.fixture(scope="module")
def book(book_of):
    return book_of(["ember oak", "ember", "velvet tide 2", "frost"])


def test_canonical_form(tokenizer):
    assert normalise("  Ember-Oak;  (No. 7) ") == "ember oak no 7"
    texts, ids = canonical(tokenizer, ["Ember,  OAK", ""])
    assert texts == ["ember oak", ""] and ids[1] == ()
    assert tokenizer.decode(list(ids[0])) == "ember oak" and tokenizer.eos_token_id not in ids[0]
    assert canonical(tokenizer, []) == ([], [])


def test_a_sound_book_passes(book, tokenizer):
    book.verify(tokenizer)
    assert len(book) == 4


def test_what_verify_refuses(book, tokenizer):
    nothing = np.array([], dtype=np.int32)
    with pytest.raises(ValueError, match="item i1 has an empty ID"):
        changed(book, 1, texts="", token_ids=nothing).verify(tokenizer)
    _, (unknown,) = canonical(tokenizer, ["日本"])
    assert tokenizer.unk_token_id in unknown
    with pytest.raises(ValueError, match="item i2 holds <unk>"):
        changed(book, 2, texts="日本", token_ids=np.array(unknown)).verify(tokenizer)
    with pytest.raises(ValueError, match="'frost' of item i3 does not encode"):
        changed(book, 3, token_ids=book.token_ids[0]).verify(tokenizer)
    with pytest.raises(ValueError, match="'frost frost' of item i3 does not encode"):
        changed(book, 3, texts="frost frost").verify(tokenizer)
    with pytest.raises(ValueError, match="i0 and i3 share the ID 'ember oak'"):
        changed(book, 3, texts="ember oak", token_ids=book.token_ids[0]).verify(tokenizer)


def test_an_id_with_the_right_words_in_other_pieces_is_refused(book, tokenizer):
    """The same text can be spelled in other pieces; only the canonical spelling is an ID."""
    spelled = [tokenizer.convert_tokens_to_ids(piece) for piece in ["▁", *"frost"]]
    assert tokenizer.unk_token_id not in spelled and tokenizer.decode(spelled) == "frost"
    if spelled != book.token_ids[3].tolist():
        with pytest.raises(ValueError, match="does not encode to its token ids"):
            changed(book, 3, token_ids=np.array(spelled)).verify(tokenizer)


def test_save_and_load(book, tokenizer, tmp_path):
    marked = dataclasses.replace(
        book,
        attempt=np.array([0, 3, 12, 0], dtype=np.int32),
        tier=np.array([0, 0, 1, 0], dtype=np.int32),
        suffixed=np.array([False, False, True, False]),
        options={"groups": 5},
    )
    marked.save(tmp_path / "book.arrow")
    loaded = Book.load(tmp_path / "book.arrow", tokenizer)
    for field in dataclasses.fields(Book):
        ours, theirs = getattr(marked, field.name), getattr(loaded, field.name)
        assert all(np.array_equal(a, b) for a, b in zip(ours, theirs, strict=True)), field.name
    assert loaded.sha256 == marked.sha256
    expected = {"num_items": 4, "second_attempt_share": 0.5, "longer_share": 0.25, "suffixed_share": 0.25}
    assert expected.items() <= loaded.summary().items()
    with pa.memory_map(str(tmp_path / "book.arrow")) as source:
        metadata = pa.ipc.open_file(source).schema.metadata
    assert metadata == {
        b"version": b"2", b"generator_hash": b"generator", b"tokenizer_fingerprint": b"tokenizer",
        b"options": b'{"groups": 5}',
    }  # fmt: skip


def test_what_load_refuses(book, tokenizer, tmp_path):
    with pytest.raises(ValueError, match="no ID book at"):
        Book.load(tmp_path / "none.arrow", tokenizer)
    path = tmp_path / "book.arrow"
    broken = changed(book, 0, texts="frost", token_ids=book.token_ids[3])
    dataclasses.replace(broken, tokenizer_fingerprint=fingerprint(tokenizer)).save(path)
    with pytest.raises(ValueError, match="share the ID"):
        Book.load(path, tokenizer)
    broken.save(path)
    with pytest.raises(ValueError, match="was made with another tokenizer"):
        Book.load(path, tokenizer)
    path.write_bytes(b"no table")
    with pytest.raises(ValueError, match="book.arrow is no ID book"):
        Book.load(path, tokenizer)
    book.save(path)
    with pa.memory_map(str(path)) as source:
        table = pa.ipc.open_file(source).read_all()
    metadata = {**(table.schema.metadata or {}), b"version": b"9"}
    with pa.OSFile(str(tmp_path / "nine.arrow"), "wb") as sink:
        other = table.replace_schema_metadata(metadata)
        with pa.ipc.new_file(sink, other.schema) as writer:
            writer.write_table(other)
    with pytest.raises(ValueError, match="version 9"):
        Book.load(tmp_path / "nine.arrow", tokenizer)


def test_difference_and_hash(book, book_of):
    other = book_of(["ember oak", "moss", "velvet tide 2", "frost 1"])
    assert book.difference(book).share_changed == 0 and book.difference(book).changed == []
    found = other.difference(book)
    assert found.share_changed == 0.5 and found.added == found.removed == []
    assert found.changed == [("i1", "ember", "moss"), ("i3", "frost", "frost 1")]
    assert found.lines(1) == [
        "50.00% of the IDs in both changed; 0 items added, 0 removed", "  i1: ember -> moss", "  and 1 more",
    ]  # fmt: skip
    shorter = book_of(["ember", "ember oak"], names=["i1", "new"]).difference(book)
    assert (shorter.share_changed, shorter.added, shorter.removed) == (0, ["new"], ["i0", "i2", "i3"])
    assert book_of(["frost"], names=["x"]).difference(book).share_changed == 0, "no item in both"
    hashes = {book.sha256, other.sha256, dataclasses.replace(book, generator_hash="x").sha256}
    assert len(hashes) == 3


def test_look_up_by_id(book):
    assert book.row_of["velvet tide 2"] == 2 and "velvet" not in book.row_of and len(book.row_of) == 4
    assert [book.row_of[text] for text in book.texts] == [0, 1, 2, 3]


@pytest.mark.parametrize("fault", ["full", "killed"])
def test_an_id_book_that_is_cut_off_is_none(tmp_path, monkeypatch, fault):
    """What is left must not refuse the command that is given again."""
    path, ids = tmp_path / "book.arrow", [np.array([number], dtype=np.int32) for number in range(9)]
    names, zeros = [f"i{number}" for number in range(9)], np.zeros(9, np.int32)
    book = Book(names, names, ids, zeros, zeros, zeros.astype(bool), "generator", "tokenizer")

    def cut(number):
        raise OSError(28, "No space left on device") if fault == "full" else KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(atomic.os, "fsync", cut)
        with pytest.raises(OSError if fault == "full" else KeyboardInterrupt):
            book.save(path)
    assert os.listdir(tmp_path) == []
    book.save(path)
    assert os.listdir(tmp_path) == ["book.arrow"]
