"""The wheel and the sdist of this checkout, and a place where the wheel is installed and the checkout is not.

The wheel goes into a new environment. Its dependencies are looked up in the environment of the tests, so that two
gigabytes are not installed once more; tests/test_imports.py sees to it that each of them is declared.
"""

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def built(folder: Path) -> tuple[Path, Path]:
    """The wheel and the sdist, made from the files that git knows (or would, if they were added now)."""
    words = ["git", "-c", "safe.directory=*", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\n")
    for name in filter(None, listed):
        if (ROOT / name).is_file():
            (folder / "tree" / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / "tree" / name).write_bytes((ROOT / name).read_bytes())
    build = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder / "dist"), str(folder / "tree")]
    done = subprocess.run(build, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    (wheel,), (sdist,) = (folder / "dist").glob("*.whl"), (folder / "dist").glob("*.tar.gz")
    return wheel, sdist


class Installed:
    """A wheel in an environment of its own. `site`: where its packages lie; `command`: its `idgenrec`."""

    def __init__(self, wheel: Path, folder: Path) -> None:
        self.folder = folder
        subprocess.run([sys.executable, "-m", "venv", str(folder / "venv")], check=True)
        python = folder / "venv" / "bin" / "python"
        install = [str(python), "-m", "pip", "install", "-q", "--no-deps", "--no-index", str(wheel)]
        subprocess.run(install, check=True, capture_output=True)
        # A plain path in a .pth file: the editable finder of the tests' own environment is not read from there.
        self.site = Path(self.ran(str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
        (self.site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
        self.command = str(folder / "venv" / "bin" / "idgenrec")
        where = "import launchers, pretrain, shards, zeroshot; print(launchers.__file__, zeroshot.__file__)"
        assert all(Path(path).is_relative_to(self.site) for path in self.ran(str(python), "-c", where).split())

    def ran(self, *words: str) -> str:
        """What a command has printed; it must end with status 0."""
        outside = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | {"PIP_NO_INDEX": "1"}
        done = subprocess.run(words, cwd=self.folder, env=outside, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return done.stdout


@pytest.fixture(scope="session")
def packed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The wheel and the sdist."""
    return built(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="session")
def installed(packed: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """The wheel where the checkout is not."""
    return Installed(packed[0], tmp_path_factory.mktemp("installed"))
