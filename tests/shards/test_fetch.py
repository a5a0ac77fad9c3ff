"""What goes over the wire: attempts, ranges, mirrors. No byte is fetched twice, no two versions are mixed."""

import dataclasses
import hashlib
import json
import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from bad_server import REVIEWS, Answer, BadServer, check, config, only, payload
from patience import HANG, limit, until

from shards import registry
from shards.download import fetch as fetch_module
from shards.download.download import download


def test_cut_connections_cost_no_byte_twice(server: BadServer, one_file: bytes, tmp_path: Path):
    cuts = random.Random(5)
    server.plan = lambda path, number: Answer(cut_after=cuts.randint(1, 40_000)) if number < 12 else Answer()
    download(config(tmp_path, retries=1))
    check(tmp_path, one_file)
    assert len(server.requests) == 13 and not server.asked("/b/")
    assert server.sent == len(one_file)


@pytest.mark.parametrize("status", [403, 404, 429, 500, 503])
def test_an_error_status_is_tried_again_and_then_the_next_mirror(
    server: BadServer, one_file: bytes, tmp_path: Path, status: int
):
    server.plan = lambda path, number: Answer(status=status if path.startswith("/a/") else None)
    download(config(tmp_path))
    assert len(server.asked("/a/")) == 4 and len(server.asked("/b/")) == 1
    check(tmp_path, one_file)


def test_an_error_that_passes_needs_no_other_mirror(server: BadServer, one_file: bytes, tmp_path: Path):
    server.plan = lambda path, number: Answer(status=503 if number < 3 else None)
    download(config(tmp_path))
    assert len(server.asked("/a/")) == 4 and not server.asked("/b/")
    check(tmp_path, one_file)


def test_a_stalled_connection_is_given_up_and_resumed(
    server: BadServer, one_file: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The limit is cut short once the server has sent all that will come: no answer that is only slow is given up."""
    server.plan = lambda path, number: Answer(stall_after=100_000 if number == 0 else None)
    read, limits = fetch_module._read, []

    def impatient(response: Any, timeout_s: float) -> bytes:
        if len(server.requests) == 1:
            until(server.stalled.is_set)
            limits.append(response.fp.raw._sock.gettimeout())
            response.fp.raw._sock.settimeout(limit(0.1))
        return read(response, timeout_s)

    monkeypatch.setattr(fetch_module, "_read", impatient)
    lines: list[str] = []
    download(config(tmp_path, timeout_s=HANG), lines.append)
    assert server.asked("/a/") == [None, "bytes=100000-"] and limits[0] == HANG
    assert any(f"silent for {HANG:g} s" in line for line in lines)
    check(tmp_path, one_file)


def test_a_server_that_ignores_ranges_starts_over(server: BadServer, one_file: bytes, tmp_path: Path):
    server.plan = lambda path, number: Answer(cut_after=50_000 if number == 0 else None, ignore_range=True)
    download(config(tmp_path))
    assert server.asked("/a/") == [None, "bytes=50000-"]
    assert server.sent == len(one_file) + 50_000
    check(tmp_path, one_file)


def test_a_server_that_ignores_ranges_and_always_cuts_does_not_go_on_for_ever(
    server: BadServer, one_file: bytes, tmp_path: Path
):
    server.plan = lambda path, number: Answer(cut_after=50_000, ignore_range=True)
    with pytest.raises(ValueError, match="cut off after 50,000 of"):
        download(config(tmp_path))
    assert len(server.asked("/a/")) <= 5


@pytest.mark.parametrize("changed", [Answer(), Answer(ignore_if_range=True), Answer(ignore_if_range=True, etag=None)])
def test_a_file_that_changed_between_attempts_starts_over(
    server: BadServer, one_file: bytes, tmp_path: Path, changed: Answer
):
    """With If-Range honoured, with If-Range ignored, and with nothing but the length to tell."""
    newer = payload(9, 310_000)

    def plan(path: str, number: int) -> Answer:
        etag = changed.etag and '"v2"'
        if number == 0:
            return Answer(cut_after=100_000, etag=changed.etag)
        return dataclasses.replace(changed, body=newer, etag=etag)

    server.plan = plan
    download(config(tmp_path))
    check(tmp_path, newer)
    assert not server.asked("/b/")


def test_pieces_of_two_versions_of_one_length_are_found_out(server: BadServer, one_file: bytes, tmp_path: Path):
    """Nothing tells but the CRC: the second chance, in one piece, is right."""
    newer = payload(9)
    assert len(newer) == len(one_file)
    server.plan = lambda path, number: Answer(
        cut_after=100_000 if number == 0 else None, etag=None, body=newer if number else one_file
    )
    lines: list[str] = []
    download(config(tmp_path), lines.append)
    assert server.asked("/a/") == [None, "bytes=100000-", None]
    assert any("once more from the start" in line for line in lines)
    check(tmp_path, newer)


@pytest.mark.parametrize("longer", [0, 100])
def test_416_is_whole_or_starts_over(server: BadServer, one_file: bytes, tmp_path: Path, longer: int):
    """A part whose length was never told: as long as the file, or longer."""
    folder = tmp_path / "Patio"
    folder.mkdir()
    part = folder / f"{REVIEWS}.part"
    part.write_bytes(one_file + b"x" * longer)
    origin = {"url": f"{server.base()}/{REVIEWS}", "validator": '"v1"', "length": None}
    fetch_module.origin_file(part).write_text(json.dumps(origin))
    download(config(tmp_path))
    assert server.asked("/a/") == [f"bytes={len(one_file) + longer}-"] + ([None] if longer else [])
    check(tmp_path, one_file)


def test_a_206_from_the_wrong_byte_is_not_appended(server: BadServer, one_file: bytes, tmp_path: Path):
    total = len(one_file)
    server.plan = lambda path, number: [
        Answer(cut_after=100_000),
        Answer(status=206, content_range=f"bytes 0-{total - 1}/{total}"),
        Answer(),
    ][number]
    download(config(tmp_path))
    assert server.asked("/a/") == [None, "bytes=100000-", None]
    check(tmp_path, one_file)


@pytest.mark.parametrize("body", [b"<html>please log in</html>", b"<!DOCTYPE html>" + b" " * 500_000])
def test_a_web_page_with_status_200_is_refused_at_once(server: BadServer, one_file: bytes, tmp_path: Path, body: bytes):
    server.plan = lambda path, number: Answer(body=body if path.startswith("/a/") else None)
    lines: list[str] = []
    download(config(tmp_path), lines.append)
    assert len(server.asked("/a/")) == 1
    assert any("perhaps a web page" in line for line in lines)
    check(tmp_path, one_file)


def test_a_web_page_does_not_cost_what_was_received(server: BadServer, one_file: bytes, tmp_path: Path):
    def plan(path: str, number: int) -> Answer:
        if path.startswith("/b/"):
            return Answer(body=b"<html>")
        return Answer(cut_after=100_000) if number == 0 else Answer(status=503)

    server.plan = plan
    with pytest.raises(ValueError, match=REVIEWS):
        download(config(tmp_path))
    server.plan = lambda path, number: Answer()
    download(config(tmp_path))
    assert server.asked("/a/")[-1] == "bytes=100000-"
    check(tmp_path, one_file)


def test_another_mirror_continues_only_under_a_checksum(server: BadServer, one_file: bytes, tmp_path: Path):
    server.plan = lambda path, number: (
        Answer() if path.startswith("/b/") else Answer(cut_after=100_000) if number == 0 else Answer(status=503)
    )
    download(config(tmp_path / "unknown"))
    assert server.asked("/b/") == [None]
    server.requests.clear()
    sums = tmp_path / "sums"
    sums.write_text(f"{hashlib.sha256(one_file).hexdigest()} *any/folder/{REVIEWS}\n")
    download(config(tmp_path / "known", checksums=str(sums)))
    assert server.asked("/b/") == ["bytes=100000-"]
    check(tmp_path / "unknown", one_file)
    check(tmp_path / "known", one_file)


def test_another_mirror_of_another_length_starts_over(server: BadServer, one_file: bytes, tmp_path: Path):
    newer = payload(9, 310_000)
    server.serve(REVIEWS, newer, "b")
    sums = tmp_path / "sums"
    sums.write_text(f"{hashlib.sha256(newer).hexdigest()}  {REVIEWS}\n")
    server.plan = lambda path, number: (
        Answer() if path.startswith("/b/") else Answer(cut_after=100_000) if number == 0 else Answer(status=503)
    )
    download(config(tmp_path / "out", checksums=str(sums)))
    assert server.asked("/b/") == ["bytes=100000-", None]
    check(tmp_path / "out", newer)


def test_nobody_listens(server: BadServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    only(monkeypatch, registry.RawFile(REVIEWS, ("http://127.0.0.1:9/x.json.gz",)))
    with pytest.raises(ValueError, match="x.json.gz: .*refused"):
        download(config(tmp_path))


def test_a_published_length_is_checked(server: BadServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    data = payload(1)
    server.serve(REVIEWS, data)
    raw = registry.RawFile(REVIEWS, (f"{server.base()}/{REVIEWS}",), num_bytes=len(data) + 1)
    only(monkeypatch, raw)
    server.plan = lambda path, number: Answer(stall_after=0)  # it is seen before a byte of the file has come
    with pytest.raises(ValueError, match="published are"):
        download(config(tmp_path / "out"))
    server.plan = lambda path, number: Answer()
    only(monkeypatch, dataclasses.replace(raw, num_bytes=len(data)))
    download(config(tmp_path / "out"))
    check(tmp_path / "out", data)


def test_too_small_a_disk_is_said_before_the_first_byte(
    server: BadServer, one_file: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    full = SimpleNamespace(free=len(one_file) - 1)
    monkeypatch.setattr(fetch_module.shutil, "disk_usage", lambda path: full)
    with pytest.raises(ValueError, match="make room"):
        download(config(tmp_path))
    assert list((tmp_path / "Patio").iterdir()) == []
    full.free = len(one_file)
    download(config(tmp_path))
    check(tmp_path, one_file)


def test_a_part_without_an_origin_starts_over(server: BadServer, one_file: bytes, tmp_path: Path):
    (tmp_path / "Patio").mkdir()
    part = tmp_path / "Patio" / f"{REVIEWS}.part"
    for text in (None, "", "[1]", '{"url": 1}'):
        part.write_bytes(one_file[:1000])
        if text is not None:
            fetch_module.origin_file(part).write_text(text)
        download(config(tmp_path))
        check(tmp_path, one_file)
        (tmp_path / "Patio" / REVIEWS).unlink()
    assert server.asked("/a/") == [None] * 4
