"""Files that are there whole or not at all, also after a kill or a power cut.

Enters: a path and what is to stand there. Must hold: until the new file is on the disk the old one, or none, is there;
two writers of one file do not share a draft.
"""

import os
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
