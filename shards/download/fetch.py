"""One attempt to bring one file from one address, going on where an earlier attempt broke off.

Enter a URL and a `.part` file with its `.part.json` (address, validator, length); leaves the `.part` longer, or whole.
It must hold that bytes of two versions of a file never meet in one `.part`: a resumed answer counts only when it starts
at the right byte of a file of the same length and the same validator. What is whole is not yet verified.
"""

import http.client
import json
import os
import re
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import asdict, dataclass
from email.message import Message
from pathlib import Path

from shards.files.atomic import write_whole

BLOCK = 1 << 18
PROGRESS_S = 10.0
GZIP_MAGIC = b"\x1f\x8b"


class Interrupted(Exception):
    """This attempt failed; the same address is worth another one."""


class Refused(Exception):
    """This address does not give the file; only another one may."""


@dataclass(frozen=True)
class Origin:
    """Where the bytes of a `.part` come from. validator: ETag (strong) or Last-Modified; length: bytes of the whole."""

    url: str
    validator: str | None
    length: int | None


def fetch(
    url: str,
    part: Path,
    *,
    num_bytes: int | None,
    hash_known: bool,
    timeout_s: float,
    progress: Callable[[str], None],
) -> None:
    """One attempt; returns when `part` is whole by its length.

    num_bytes: published length. hash_known: a checksum will be compared, so that a `.part` of another mirror may be
    continued. timeout_s: for connecting and for each wait for bytes. Raises `Interrupted` or `Refused`; ValueError when
    the disk is too small; OSError when `part` cannot be written.
    """
    origin, offset = _continued(part, url, hash_known)
    headers = {"User-Agent": "idgenrec", "Accept-Encoding": "identity"}
    if origin is not None:
        if origin.url == url and origin.length == offset:
            return
        headers["Range"] = f"bytes={offset}-"
        if origin.url == url and origin.validator:
            headers["If-Range"] = origin.validator
    try:
        response = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=timeout_s)
    except urllib.error.HTTPError as error:
        with error:
            if error.code == 416 and origin is not None:
                if _range(error.headers)[1] == offset:
                    return
                discard(part)
                raise Interrupted("HTTP 416, the file has another length now") from error
            raise Interrupted(f"HTTP {error.code} {error.reason}".strip()) from error
    except (OSError, http.client.HTTPException) as error:
        raise Interrupted(_reason(error, timeout_s)) from error
    with response:
        if response.status == 206 and origin is not None:
            start, length = _range(response.headers)
            if start != offset or not _same_file(origin, url, length, _validator(response.headers)):
                discard(part)
                raise Interrupted("the file changed between two attempts")
            length = length or origin.length
        elif response.status == 200:
            offset, length = 0, _content_length(response.headers)
        else:
            raise Interrupted(f"HTTP {response.status} where 200 or 206 was asked for")
        if num_bytes is not None and length is not None and length != num_bytes:
            raise Refused(f"has {length:,} bytes, published are {num_bytes:,}")
        _check_space(part, length, offset)
        _receive(response, url, part, offset, length, timeout_s, progress)


def read_origin(part: Path) -> Origin | None:
    """What the `.part.json` beside `part` says; None where there is none to be understood: the file starts again."""
    try:
        return Origin(**json.loads(origin_file(part).read_bytes()))
    except (FileNotFoundError, ValueError, TypeError):
        return None


def origin_file(part: Path) -> Path:
    """The `.part.json` of a `.part`."""
    return part.with_name(f"{part.name}.json")


def discard(part: Path) -> None:
    """Forgets what was received."""
    part.unlink(missing_ok=True)
    origin_file(part).unlink(missing_ok=True)


def _receive(
    response: http.client.HTTPResponse,
    url: str,
    part: Path,
    offset: int,
    length: int | None,
    timeout_s: float,
    progress: Callable[[str], None],
) -> None:
    block = _read(response, timeout_s)
    if not block:
        raise Interrupted("closed the connection without a byte")
    if offset == 0:
        _check_start(part.stem, block)
    with part.open("r+b" if offset else "wb") as file:
        # Old bytes are gone before the new origin is written: killed in between, the next attempt starts at 0.
        file.truncate(offset)
        origin = Origin(url, _validator(response.headers), length)
        write_whole(origin_file(part), json.dumps(asdict(origin)))
        file.seek(offset)
        reported = time.monotonic()
        while block:
            file.write(block)
            offset += len(block)
            if time.monotonic() - reported >= PROGRESS_S:
                reported = time.monotonic()
                share = f" of {length / 1e6:,.1f} MB ({offset / length:.0%})" if length else " MB"
                progress(f"{part.stem}: {offset / 1e6:,.1f}{share}")
            block = _read(response, timeout_s)
        file.flush()
        os.fsync(file.fileno())
    if length is not None and offset < length:
        raise Interrupted(f"cut off after {offset:,} of {length:,} bytes")
    if length is not None and offset > length:
        discard(part)
        raise Interrupted(f"sent {offset:,} bytes of a file of {length:,}")


def _read(response: http.client.HTTPResponse, timeout_s: float) -> bytes:
    # read1 gives what has arrived: a cut connection costs nothing that was received before it.
    try:
        return response.read1(BLOCK)
    except (OSError, http.client.HTTPException) as error:
        raise Interrupted(_reason(error, timeout_s)) from error


def _continued(part: Path, url: str, hash_known: bool) -> tuple[Origin | None, int]:
    """Origin and bytes of what can be gone on with from `url`; (None, 0) where it has to start again."""
    origin, offset = read_origin(part), _size(part)
    if origin is None or offset == 0:
        return None, 0
    # Of another mirror's bytes only the checksum tells in the end whether they fit.
    usable = origin.url == url or (hash_known and origin.length is not None)
    return (origin, offset) if usable else (None, 0)


def _same_file(origin: Origin, url: str, length: int | None, validator: str | None) -> bool:
    """Whether a partial answer continues what was received; another mirror must at least have the same length."""
    if origin.url != url:
        return length == origin.length
    # A 206 need not repeat Last-Modified, and servers exist that ignore If-Range.
    return length in (None, origin.length) and (not validator or not origin.validator or validator == origin.validator)


def _check_start(name: str, block: bytes) -> None:
    """A login wall or an error page comes with status 200: the first bytes tell."""
    if name.endswith(".gz"):
        expected, start = GZIP_MAGIC[: len(block)], block
    else:
        expected, start = b"{", block.lstrip()
    if not start.startswith(expected):
        raise Refused("answers with something else than data, perhaps a web page")


def _check_space(part: Path, length: int | None, offset: int) -> None:
    free = shutil.disk_usage(part.parent).free + (_size(part) - offset)
    if length is not None and length - offset > free:
        raise ValueError(
            f"{part.stem} needs {(length - offset) / 1e9:,.2f} GB more, {part.parent} has {free / 1e9:,.2f} GB free; "
            "make room or name another output folder"
        )


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _validator(headers: Message) -> str | None:
    etag = headers.get("ETag")
    return etag if etag and not etag.startswith("W/") else headers.get("Last-Modified")


def _content_length(headers: Message) -> int | None:
    value = headers.get("Content-Length", "")
    return int(value) if value.isdecimal() else None


def _range(headers: Message) -> tuple[int | None, int | None]:
    """First byte and length of the whole file, from `Content-Range: bytes 10-99/100` (or `*/100`)."""
    match = re.fullmatch(r"bytes (?:(\d+)-\d+|\*)/(?:(\d+)|\*)", headers.get("Content-Range", "").strip())
    start, length = match.groups() if match else (None, None)
    return (int(start) if start else None, int(length) if length else None)


def _reason(error: Exception, timeout_s: float) -> str:
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(cause, TimeoutError):
        return f"silent for {timeout_s:g} s"
    return str(cause) or type(cause).__name__
