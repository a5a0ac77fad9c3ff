"""A file is there whole or not at all."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from shards.files import atomic
from shards.files.atomic import write_whole


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

    monkeypatch.setattr(atomic.os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_whole(path, b"new")
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["lists.jsonl"]


def test_a_kill_leaves_the_old_file(tmp_path):
    path = tmp_path / "lists.jsonl"
    write_whole(path, b"old")
    code = (
        "import os, signal, sys; from pathlib import Path; from shards.files import atomic\n"
        "atomic.os.fsync = lambda number: os.kill(os.getpid(), signal.SIGKILL)\n"
        "atomic.write_whole(Path(sys.argv[1]), b'new')"
    )
    assert subprocess.run([sys.executable, "-c", code, str(path)]).returncode == -signal.SIGKILL
    assert path.read_bytes() == b"old"


IN_A_DRAFT = {
    "launchers/slurm/launch_folder.py": "a launch counts once its record is there",
    "launchers/jobs/local.py": "of a folder of its own, for one job",
    "launchers/checks/round_trip.py": "a probe",
    "pretrain/tracking/uploader.py": "lines are appended; half a one is taken off",
    "pretrain/export/hugging_face.py": "a draft of the folder is renamed",
    "pretrain/export/interpolation.py": "a draft of the checkpoint is renamed",
    "pretrain/model/t5.py": "of a checkpoint or an export, or made anew by whoever begins",
    "pretrain/training/state.py": "a draft of the checkpoint is renamed",
    "pretrain/tracking/tracker.py": "lines are appended; half a one is taken off",
    "pretrain/runtime/watchdog.py": "of a process that ends with it",
    "shards/build/members.py": "a draft of the folder is renamed",
    "shards/download/fetch.py": "a part counts once its checksum is right",
    "shards/readers/marketplace.py": "made anew where its end is missing",
    "shards/readers/rejects.py": "a stage of a build counts once its result is there",
    "shards/files/store.py": "of a folder of its own, for one process",
    "shards/tokenizer.py": "a stage of a build counts once its result is there",
    "shards/build/write.py": "a stage of a build counts once its result is there",
}


def test_no_other_code_writes_a_file_in_its_place():
    """A file that a kill cuts in two refuses the same command, or is read as if it were whole."""
    root = Path(atomic.__file__).resolve().parents[2]
    writes = re.compile(r"""\.write_(text|bytes)\(|\bOSFile\(|\bopen\([^)]*["'][wax]b?\+?["']""")
    found = {
        str(path.relative_to(root))
        for room in ("shards", "pretrain", "zeroshot", "launchers")
        for path in (root / room).rglob("*.py")
        if writes.search(path.read_text())
    }
    assert found - {"shards/files/atomic.py"} == set(IN_A_DRAFT), (
        "write it with shards.files.atomic, or say here why not"
    )
