"""One raw file from the first mirror that has it, whole and verified.

Enter a file of the registry and a folder; leaves the file with its checksum recorded, or one line on what each mirror
answered. It must hold that a file under its own name is verified: by SHA-256 where one is known (from the checksums
given, else the registry, else the first download), by length and gzip CRC otherwise.
"""

import gzip
import os
import time
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from shards.download.checksums import SUMS_FILE, read_sums, record_sum
from shards.download.fetch import Interrupted, Refused, discard, fetch
from shards.manifest import file_sha256
from shards.registry import YELP_PAGE, RawFile, Row

if TYPE_CHECKING:
    from shards.download.config import DownloadConfig

MAX_WAIT_S = 60.0


def bring(
    config: "DownloadConfig",
    row: Row,
    raw: RawFile,
    folder: Path,
    given: Mapping[str, str],
    progress: Callable[[str], None],
) -> Path:
    """The path of one verified file, from the disk or from the first mirror that has it."""
    urls = [f"{mirror.rstrip('/')}/{raw.name}" for mirror in config.mirrors if raw.urls] + list(raw.urls)
    names = dict.fromkeys([raw.name, *(_name(url) for url in urls)])
    recorded = read_sums(folder / SUMS_FILE) if (folder / SUMS_FILE).exists() else {}
    published = {raw.name: raw.sha256} if raw.sha256 else {}
    expected = {**recorded, **published, **given}
    for path in (folder / name for name in names):
        if path.exists():
            try:
                digest = _verify(path, path.name, expected.get(path.name))
            except Refused as error:
                progress(f"{row.category}: {path.name} {error}; it is fetched again")
                continue
            if digest != recorded.get(path.name):
                record_sum(folder, path.name, digest)
            progress(f"{row.category}: {path.name} is there already, verified")
            return path
    if not urls:
        raise ValueError(by_hand(row, folder))
    reasons = []
    for url in urls:
        path = folder / _name(url)
        try:
            digest = _from_mirror(config, url, raw, path, expected.get(path.name), progress)
        except Refused as error:
            reasons.append(f"{url}: {error}")
            progress(f"{row.category}: {reasons[-1]}")
            continue
        record_sum(folder, path.name, digest)
        for name in names:
            discard(folder / f"{name}.part")
        progress(f"{row.category}: {path.name}, {path.stat().st_size / 1e6:,.1f} MB, verified")
        return path
    raise ValueError(
        f"{raw.name} could not be downloaded ({'; '.join(reasons)}); try again, or give a mirror that has it"
    )


def _from_mirror(
    config: "DownloadConfig",
    url: str,
    raw: RawFile,
    path: Path,
    sha256: str | None,
    progress: Callable[[str], None],
) -> str:
    """Fetches `path` from one address, attempt by attempt, and verifies it: its SHA-256, or `Refused`."""
    part = path.with_name(f"{path.name}.part")
    # A published length is that of the first name; a given checksum says more, and wins.
    num_bytes = raw.num_bytes if path.name == raw.name and sha256 is None else None
    furthest, failures, chances = 0, 0, 2
    while True:
        in_pieces = part.exists()
        try:
            fetch(
                url,
                part,
                num_bytes=num_bytes,
                hash_known=sha256 is not None,
                timeout_s=config.timeout_s,
                progress=progress,
            )
        except Interrupted as error:
            received = part.stat().st_size if part.exists() else 0
            if received > furthest:
                furthest, failures = received, 0
            if failures >= config.retries:
                raise Refused(str(error)) from error
            failures += 1
            progress(f"{path.name}: {error}; trying again")
            time.sleep(min(config.wait_s * 2 ** (failures - 1), MAX_WAIT_S))
            continue
        try:
            digest = _verify(part, path.name, sha256)
            break
        except Refused as error:
            discard(part)
            # Pieces may not fit together: the same address gets one chance from the start.
            chances -= 1
            if not in_pieces or not chances:
                raise
            progress(f"{path.name} {error}; once more from the start")
    part.replace(path)
    discard(part)
    _sync_folder(path.parent)
    return digest


def _verify(path: Path, name: str, sha256: str | None) -> str:
    """The file's SHA-256. `Refused` when it is not the one known, or (none known) when a `.gz` is cut or damaged."""
    digest = file_sha256(path)
    if sha256 is not None and digest != sha256:
        raise Refused(f"has SHA-256 {digest[:12]}..., expected is {sha256[:12]}...")
    if sha256 is None and name.endswith(".gz"):
        try:
            with gzip.open(path) as file:
                while file.read(1 << 20):
                    pass
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise Refused(f"is damaged ({error})") from error
    return digest


def _name(url: str) -> str:
    return url.rsplit("/", 1)[-1]


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def by_hand(row: Row, folder: Path) -> str:
    """Where to get what no mirror may give, and where to put it."""
    return (
        f"{row.category} is given only to those who accept its terms: get it at {YELP_PAGE}, unpack it and "
        f"put {' and '.join(raw.name for raw in row.files)} into {folder}"
    )
