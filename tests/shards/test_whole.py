"""A file is there whole or not at all."""

import os
import signal
import subprocess
import sys

import pytest

from shards import whole
from shards.whole import write_whole


def test_a_file_is_made_and_replaced(tmp_path):
    path = tmp_path / "lists.jsonl"
    for content in (b"one", b"another"):
        write_whole(path, content)
        assert path.read_bytes() == content and os.listdir(tmp_path) == ["lists.jsonl"]


def test_a_full_disk_leaves_the_old_file_and_no_draft(tmp_path, monkeypatch):
    path = tmp_path / "lists.jsonl"
    write_whole(path, b"old")

    def full(number):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(whole.os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_whole(path, b"new")
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["lists.jsonl"]


def test_a_kill_leaves_the_old_file(tmp_path):
    path = tmp_path / "lists.jsonl"
    write_whole(path, b"old")
    code = (
        "import os, signal, sys; from pathlib import Path; from shards import whole\n"
        "whole.os.fsync = lambda number: os.kill(os.getpid(), signal.SIGKILL)\n"
        "whole.write_whole(Path(sys.argv[1]), b'new')"
    )
    assert subprocess.run([sys.executable, "-c", code, str(path)]).returncode == -signal.SIGKILL
    assert path.read_bytes() == b"old"
