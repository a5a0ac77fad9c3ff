"""Lines of a raw file, compressed or not, in batches of about 8 MB.

Enters a path; leave batches of whole lines with the number of the first. It must hold that memory is bounded,
that line numbers are those an editor shows, and that a damaged file is named, never read as a short one.
"""

import gzip
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

CHUNK_BYTES = 8 << 20
# The longest reviews and metadata of the real dumps stay under 1 MiB.
MAX_LINE_BYTES = 4 << 20
TOO_LONG = f"longer than {MAX_LINE_BYTES >> 20} MiB"
BYTE_ORDER_MARK = b"\xef\xbb\xbf"

UTF_16_MARKS = (b"\xff\xfe", b"\xfe\xff")

TooLong = Callable[[int, bytes], None]


@dataclass(frozen=True)
class Batch:
    """Whole lines: `data` ends with a newline, and its first line is number `first` (from 1) of the file."""

    first: int
    data: bytes

    def lines(self) -> Iterator[tuple[int, bytes]]:
        """(number, line without its end) of each line that is not blank."""
        for number, line in enumerate(self.data[:-1].split(b"\n"), start=self.first):
            line = line.removesuffix(b"\r")
            if line.strip(b" \r"):
                yield number, line


def read_batches(path: Path, too_long: TooLong) -> Iterator[Batch]:
    """Batches in the order of the file; those of a gzip file (of one member or more) as it is decompressed.

    too_long: called with number and beginning of each line above MAX_LINE_BYTES, which is in no batch.
    ValueError when the file is empty, truncated or damaged, or UTF-16.
    """
    empty = True
    for batch in _cut(_chunks(path), too_long):
        empty = False
        yield batch
    if empty and not _has_bytes(path):
        raise ValueError(f"{path} is empty; fetch it again")


def _has_bytes(path: Path) -> bool:
    """Whether there is anything in it: a file of nothing but one giant line leaves no batch and is not empty."""
    return any(chunk for chunk in _chunks(path))


def _chunks(path: Path) -> Iterator[bytes]:
    """Pieces of at most CHUNK_BYTES, without a byte order mark."""
    try:
        with cast(IO[bytes], gzip.open(path) if path.suffix == ".gz" else open(path, "rb")) as file:
            chunk = file.read(CHUNK_BYTES).removeprefix(BYTE_ORDER_MARK)
            if is_utf_16(chunk):
                raise ValueError(f"{path} is UTF-16; convert it to UTF-8 (iconv -f UTF-16 -t UTF-8)")
            while chunk:
                yield chunk
                chunk = file.read(CHUNK_BYTES)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(f"{path} is truncated or damaged ({error}); fetch it again") from error
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror or error}); look at the file") from error


def is_utf_16(begin: bytes) -> bool:
    """Whether a file that begins so is UTF-16: by its mark, or, without one, as every other byte of ASCII is 0 then."""
    head = begin[:1000]
    zeros = head[::2].count(0), head[1::2].count(0)
    return begin.startswith(UTF_16_MARKS) or (len(head) > 3 and max(zeros) > 0.4 * len(head) and min(zeros) == 0)


def _cut(chunks: Iterator[bytes], too_long: TooLong) -> Iterator[Batch]:
    """Cuts pieces at the ends of lines."""
    number, rest, skipping = 1, b"", False
    for chunk in chunks:
        if skipping:  # inside a giant line: its end is all that matters
            end = chunk.find(b"\n")
            if end < 0:
                continue
            number, chunk, skipping = number + 1, chunk[end + 1 :], False
        data = rest + chunk
        end = data.rfind(b"\n") + 1
        number = yield from _without_giants(number, data[:end], too_long)
        rest = data[end:]
        if len(rest) > MAX_LINE_BYTES:
            too_long(number, rest[:MAX_LINE_BYTES])
            rest, skipping = b"", True
    if rest:
        yield Batch(number, rest + b"\n")


def _without_giants(number: int, data: bytes, too_long: TooLong) -> Iterator[Batch]:
    """Batches of whole lines without those above the cap; returns the number of the line after them."""
    begin = at = 0
    while len(data) - at > MAX_LINE_BYTES + 1:
        end = data.rfind(b"\n", at, at + MAX_LINE_BYTES + 1)
        if end >= 0:
            at = end + 1
            continue
        if at > begin:
            yield Batch(number, data[begin:at])
            number += data.count(b"\n", begin, at)
        too_long(number, data[at : at + MAX_LINE_BYTES])
        number, begin = number + 1, data.index(b"\n", at) + 1
        at = begin
    if begin < len(data):
        yield Batch(number, data[begin:])
        number += data.count(b"\n", begin)
    return number
