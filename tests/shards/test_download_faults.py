"""Many servers, each bad in its own way: what lies under the file's name is always one whole version, or nothing."""

import dataclasses
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from bad_server import REVIEWS, Answer, BadServer, check, config, one_file_on_two_mirrors, payload

from shards.download.download import download

VERSIONS = (payload(1), payload(9))


def bad_plan(seed: int) -> Callable[[str, int], Answer]:
    """A server whose answers are drawn: cut, refused, from the start, damaged, a web page, or another version."""
    draws = random.Random(seed)

    def plan(path: str, number: int) -> Answer:
        version = draws.randrange(2)
        answer = Answer(
            body=VERSIONS[version],
            cut_after=draws.choice([None, draws.randrange(1, 300_000)]),
            ignore_range=draws.random() < 0.2,
            ignore_if_range=draws.random() < 0.5,
            etag=draws.choice([None, f'"v{version}"', f'W/"v{version}"']),
        )
        kind = draws.random()
        if kind < 0.15:
            return Answer(status=draws.choice([403, 404, 416, 429, 500, 503]), body=b"")
        if kind < 0.2:
            return Answer(body=b"<html></html>")
        if kind < 0.3:
            damaged = bytearray(VERSIONS[version])
            damaged[draws.randrange(20, len(damaged))] ^= 1 << draws.randrange(8)
            return dataclasses.replace(answer, body=bytes(damaged))
        if kind < 0.35:
            return dataclasses.replace(answer, status=206, content_range="bytes 7-8/9")
        return answer

    return plan


def reason_of_failure(out: Path) -> str:
    try:
        download(config(out, retries=2))
    except ValueError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("seed", range(25))
def test_what_has_the_files_name_is_one_whole_version(seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with BadServer() as server:
        one_file_on_two_mirrors(server, monkeypatch)
        path = tmp_path / "Patio" / REVIEWS
        server.plan = bad_plan(seed)
        for _ in range(3):
            reason = reason_of_failure(tmp_path)
            assert bool(reason) != path.exists() and "\n" not in reason
        if path.exists():
            check(tmp_path, path.read_bytes())
            assert path.read_bytes() in VERSIONS
        server.plan = lambda path, number: Answer()
        wanted = path.read_bytes() if path.exists() else VERSIONS[0]
        download(config(tmp_path))
        check(tmp_path, wanted)
