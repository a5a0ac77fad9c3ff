"""What people install: a wheel and an sdist that hold the four packages alone, and a demo that runs from the wheel.

The wheel goes into a new environment where the checkout cannot be imported. Its dependencies are looked up in the
environment of the tests, so that two gigabytes are not installed once more; tests/test_imports.py sees to it that
each of them is declared.
"""

import os
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path, PurePosixPath

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = {"shards", "pretrain", "zeroshot", "launchers"}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The wheel and the sdist, made from the files that git knows (or would, if they were added now)."""
    folder = tmp_path_factory.mktemp("wheel")
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
    return {"wheel": wheel, "sdist": sdist}


def belongs(name: str) -> bool:
    path = PurePosixPath(name)
    return path.parts[0] in ROOMS and (
        path.suffix == ".py" or path.name == "py.typed" or path.parts[:2] == ("zeroshot", "templates")
    )


def in_tree() -> set[str]:
    found = (path.relative_to(ROOT) for room in ROOMS for path in (ROOT / room).rglob("*") if path.is_file())
    return {str(path) for path in found if belongs(str(path)) and "__pycache__" not in path.parts}


def test_the_wheel_holds_the_four_packages(built: dict[str, Path]) -> None:
    names = zipfile.ZipFile(built["wheel"]).namelist()
    inside = {name for name in names if ".dist-info/" not in name}
    assert inside == in_tree()
    assert {f"{room}/py.typed" for room in ROOMS} | {"zeroshot/templates/report.html.j2"} <= inside
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)


def test_the_sdist_holds_what_the_wheel_is_built_from(built: dict[str, Path]) -> None:
    with tarfile.open(built["sdist"]) as archive:
        names = {str(PurePosixPath(*PurePosixPath(name).parts[1:])) for name in archive.getnames() if "/" in name}
        files = {member.name.partition("/")[2] for member in archive.getmembers() if member.isfile()}
    rest = {name for name in files if not belongs(name) and "egg-info" not in name}
    assert rest == {"LICENSE", "MANIFEST.in", "PKG-INFO", "README.md", "pyproject.toml", "setup.cfg"}
    assert names > in_tree()


@pytest.mark.slow
def test_the_demo_runs_from_the_wheel(built: dict[str, Path], tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "venv")], check=True)
    python = tmp_path / "venv" / "bin" / "python"
    install = [str(python), "-m", "pip", "install", "-q", "--no-deps", "--no-index", str(built["wheel"])]
    subprocess.run(install, check=True, capture_output=True)
    outside = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | {"PIP_NO_INDEX": "1"}

    def ran(*words: str) -> str:
        done = subprocess.run(words, cwd=tmp_path, env=outside, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return done.stdout

    # A plain path in a .pth file: the editable finder of the tests' own environment is not read from there.
    site = Path(ran(str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    where = (
        "import launchers, pretrain, shards, zeroshot as z; print(launchers.__file__, pretrain.__file__, z.__file__)"
    )
    assert all(Path(path).is_relative_to(site) for path in ran(str(python), "-c", where).split())
    command = str(tmp_path / "venv" / "bin" / "idgenrec")
    version = ran(command, "--version").splitlines()[0]
    assert version == f"idgenrec 0.1.0 ({site})", "no commit: this is no checkout"
    said = ran(command, "demo", "--out", "demo")
    assert "done in" in said and (tmp_path / "demo" / "report" / "report.html").is_file()
