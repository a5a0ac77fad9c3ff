"""Locks: one process at a time works in a folder, where the file system can say so.

Enters: a file that stands for what is locked. Leaves: the lock, until the context ends or the process does. Must hold:
a file system without locks (NFS without its lock daemon, Lustre without -o flock, some FUSE) stops nobody, and is said
at once: one process is enough for all that we do.
"""

import errno
import fcntl
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

WITHOUT_LOCKS = {errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}
_warned: set[Path] = set()


@contextmanager
def locked(file: Path, wait: bool = True) -> Iterator[None]:
    """Nobody else has the lock meanwhile. Where another has it we wait, or raise BlockingIOError."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("ab") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except OSError as error:
            if error.errno not in WITHOUT_LOCKS:
                raise
            _warn_once(file.parent, error)
        yield


def _warn_once(folder: Path, error: OSError) -> None:
    if folder not in _warned:
        _warned.add(folder)
        print(
            f"warning: {folder} is on a file system without locks ({error.strerror}): let one process at a time work "
            "there",
            file=sys.stderr, flush=True,
        )  # fmt: skip
