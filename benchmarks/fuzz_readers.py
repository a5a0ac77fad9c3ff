"""Fuzzing of the readers: a million generated and mutated inputs through `detect`, `read_events` and `read_items`.

    python benchmarks/fuzz_readers.py --inputs 1000000 --seed 0

An input is one line that a reader read to its verdict (a row, or a reject), or one whole file that it refused by
ValueError. Lines share files of up to 400, from none to all of them mutated: bytes flipped, cut, doubled, NULs, other
encodings, 100,000 brackets, huge numbers, mixed newlines. Files are then cut, flipped or re-encoded, compressed or not,
and read in pieces of random size. Asserted for each file: nothing but a ValueError of one line comes out; each line
that is not blank is counted once, and seen = accepted + rejected; the fast paths give the rows and rejects of the exact
ones; memory stays under MAX_RSS_MB, also for the extremes: gzip bombs, giant lines, millions of blank lines.
"""

import argparse
import contextlib
import gzip
import json
import random
import resource
import sys
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from unittest import mock

import polars as pl

from shards.readers import delimited, json_lines, lines
from shards.readers.folder import EVENT_SCHEMA, TEXT_SCHEMA, detect, read_events, read_items
from shards.rejects import Rejects

MAX_RSS_MB = 2_000
LINES_PER_FILE = 400
# Share of the lines of a file that are mutated; whole files of good lines take the fast paths.
MUTATED = (0.0, 0.01, 0.1, 0.5, 1.0)
CHUNKS = (200, 3_000, 40_000, lines.CHUNK_BYTES)

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


@dataclass(frozen=True)
class Case:
    """One format: (file name, header, line) of the interactions and of the item texts."""

    name: str
    events: tuple
    items: tuple


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


def content(draw: Draw, header: bytes, line, share: float, strict: bool) -> bytes:
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


@dataclass
class Verdict:
    """What reading one file gave."""

    rows: pl.DataFrame | None = None
    error: str | None = None
    seen: int = 0
    rejected: int = 0
    samples: list[str] = field(default_factory=list)


def read(folder: Path, which: str, max_share: float, samples: int = 10**6) -> Verdict:
    """Reads one file of a folder by its public door; anything but a ValueError goes through."""
    verdict, path = Verdict(), folder.with_name("rejects.jsonl")
    path.unlink(missing_ok=True)
    raw = detect(folder)
    reader, schema = (read_events, EVENT_SCHEMA) if which == "events" else (read_items, TEXT_SCHEMA)
    with Rejects(path, max_share, samples_per_file=samples) as rejects:
        try:
            verdict.rows = pl.concat([pl.DataFrame(schema=schema), *reader(raw, rejects)])
        except UnicodeError as error:
            raise AssertionError("an error of decoding came out") from error
        except ValueError as error:
            verdict.error = str(error)
    if verdict.error is not None:
        assert "\n" not in verdict.error and 0 < len(verdict.error) < 2_000, verdict.error[:2_000]
    file = raw.events if which == "events" else raw.items
    verdict.seen, verdict.rejected = rejects.counts.get(file.name, (0, 0))
    verdict.samples = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    assert len(verdict.samples) == min(verdict.rejected, samples) and verdict.rejected <= verdict.seen
    return verdict


@contextlib.contextmanager
def exact_only() -> Iterator[None]:
    """The fast paths take nothing."""
    never = {"fast_events": mock.Mock(return_value=None)}
    with mock.patch.multiple(json_lines, **never), mock.patch.multiple(delimited, **never):
        yield


def expected_lines(data: bytes, header: bytes) -> int:
    """Lines that are not blank, counted in the simplest way."""
    found = sum(bool(line.strip(b" \r")) for line in data.removeprefix(b"\xef\xbb\xbf").split(b"\n"))
    return found - bool(header) if found else 0


def check(case: Case, which: str, folder: Path, data: bytes, tally: Counter, strict: bool, share: float) -> None:
    """Reads one file both ways and asserts what must hold."""
    verdict = read(folder, which, share)
    with exact_only():
        exact = read(folder, which, share)
    assert (verdict.error, verdict.seen, verdict.rejected) == (exact.error, exact.seen, exact.rejected)
    assert verdict.samples == exact.samples
    tally["files"] += 1
    tally["inputs"] += verdict.seen
    tally["rejected"] += verdict.rejected
    if verdict.rows is None:
        tally["refused"] += 1
        tally["inputs"] += 1
        return
    assert exact.rows is not None and verdict.rows.equals(exact.rows, null_equal=True)
    tally["accepted"] += verdict.seen - verdict.rejected
    if not (strict and which == "events"):
        assert verdict.rows.height == verdict.seen - verdict.rejected
    header = (case.events if which == "events" else case.items)[1]
    if not strict:  # Unicode knows more blanks than spaces
        assert verdict.seen == expected_lines(data, header), (verdict.seen, expected_lines(data, header))


def round_of(draw: Draw, case: Case, folder: Path, tally: Counter) -> None:
    """One folder of one format: written, read, checked."""
    strict, packed = case.name == "plain", draw.random() < 0.4
    for path in folder.iterdir():
        path.unlink()
    share, max_share = draw.choice(MUTATED), draw.choice((1.0, 1.0, 1.0, 0.01))
    held = {}
    for which, (name, header, line) in (("events", case.events), ("items", case.items)):
        data = content(draw, header, line, min(share, 0.1) if strict else share, strict)
        held[which] = damage(draw, data, packed)
        (folder / (name + ".gz" if packed else name)).write_bytes(held[which])
    with mock.patch.object(lines, "CHUNK_BYTES", draw.choice(CHUNKS)):
        for which, raw in held.items():
            data = b""
            if packed:
                with contextlib.suppress(EOFError, OSError, ValueError, zlib.error):
                    data = gzip.decompress(raw)
            check(case, which, folder, data if packed else raw, tally, strict, max_share)


def extremes(case: Case, folder: Path, tally: Counter) -> None:
    """Files that ask for more memory than there is, or end in one stroke."""
    depth = b"[" * 100_000 + b"]" * 100_000
    files = {
        "64 MB of zeros": b"\0" * (64 << 20),
        "a line of 32 MB in good company": b'{"a": 1}\n' + b"x" * (32 << 20) + b'\n{"a": 1}\n',
        "16 MB of blank lines": b"\n" * (16 << 20),
        "8 MB of one-letter lines": b"x\n" * (4 << 20),
        "brackets": depth + b'\n{"asin": "B1", "title": ' + depth + b'}\n{"asin": "B1", "x": ' + b'{"a":' * 100_000,
        "a huge number": b'{"asin": ' + b"9" * 1_000_000 + b', "price": ' + b"9" * 3_000_000 + b"}\n",
        "many empty lists": b"{'asin': 'B1', 'x': [" + b"[]," * 1_000_000 + b"]}\n",
        "many small items": b"u " + b"i " * (1 << 20) + b"\n",
    }
    for about, data in files.items():
        for path in folder.iterdir():
            path.unlink()
        for name, header, _ in (case.events, case.items):
            (folder / f"{name}.gz").write_bytes(gzip.compress(header + b"\n" * bool(header) + data, 1))
        for which in ("events", "items"):
            verdict = read(folder, which, max_share=0.01 if data.startswith(b"x\n") else 1.0, samples=100)
            tally["extremes"] += 1
            if rss() > MAX_RSS_MB:
                raise AssertionError(f"{case.name}: {about}: {rss():.0f} MB resident ({verdict.error})")


def rss() -> float:
    """The largest resident memory so far, MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Runs until `--inputs` are read, or `--seconds` are over."""
    parser = argparse.ArgumentParser(description="Fuzzing of the readers: generated and mutated inputs.")
    parser.add_argument("--inputs", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=3600)
    options = parser.parse_args()
    tallies = {case.name: Counter() for case in CASES}
    start, number = time.monotonic(), 0
    scratch = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with tempfile.TemporaryDirectory(dir=scratch) as temporary:
        folder = Path(temporary) / "Fuzz"
        folder.mkdir()
        for case in CASES:
            extremes(case, folder, tallies[case.name])
        print(f"extremes done after {time.monotonic() - start:.0f} s, {rss():.0f} MB resident at most", flush=True)
        while sum(tally["inputs"] for tally in tallies.values()) < options.inputs:
            if time.monotonic() - start > options.seconds:
                break
            case = CASES[number % len(CASES)]
            try:
                round_of(Draw(f"{options.seed}/{number}"), case, folder, tallies[case.name])
            except BaseException:
                print(f"round {number} of seed {options.seed}: {case.name}", file=sys.stderr)
                raise
            number += 1
    columns = ("inputs", "accepted", "rejected", "files", "refused", "extremes")
    print(f"{'format':<16}" + "".join(f"{column:>11}" for column in columns))
    total = sum(tallies.values(), Counter())
    for name, tally in [*tallies.items(), ("all", total)]:
        print(f"{name:<16}" + "".join(f"{tally[column]:>11,}" for column in columns))
    print(
        f"{time.monotonic() - start:.0f} s, seed {options.seed}, {rss():.0f} MB resident at most (bound {MAX_RSS_MB})"
    )
    assert rss() < MAX_RSS_MB
    if total["inputs"] < options.inputs:
        sys.exit(f"stopped by --seconds after {total['inputs']:,} of {options.inputs:,} inputs")


if __name__ == "__main__":
    main()
