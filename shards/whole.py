"""Files that are there whole or not at all, also after a kill or a power cut.

Enters: a path and what is to stand there. Must hold: until the new file is on the disk the old one, or none, is there;
two writers of one file do not share a draft.
"""

import os
import threading
from pathlib import Path


def write_whole(path: Path, content: bytes) -> None:
    """Write or replace a file. It is on the disk when this returns."""
    draft = path.with_name(f".{path.name}.{threading.get_native_id()}.writing")
    try:
        with draft.open("wb") as sink:
            sink.write(content)
            sink.flush()
            os.fsync(sink.fileno())
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)  # of a full disk; after a replacement there is none
