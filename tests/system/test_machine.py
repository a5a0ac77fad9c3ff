"""What the machine refuses, and Ctrl-C: the rest of the table of bad input, which needs root or time.

A disk that is full and a folder without permission give one line and status 2. Ctrl-C ends every command
with a line; the same command goes on, and what it makes is what an undisturbed one makes. In every phase of a run:
tests/pretrain/test_interrupt.py.
"""

import functools
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from patience import HANG

ROOT = Path(__file__).parents[2]
_RIGHTS = "-dac_override,-dac_read_search"
WITHOUT_OVERRIDE = ("setpriv", "--bounding-set", _RIGHTS, "--inh-caps", _RIGHTS)


def started(*words: object, before: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    """The command line as a person starts it: in a process group of its own, which Ctrl-C reaches as a whole."""
    command = [*before, sys.executable, "-u", "-m", "launchers.cli", *map(str, words)]
    return subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=HANG)
    return process.returncode, out, err


def the_one_line(err: str) -> str:
    (line,) = [line for line in err.splitlines() if line.startswith("error: ")]
    assert "Traceback" not in err, err
    return line


@pytest.fixture(scope="module")
def run(trained_run: tuple, shard_folder: Path) -> dict[str, str]:
    from pretrain.training import checkpoint

    best = checkpoint.best(Path(trained_run[1]))
    assert best is not None
    return {
        "RUN": trained_run[1],
        "SHARDS": str(shard_folder),
        "RAW": str(shard_folder.parent / "raw"),
        "GENERATOR": str(best / "generator"),
    }


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 kilobytes, with room for little more than names."""
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)], check=True)
    (folder / "ballast").write_bytes(bytes(48 * 1024))
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


WRITING = {
    "shard build": "shard build --train RAW/Garden --test RAW/Gifts --vocab-size 420 --out OUT/new",
    "ids": "ids --generator GENERATOR --shards SHARDS --catalogue Garden --out OUT/new.arrow",
    "pretrain": "pretrain --shards SHARDS --out OUT/new --recommender.d-model 16 --recommender.num-layers 1",
    "zeroshot": "zeroshot --checkpoint RUN --shards SHARDS --out OUT/new",
    "export": "export --checkpoint RUN --out OUT/new",
    "demo": "demo --out OUT/new",
}


def words_of(command: str, values: dict[str, str]) -> list[str]:
    line = WRITING[command]
    for name, value in values.items():
        line = line.replace(name, value)
    return line.split()


@pytest.mark.parametrize("command", WRITING)
def test_no_space_is_one_line(command: str, run: dict[str, str], full_disk: Path) -> None:
    status, _, err = ended(started(*words_of(command, {**run, "OUT": str(full_disk)})))
    assert status == 2, err
    line = the_one_line(err).lower()
    assert "room" in line or "space" in line, line
    goes_on = command in ("pretrain", "zeroshot", "demo")
    assert goes_on or not (full_disk / "new").is_dir()
    assert not (full_disk / "new.arrow").exists()


@pytest.mark.parametrize("command", WRITING)
def test_no_permission_is_one_line(command: str, run: dict[str, str], tmp_path: Path) -> None:
    """Into a folder that may only be read, without root's right to write all the same."""
    target = tmp_path / "closed"
    target.mkdir(mode=0o555)
    status, _, err = ended(started(*words_of(command, {**run, "OUT": str(target)}), before=WITHOUT_OVERRIDE))
    assert status == 2, err
    assert "permission" in the_one_line(err).lower()
    assert not list(target.iterdir())


def test_a_read_only_disk_is_one_line(run: dict[str, str], tmp_path: Path) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", str(tmp_path)], check=True)
    try:
        status, _, err = ended(started(*words_of("shard build", {**run, "OUT": str(tmp_path)})))
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)
    assert status == 2 and "read-only" in the_one_line(err)


def read_to(process: subprocess.Popen[str], word: str) -> None:
    """Read what the command prints until it prints the word."""
    assert process.stdout is not None
    lines = []
    while word not in (lines[-1] if lines else ""):
        lines.append(process.stdout.readline())
        assert lines[-1], "".join(lines) + (process.stderr.read() if process.stderr else "")


def bytes_of(folder: Path, *suffixes: str) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.suffix in suffixes
    }


def last_made(folder: Path) -> Path:
    """Of a run the last checkpoint: which others are kept depends on when it was stopped."""
    return max((folder / "run" / "checkpoints").glob("step-*"), default=folder)


SMALL = (
    "pretrain --shards SHARDS --out OUT/run --recommender.d-model 16 --recommender.num-layers 1 --generator.d-model 16 "
    "--generator.num-layers 1 --ids.groups 3 --ids.tier-tokens 4 --schedule.teaching-epochs 12 --batch-size 8 "
    "--micro-batch-size 8 --generator-lr 1e-3 --search.beam 10 --schedule.validation-users 8 --log-steps 1"
)


@pytest.fixture(scope="module")
def undisturbed(run: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a command that nobody disturbed, run once."""

    @functools.cache
    def folder(line: str) -> Path:
        out = tmp_path_factory.mktemp("undisturbed")
        status, _, err = ended(started(*in_folder(line, run, out)))
        assert status == 0, err
        return out

    return folder


def in_folder(line: str, run: dict[str, str], out: Path) -> list[str]:
    for name, value in {**run, "OUT": str(out)}.items():
        line = line.replace(name, value)
    return line.split()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("line", "phase", "suffixes"),
    [
        ("shard build --train RAW/Garden RAW/Kitchen --test RAW/Gifts --vocab-size 420 --out OUT/s", "read", (".tar",)),
        (SMALL, "round 1 generator", (".safetensors",)),
        ("zeroshot --checkpoint RUN --shards SHARDS --out OUT/report", "Gifts", (".parquet", ".arrow")),
        ("ids --generator GENERATOR --shards SHARDS --out OUT/b.arrow --ids.blocks-per-wave 1", "IDs", (".arrow",)),
    ],
    ids=["build", "pretrain", "zeroshot", "ids"],
)
def test_ctrl_c_in_every_command(
    line: str, phase: str, suffixes: tuple[str, ...], run: dict[str, str], undisturbed: Callable, tmp_path: Path
) -> None:
    words = in_folder(line, run, tmp_path)
    status = 0
    while status == 0:  # one that has ended before the signal came shows nothing
        shutil.rmtree(tmp_path)
        tmp_path.mkdir()
        process = started(*words)
        read_to(process, phase)
        os.killpg(process.pid, signal.SIGINT)
        status, _, err = ended(process)
    assert status in (75, 130), f"{status}: {err}"
    assert "Traceback" not in err and "the same command" in err, err
    status, _, err = ended(started(*words))
    assert status == 0, err
    again, expected = (bytes_of(last_made(folder), *suffixes) for folder in (tmp_path, undisturbed(line)))
    assert expected and again.keys() == expected.keys()
    assert [name for name in expected if again[name] != expected[name]] == []
