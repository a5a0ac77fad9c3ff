import gzip

import pytest
from raw_files import read
from raw_folders import write_raw

from shards.readers import lines
from shards.readers.folder import detect

TEXTS = "a title: one\nb title: two\nc title: three\nd title: four\n"
SEQUENCES = "u1 a b c\nu2 c b a b\n"


def test_reads_users_and_items_in_order(tmp_path):
    raw = detect(write_raw(tmp_path / "Shop", SEQUENCES, TEXTS))
    assert (raw.name, raw.format, raw.cleaned) == ("Shop", "plain", True)
    events, items, rejects = read(raw.folder)
    assert events.rows() == [
        ("u1", "a", None, 0),
        ("u1", "b", None, 1),
        ("u1", "c", None, 2),
        ("u2", "c", None, 0),
        ("u2", "b", None, 1),
        ("u2", "a", None, 2),
        ("u2", "b", None, 3),
    ]
    assert items.rows()[2] == ("c", "title: three") and items.height == 4 and rejects == []


def test_gzip_reads_the_same(tmp_path):
    folder = tmp_path / "packed" / "Shop"
    folder.mkdir(parents=True)
    (folder / "user_sequence.txt.gz").write_bytes(gzip.compress(SEQUENCES.encode()))
    (folder / "item_plain_text.txt.gz").write_bytes(gzip.compress(TEXTS.encode()))
    events, items, _ = read(write_raw(tmp_path / "Shop", SEQUENCES, TEXTS))
    assert read(folder)[0].equals(events, null_equal=True) and read(folder)[1].equals(items)


@pytest.mark.parametrize(
    "sequences",
    [
        "u1 a b c\r\nu2 c b a b\r\n",
        "\n\nu1 a b c\n  \nu2 c b a b",
        "u1  a b c\nu2 c b a b\n",
        "u1\ta b c\nu2 c b a b\n",
        " u1 a b c\nu2 c b a b \n",
        "u1 a\u00a0b\u3000c\nu2 c b a b\n",
        "\ufeffu1 a b c\nu2 c b a b\n",
    ],
)
def test_uneven_lines_read_the_same(tmp_path, sequences):
    expected = read(write_raw(tmp_path / "even" / "Shop", SEQUENCES, TEXTS))[0]
    assert read(write_raw(tmp_path / "Shop", sequences, TEXTS))[0].equals(expected, null_equal=True)


def test_long_files_are_read_in_pieces(tmp_path, monkeypatch):
    monkeypatch.setattr(lines, "CHUNK_BYTES", 37)
    sequences = "".join(f"u{n} a{n} b{n % 7}{' é' if n % 5 == 0 else ''}\n" for n in range(300))
    events, _, _ = read(write_raw(tmp_path / "Shop", sequences, TEXTS))
    expected = [
        (user, item, None, place)
        for user, *items in (line.split() for line in sequences.splitlines())
        for place, item in enumerate(items)
    ]
    assert events.rows() == expected


def test_a_sequence_of_one_item_is_read(tmp_path):
    assert read(write_raw(tmp_path / "Shop", "u1 a\nu2 a b\n", TEXTS))[0].rows()[0] == ("u1", "a", None, 0)


@pytest.mark.parametrize(
    ("sequences", "texts", "message"),
    [
        (
            SEQUENCES,
            TEXTS.replace("two", "two\nb title: again"),
            r"item_plain_text.txt:3: item 'b' occurs a second time \(first in line 2\); keep one line per item",
        ),
        (SEQUENCES, TEXTS.replace(" title: two", " "), r"item_plain_text.txt:2: item 'b' has no text"),
        (
            SEQUENCES + "\nu1 a b c\n",
            TEXTS,
            r"user_sequence.txt:4: user 'u1' occurs a second time \(first in line 1\); keep one line per user",
        ),
        ("u" * 5000 + "\n", TEXTS, r"user_sequence.txt:1: user 'u{80}'... has no item"),
        ("u1 a b\nu2\n", TEXTS, r"user_sequence.txt:2: user 'u2' has no item; write `user item item ...`"),
        ("\n", TEXTS, r"user_sequence.txt: no users; write one line"),
        ("", TEXTS, r"user_sequence.txt is empty"),
        (SEQUENCES, "", r"item_plain_text.txt is empty"),
        (SEQUENCES, "\n \n", r"item_plain_text.txt: a catalogue of 0 item"),
        (SEQUENCES, "a title: one\n", r"item_plain_text.txt: a catalogue of 1 item"),
    ],
)
def test_errors_name_file_and_line(tmp_path, sequences, texts, message):
    folder = write_raw(tmp_path / "Shop", sequences, texts)
    with pytest.raises(ValueError, match=message) as error:
        read(folder)
    assert "\n" not in str(error.value)


def test_an_item_may_come_twice_in_a_sequence_but_not_twice_in_batches_apart(tmp_path, monkeypatch):
    monkeypatch.setattr(lines, "CHUNK_BYTES", 10)
    texts = "".join(f"i{n} title: t{n}\n" for n in range(50))
    folder = write_raw(tmp_path / "Shop", "u1 i1 i1\n", texts + "i7 title: again\n")
    with pytest.raises(ValueError, match=r"item_plain_text.txt:51: item 'i7' occurs a second time \(first in line 8\)"):
        read(folder)


def test_missing_and_damaged_files(tmp_path):
    with pytest.raises(ValueError, match="nowhere is not a folder"):
        read(tmp_path / "nowhere")
    folder = write_raw(tmp_path / "Shop", SEQUENCES, TEXTS)
    (folder / "user_sequence.txt").write_bytes(b"u1 a b c\nu2 a b \xff\n")
    with pytest.raises(ValueError, match=r"user_sequence.txt:2: not UTF-8 \(.*\); convert the file to UTF-8"):
        read(folder)
    (folder / "user_sequence.txt").write_bytes(b"u1 a b c\nu2 " + b"a " * (3 << 20))
    with pytest.raises(ValueError, match=r"user_sequence.txt:2: a line longer than 4 MiB"):
        read(folder)
    (folder / "user_sequence.txt").unlink()
    with pytest.raises(ValueError, match=r"item_plain_text.txt but no interactions; plain needs user_sequence"):
        read(folder)
    (folder / "user_sequence.txt.gz").write_bytes(gzip.compress(SEQUENCES.encode())[:-9])
    with pytest.raises(ValueError, match=r"user_sequence.txt.gz is truncated or damaged"):
        read(folder)
    (folder / "user_sequence.txt").write_text(SEQUENCES)
    with pytest.raises(ValueError, match=r"ambiguous: it holds user_sequence.txt, user_sequence.txt.gz"):
        read(folder)
