import gzip
import random

import pytest

from shards.readers import lines
from shards.readers.lines import read_batches


def read(path):
    """All lines with their numbers, and (number, beginning) of those too long."""
    long: list[tuple[int, bytes]] = []
    found = [
        line for batch in read_batches(path, lambda number, raw: long.append((number, raw))) for line in batch.lines()
    ]
    return found, long


def write(path, data):
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz"])
def test_numbers_ends_marks_and_blank_lines(tmp_path, name):
    data = b"\xef\xbb\xbfone\r\n\n  \r\n two \n\r\n\xff\x00\tthree"
    assert read(write(tmp_path / name, data)) == ([(1, b"one"), (4, b" two "), (6, b"\xff\x00\tthree")], [])


def test_gzip_of_several_members(tmp_path):
    path = tmp_path / "a.gz"
    path.write_bytes(gzip.compress(b"one\ntw") + gzip.compress(b"o\nthree\n"))
    assert read(path)[0] == [(1, b"one"), (2, b"two"), (3, b"three")]


def test_batches_of_any_size_give_the_same_lines(tmp_path, monkeypatch):
    draw = random.Random(0)
    monkeypatch.setattr(lines, "MAX_LINE_BYTES", 12)
    for case in range(60):
        data = b"".join(
            draw.choice([b"\n", b"a", b"bc", b"0123456789", b"\r\n", b" "]) for _ in range(draw.randrange(1, 80))
        )
        expected = [
            (number, line.removesuffix(b"\r"), len(line)) for number, line in enumerate(data.split(b"\n"), start=1)
        ]
        path = write(tmp_path / f"{case}.gz", data)
        for chunk in (1, 2, 3, 7, 16, 50, 1000):
            monkeypatch.setattr(lines, "CHUNK_BYTES", chunk)
            found, long = read(path)
            assert found == [(n, line) for n, line, size in expected if size <= 12 and line.strip(b" \r")]
            assert [number for number, _ in long] == [n for n, _, size in expected if size > 12]
            whole = {number: line for number, line, _ in expected}
            assert all(raw and whole[number].startswith(raw.rstrip(b"\r")) for number, raw in long)


def test_a_giant_line_is_never_held_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(lines, "CHUNK_BYTES", 1000)
    monkeypatch.setattr(lines, "MAX_LINE_BYTES", 2000)
    path = write(tmp_path / "a.gz", b"first\n" + b"g" * 1_000_000 + b"\nlast\n" + b"h" * 5000)
    found, long = read(path)
    assert found == [(1, b"first"), (3, b"last")]
    assert [number for number, _ in long] == [2, 4] and max(len(raw) for _, raw in long) <= 2000
    assert read(write(tmp_path / "b", b"x" * 9000)) == ([], [(1, b"x" * 2000)])


@pytest.mark.parametrize("data", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("name", ["a.json", "a.json.gz"])
def test_empty_files(tmp_path, name, data):
    with pytest.raises(ValueError, match=rf"{name} is empty; fetch it again"):
        read(write(tmp_path / name, data))


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be", "utf-16-le"])
@pytest.mark.parametrize("name", ["a.json", "a.json.gz"])
def test_utf_16_is_named(tmp_path, name, encoding):
    marked = "\ufeff" if encoding == "utf-16-be" else ""
    for text in (marked + '{"asin": "b1"}\r\n' * 900, marked + "abc\n"):
        with pytest.raises(ValueError, match=rf"{name} is UTF-16; convert it to UTF-8") as error:
            read(write(tmp_path / name, text.encode(encoding)))
        assert "\n" not in str(error.value)
    for data in (b"a\0b\0\0c\n", b"\0\0\0\0\n", "日本語\n".encode()):
        read(write(tmp_path / name, data))


def test_damaged_gzip(tmp_path):
    path = tmp_path / "reviews.json.gz"
    whole = gzip.compress(b"".join(b"line %d\n" % n for n in range(5000)))
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 0x55
    for data in (whole[:-9], whole[: len(whole) // 2], whole[:5], bytes(flipped), b"<html>403</html>", whole + b"junk"):
        path.write_bytes(data)
        with pytest.raises(
            ValueError, match=r"reviews.json.gz is truncated or damaged \(.*\); fetch it again"
        ) as error:
            read(path)
        assert "\n" not in str(error.value)


def test_a_folder_or_a_missing_file_is_named(tmp_path):
    (tmp_path / "a.json").mkdir()
    for name in ("a.json", "none.json"):
        with pytest.raises(ValueError, match=rf"{name} cannot be read"):
            read(tmp_path / name)
