"""What people install: a wheel and an sdist with the four packages alone. The demo from the wheel: test_demo.py."""

import tarfile
import zipfile
from pathlib import Path, PurePosixPath

import pytest
from wheels import ROOT, Installed

ROOMS = {"shards", "pretrain", "zeroshot", "launchers"}


pytestmark = pytest.mark.xdist_group("wheel")


def belongs(name: str) -> bool:
    path = PurePosixPath(name)
    return path.parts[0] in ROOMS and (
        path.suffix == ".py" or path.name == "py.typed" or path.parts[:3] == ("zeroshot", "report", "templates")
    )


def in_tree() -> set[str]:
    found = (path.relative_to(ROOT) for room in ROOMS for path in (ROOT / room).rglob("*") if path.is_file())
    return {str(path) for path in found if belongs(str(path)) and "__pycache__" not in path.parts}


def test_the_wheel_holds_the_four_packages(packed: tuple[Path, Path]) -> None:
    names = zipfile.ZipFile(packed[0]).namelist()
    inside = {name for name in names if ".dist-info/" not in name}
    assert inside == in_tree()
    assert {f"{room}/py.typed" for room in ROOMS} | {"zeroshot/report/templates/report.html.j2"} <= inside
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)


def test_the_sdist_holds_what_the_wheel_is_built_from(packed: tuple[Path, Path]) -> None:
    with tarfile.open(packed[1]) as archive:
        names = {str(PurePosixPath(*PurePosixPath(name).parts[1:])) for name in archive.getnames() if "/" in name}
        files = {member.name.partition("/")[2] for member in archive.getmembers() if member.isfile()}
    rest = {name for name in files if not belongs(name) and "egg-info" not in name}
    assert rest == {"LICENSE", "MANIFEST.in", "PKG-INFO", "README.md", "pyproject.toml", "setup.cfg"}
    assert names > in_tree()


def test_an_installed_wheel_says_which_it_is(installed: Installed) -> None:
    version = installed.ran(installed.command, "--version").splitlines()[0]
    assert version == f"idgenrec 0.1.0 ({installed.site})", "no commit: this is no checkout"
