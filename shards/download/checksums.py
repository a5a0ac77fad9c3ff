"""Checksums of files, in the format that `sha256sum` writes and `sha256sum -c` reads.

Enters and leaves a file such as `SHA256SUMS`. It must hold that a name has one checksum; the
folders before a name do not count.
"""

import re
from pathlib import Path

from shards.files.atomic import write_whole

SUMS_FILE = "SHA256SUMS"
SUMS_LINE = re.compile(r"([0-9a-fA-F]{64}) [ *](.+)")


def read_sums(path: Path) -> dict[str, str]:
    """File name (without folders) -> SHA-256, from a file in sha256sum's format; ValueError names a bad line."""
    if not path.is_file():
        raise ValueError(f"{path} is missing; name a file in the format of sha256sum")
    sums: dict[str, str] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), start=1):
        found = SUMS_LINE.fullmatch(line.rstrip())
        if line.strip() and not found:
            raise ValueError(f"{path}:{number}: write '<64 hexadecimal digits>  <file name>', as sha256sum does")
        if found:
            digest, name = found[1].lower(), found[2].rsplit("/", 1)[-1]
            if sums.setdefault(name, digest) != digest:
                raise ValueError(f"{path}:{number}: {name} has two different checksums; keep one")
    return sums


def record_sum(folder: Path, name: str, digest: str) -> None:
    """Enters one checksum into the folder's `SHA256SUMS`, whole or not at all."""
    path = folder / SUMS_FILE
    sums = {**(read_sums(path) if path.exists() else {}), name: digest}
    write_whole(path, "".join(f"{sums[each]}  {each}\n" for each in sorted(sums)))
