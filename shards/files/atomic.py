"""Files that several processes write: each is there whole or not at all, and one process at a time works in a folder.

Enters: a path and what is to stand there; a file that stands for what is locked. Must hold: until a new file is on
the disk, also after a kill or a power cut, the old one, or none, is there; two writers of one file do not share a
draft. A file system without locks (NFS without its lock daemon, Lustre without -o flock, some FUSE) stops nobody, and
is named at once: one process is enough for all that we do.
"""

import errno
import fcntl
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO


@contextmanager
def whole(path: Path) -> Iterator[IO[bytes]]:
    """A file to write to, which stands at `path`, on the disk, when the context ends well; else nothing changes."""
    draft = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_native_id()}.writing")
    try:
        with draft.open("wb") as sink:
            yield sink
            sink.flush()
            os.fsync(sink.fileno())
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)  # of a full disk; after a replacement there is none


def write_whole(path: Path, content: bytes | str) -> None:
    """Write or replace a file, of text in UTF-8. It is on the disk when this returns."""
    with whole(path) as sink:
        sink.write(content.encode() if isinstance(content, str) else content)


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
