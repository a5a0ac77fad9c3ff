"""The download: raw files of the registry into OUT/<Category>/, ready for `shard build`.

Enters a `DownloadConfig`; leave verified files with a `SHA256SUMS` beside them (`sha256sum -c` reads it). It must hold
that a file under its own name is whole and verified (by SHA-256 where one is known: from the checksums file, else the
registry, else the first download; by length and gzip CRC otherwise), that a broken download goes on where it was, and
that one line tells why all mirrors failed. A `SHA256SUMS` has
one checksum of a name; the folders before a name do not count.
"""

import gzip
import os
import re
import time
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path

from shards import registry
from shards.download.config import DownloadConfig, chosen_rows
from shards.download.fetch import Interrupted, Refused, discard, fetch
from shards.files.atomic import write_whole
from shards.manifest import file_sha256
from shards.registry import YELP_PAGE, RawFile, Row


def download(config: DownloadConfig, progress: Callable[[str], None] = lambda line: None) -> list[Path]:
    """Brings all files that are not there yet; returns the paths of all. ValueError when one cannot be had."""
    given = read_sums(Path(config.checksums)) if config.checksums else {}
    paths = []
    for row in chosen_rows(config):
        folder = Path(config.out) / row.category
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for raw in row.files:
                paths.append(bring(config, row, raw, folder, given, progress))
        except OSError as error:
            raise ValueError(
                f"{error.filename or folder} cannot be used ({error.strerror or error}); "
                "make room or name another output folder"
            ) from error
    missing = [row.category for row in registry.rows(config.release) if not row.files]
    if missing and not config.categories:
        progress(f"release {config.release} has no successor of {', '.join(missing)}")
    if config.release == "2014" and not config.categories:
        progress(by_hand(registry.row("yelp", "Yelp"), Path(config.out) / "Yelp"))
    return paths


MAX_WAIT_S = 60.0


def bring(
    config: DownloadConfig,
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
    config: DownloadConfig,
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


SUMS_FILE = "SHA256SUMS"
SUMS_LINE = re.compile(r"([0-9a-fA-F]{64}) [ *](.+)")


def read_sums(path: Path) -> dict[str, str]:
    """File name (without folders) -> SHA-256, from a file in sha256sum's format; ValueError names a bad line."""
    if not path.is_file():
        raise ValueError(f"{path} is missing; name a file in the format of sha256sum")
    sums: dict[str, str] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), start=1):
        match = SUMS_LINE.fullmatch(line.rstrip())
        if line.strip() and not match:
            raise ValueError(f"{path}:{number}: write '<64 hexadecimal digits>  <file name>', as sha256sum does")
        if match:
            digest, name = match[1].lower(), match[2].rsplit("/", 1)[-1]
            if sums.setdefault(name, digest) != digest:
                raise ValueError(f"{path}:{number}: {name} has two different checksums; keep one")
    return sums


def record_sum(folder: Path, name: str, digest: str) -> None:
    """Enters one checksum into the folder's `SHA256SUMS`, whole or not at all."""
    path = folder / SUMS_FILE
    sums = {**(read_sums(path) if path.exists() else {}), name: digest}
    write_whole(path, "".join(f"{sums[each]}  {each}\n" for each in sorted(sums)))
