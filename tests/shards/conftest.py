"""One small raw marketplace and one small built shard folder, made once per session; the server that fails."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from bad_server import BadServer, one_file_on_two_mirrors
from raw_folders import SIZES, build_config

from shards.build.build import build
from shards.manifest import Manifest
from shards.readers.marketplace import write_marketplace


@pytest.fixture(scope="session")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("raw")
    write_marketplace(folder, seed=3, sizes=SIZES)
    return folder


@pytest.fixture(scope="session")
def built(raw: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Manifest]:
    out = tmp_path_factory.mktemp("built") / "shards"
    return out, build(build_config(raw, out))


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[BadServer]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with BadServer() as bad:
        yield bad


@pytest.fixture
def one_file(server: BadServer, monkeypatch: pytest.MonkeyPatch) -> bytes:
    return one_file_on_two_mirrors(server, monkeypatch)
