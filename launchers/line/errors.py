"""What the machine refused, in one line: a full disk, a missing permission, a file system that is read-only, a package
that is not installed.

Enters: an error. Leaves: what to say, or None where it is not the machine's refusal and so perhaps a fault of ours.
Must hold: libraries that hand on the system's words without its number (DuckDB, safetensors, tokenizers) are understood
too.
"""

from __future__ import annotations

import errno
import os
from importlib.metadata import PackageNotFoundError

_CURES = {
    errno.ENOSPC: "no space left{}; make room and give the same command again",
    errno.EDQUOT: "the disk quota is used up{}; make room and give the same command again",
    errno.EFBIG: "a file would be larger than the limit allows{}; raise it (ulimit -f) and give the same command again",
    errno.EACCES: "no permission{}; change the permissions, or name another place",
    errno.EPERM: "no permission{}; change the permissions, or name another place",
    errno.EROFS: "the file system is read-only{}; name another place",
    errno.ENOTDIR: "a file stands where a folder is needed{}; name another place",
    errno.ENAMETOOLONG: "a name is too long{}; name another place",
    errno.EMFILE: "too many open files{}; raise the limit (ulimit -n) and give the same command again",
}


def refusal(error: Exception) -> str | None:
    """One line that says what to change."""
    if isinstance(error, PackageNotFoundError):  # a source tree that is on the path and was never installed
        return f"{error.name} is not installed in this environment, and its version is asked for; pip install it"
    if isinstance(error, OSError) and error.errno in _CURES:
        return _CURES[error.errno].format(f" for {error.filename}" if error.filename else "")
    code = next((code for code in _CURES if os.strerror(code) in str(error)), None)
    return None if code is None else _CURES[code].format("")
