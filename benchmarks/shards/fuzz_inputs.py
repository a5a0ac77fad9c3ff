"""Generated and mutated inputs for `fuzz_readers.py`: lines of the real schemas, and files as they might arrive.

Enter a seeded `Draw` and one of CASES; leave bytes. The same seed gives the same bytes.
"""

import gzip
import json
import random
import time
from collections.abc import Callable
from dataclasses import dataclass

LINES_PER_FILE = 400
# Share of the lines of a file that are mutated; whole files of good lines take the fast paths.
MUTATED = (0.0, 0.01, 0.1, 0.5, 1.0)

WORDS = (
    "Palette",
    "caf\u00e9 \u201cx\u201d",
    "Tom &amp;amp; Jerry",
    "<b>new</b>",
    "it's",
    'a "b"',
    "1 < 2; 3",
    "\u65e5\u672c",
    "\\d",
)
TOKENS = (
    *(b"\0", b"\r", b"\r\n", b"\n", b"\t", b",", b";", b'"', b"'", b"\\", b"\\u0000", b"\\ud800", b"\\u0061"),
    *(b"[" * 100_000, b"{" * 2_000, b'{"a":' * 3_000, b"(" * 40, b"]" * 40, b"-" * 5_000, b"1+" * 5_000, b"9" * 5_000),
    *(b"\xff\xfe", b"1e999", b"NaN", b"-1", b"null", b"true", b"18446744073709551616", b"\xef\xbb\xbf", b" "),
    *(b"\xe9", b"\xc2\xa0", b"x" * 300, b"&#99999999999999999999;", b"<script", b"#", b"nan"),
    *(b"0x1F", b"lambda:0", b"__import__('os')"),
)  # fmt: skip


class Draw(random.Random):
    """Random values of the real schemas."""

    def word(self) -> str:
        return self.choice(WORDS)

    def id(self) -> str:
        return f"{self.choice('AB')}{self.randrange(10**6):09d}" if self.random() < 0.9 else str(self.randrange(10**9))

    def review(self, user: str, item: str, rating: str, stamp: str, when: object) -> bytes:
        found = {user: self.id(), item: self.id(), "text": self.word(), rating: self.randrange(1, 6) * 1.0, stamp: when}
        return json.dumps(found, ensure_ascii=self.random() < 0.5).encode()

    def meta(self, key: str, categories: object) -> dict[str, object]:
        return {key: self.id(), "title": self.word(), "brand": self.word(), "price": 9.5, "categories": categories}


def seconds(draw: Draw) -> int:
    return draw.randrange(10**9, 14 * 10**8)


def amazon_2014(draw: Draw) -> bytes:
    return draw.review("reviewerID", "asin", "overall", "unixReviewTime", seconds(draw))


def amazon_2023(draw: Draw) -> bytes:
    return draw.review("user_id", "parent_asin", "rating", "timestamp", seconds(draw) * 1000)


def yelp(draw: Draw) -> bytes:
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(seconds(draw)))
    return draw.review("user_id", "business_id", "stars", "date", when)


def ratings(draw: Draw) -> bytes:
    return f"{draw.id()},{draw.id()},{draw.randrange(1, 6)}.0,{seconds(draw)}".encode()


def inter(draw: Draw) -> bytes:
    return f"{draw.id()}\t{draw.id()}\t{draw.randrange(1, 6)}\t{seconds(draw)}".encode()


def sequence(draw: Draw) -> bytes:
    return " ".join(draw.id() for _ in range(draw.randrange(2, 8))).encode()


def meta_2014(draw: Draw) -> bytes:
    return repr(draw.meta("asin", [["Beauty", draw.word()], ["Beauty"]])).encode()


def meta_2018(draw: Draw) -> bytes:
    return json.dumps(draw.meta("asin", []) | {"category": ["Beauty"], "description": [draw.word()]}).encode()


def meta_2023(draw: Draw) -> bytes:
    return json.dumps(draw.meta("parent_asin", ["Beauty"]) | {"details": {"Brand": draw.word()}}).encode()


def business(draw: Draw) -> bytes:
    return json.dumps({"business_id": draw.id(), "name": draw.word(), "city": None, "categories": "A, B"}).encode()


def item(draw: Draw) -> bytes:
    return f"{draw.id()}\t{draw.word()}\tclass".encode()


def plain_text(draw: Draw) -> bytes:
    return f"{draw.id()} title: {draw.word()}".encode()


Line = Callable[[Draw], bytes]


@dataclass(frozen=True)
class Case:
    """One format: (file name, header, line) of the interactions and of the item texts."""

    name: str
    events: tuple[str, bytes, Line]
    items: tuple[str, bytes, Line]


INTER_HEADER, ITEM_HEADER = (
    b"user_id:token\titem_id:token\trating:float\ttimestamp:float",
    b"item_id:token\ttitle:x\tclass",
)
CASES = (
    Case("amazon-2014", ("reviews_B_5.json", b"", amazon_2014), ("meta_B.json", b"", meta_2014)),
    Case("amazon-2014 csv", ("ratings_B.csv", b"", ratings), ("meta_B.json", b"", meta_2014)),
    Case("amazon-2018", ("B_5.json", b"", amazon_2014), ("meta_B.json", b"", meta_2018)),
    Case("amazon-2023", ("B.jsonl", b"", amazon_2023), ("meta_B.jsonl", b"", meta_2023)),
    Case(
        "amazon-2023 csv", ("B.csv", b"user_id,parent_asin,rating,timestamp", ratings), ("meta_B.jsonl", b"", meta_2023)
    ),
    Case("yelp", ("review.json", b"", yelp), ("business.json", b"", business)),
    Case("recbole", ("b.inter", INTER_HEADER, inter), ("b.item", ITEM_HEADER, item)),
    Case("plain", ("user_sequence.txt", b"", sequence), ("item_plain_text.txt", b"", plain_text)),
)


def mutate(draw: Draw, line: bytes) -> bytes:
    """One to three changes of a line."""
    for _ in range(draw.choice((1, 1, 1, 2, 3))):
        at = draw.randrange(len(line) + 1)
        to = min(len(line), at + draw.randrange(1, 12))
        kind = draw.randrange(9)
        if kind == 0:
            line = line[:at] + bytes([draw.randrange(256)]) + line[at + 1 :]
        elif kind == 1:
            line = line[:at]
        elif kind == 2:
            line = line[:at] + line[to:]
        elif kind == 3:
            line = line[:to] + line[at:]
        elif kind in (4, 5):
            # The longest tokens are rare: they would be most of the bytes.
            token = draw.choice(TOKENS)
            token = token if len(token) < 400 or draw.random() < 0.05 else token[:20]
            line = line[:at] + token + line[draw.choice((at, to)) :]
        elif kind == 6:
            line = draw.randbytes(draw.randrange(60))
        elif kind == 7:
            text = line.decode("utf-8", errors="replace")
            line = text.encode(draw.choice(("latin-1", "utf-16", "cp1252", "utf-32")), errors="replace")
        else:
            case = draw.choice(CASES)
            line = draw.choice((case.events, case.items))[2](draw)
    return line


def content(draw: Draw, header: bytes, line: Line, share: float, strict: bool) -> bytes:
    """A file of up to LINES_PER_FILE lines; few where one bad line refuses the whole file."""
    rows = [line(draw) for _ in range(draw.randrange(1, 9 if strict else LINES_PER_FILE))]
    rows = [mutate(draw, row) if draw.random() < share else row for row in rows]
    rows = [header, *rows] if header and draw.random() < 0.98 else rows
    end = draw.choice((b"\n", b"\n", b"\r\n"))
    mixed = draw.random() < 0.1
    parts = []
    for row in rows:
        parts += [row, draw.choice((b"\n", b"\r\n", b"\n\n", b"\r", b"\n \n")) if mixed else end]
    return b"".join(parts if draw.random() < 0.7 else parts[:-1])


def damage(draw: Draw, data: bytes, packed: bool) -> bytes:
    """A whole file as it might arrive."""
    kind = draw.randrange(40)
    if kind == 0:
        data = data.decode("utf-8", errors="replace").encode("utf-16")
    elif kind == 1:
        data = draw.randbytes(draw.randrange(5_000))
    elif kind == 2:
        data = b"\xef\xbb\xbf" + data
    elif kind == 3:
        data = b""
    if packed:
        half = len(data) // 2
        data = gzip.compress(data[:half], 1) + gzip.compress(data[half:], 1) if kind == 4 else gzip.compress(data, 1)
    if kind in (5, 6):
        data = data[: draw.randrange(len(data) + 1)]
    elif kind == 7 and data:
        at = draw.randrange(len(data))
        data = data[:at] + bytes([draw.randrange(256)]) + data[at + 1 :]
    return data
