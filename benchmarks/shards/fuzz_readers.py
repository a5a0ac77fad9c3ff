"""Fuzzing of the readers: a million generated and mutated inputs through `detect`, `read_events` and `read_items`.

    python -m benchmarks.shards.fuzz_readers --inputs 1000000 --seed 0

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

from benchmarks.shards.fuzz_inputs import CASES, MUTATED, Case, Draw, content, damage
from shards.readers import delimited, lines
from shards.readers.folder import EVENT_SCHEMA, TEXT_SCHEMA, detect, read_events, read_items
from shards.readers.rejects import Rejects

MAX_RSS_MB = 1_500
MEANING = (
    "An input is a line that a reader saw, or a file that it refused with one clear ValueError. Lines of refused files "
    "count as seen, not as accepted; extremes are files such as gzip bombs and lines of 64 MB. In every file the fast "
    "path and the exact one gave the same rows, rejects and errors."
)
CHUNKS = (200, 3_000, 40_000, lines.CHUNK_BYTES)


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
    with mock.patch.object(delimited, "fast_events", mock.Mock(return_value=None)):
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
    parser.add_argument("--out", help="Markdown file for the table, such as docs/benchmarks/fuzz-readers.md")
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
    total = sum(tallies.values(), Counter())
    table = ["| format | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for name, tally in [*tallies.items(), ("all", total)]:
        table.append(f"| {name} | " + " | ".join(f"{tally[column]:,}" for column in columns) + " |")
    told = (
        f"`python -m benchmarks.shards.fuzz_readers --inputs {options.inputs} --seed {options.seed}`: "
        f"{time.monotonic() - start:.0f} s, {rss():.0f} MB resident at most (bound {MAX_RSS_MB} MB)"
    )
    text = "\n".join(["# Fuzzing of the readers", "", told, "", *table, "", MEANING]) + "\n"
    print(text)
    if options.out:
        Path(options.out).write_text(text)
    assert rss() < MAX_RSS_MB
    if total["inputs"] < options.inputs:
        sys.exit(f"stopped by --seconds after {total['inputs']:,} of {options.inputs:,} inputs")


if __name__ == "__main__":
    main()
