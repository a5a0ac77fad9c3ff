"""House rules that a parser can check: imports run one way, some libraries have one door, names mean something."""

import ast
import functools
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("shards", "pretrain", "zeroshot", "launchers")
FILES = sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))


@functools.cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@functools.cache
def imported(path: Path) -> set[str]:
    """Dotted names of every module that a file imports, wherever in it."""
    names: set[str] = set()
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            package = list(path.relative_to(ROOT).parts[:-1]) if node.level else []
            base = package[: len(package) - node.level + 1] + ([node.module] if node.module else [])
            names.add(".".join(base))
            names |= {".".join([*base, alias.name]) for alias in node.names}
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) in (
            "import_module",
            "__import__",
        ):
            names |= {str(argument.value) for argument in node.args[:1] if isinstance(argument, ast.Constant)}
    return names


def roots(path: Path) -> set[str]:
    return {name.split(".")[0] for name in imported(path)}


def test_the_rooms_are_there():
    assert {path.relative_to(ROOT).parts[0] for path in FILES} == set(ROOMS) and len(FILES) > 40


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_run_one_way(path):
    room = path.relative_to(ROOT).parts[0]
    above = set(ROOMS[ROOMS.index(room) + 1 :])
    assert not roots(path) & above, f"{room} may import only {ROOMS[: ROOMS.index(room) + 1]}"
    assert "tests" not in roots(path)


@pytest.mark.parametrize(
    ("library", "doors"),
    [
        ("deepspeed", {"pretrain/engine.py"}),
        ("mlflow", {"pretrain/mlflow_store.py"}),
        ("fcntl", {"shards/locks.py"}),
        ("submitit", {"launchers/slurm.py", "launchers/slurm_job.py"}),
    ],
)
def test_one_door_for_a_library(library, doors):
    assert {str(path.relative_to(ROOT)) for path in FILES if library in roots(path)} == doors


def called(path: Path) -> set[str]:
    """Names of everything that a file calls, as they are written before the bracket."""
    return {ast.unparse(node.func) for node in ast.walk(parsed(path)) if isinstance(node, ast.Call)}


def test_a_path_is_never_a_pattern():
    """DuckDB and polars take a path for a pattern: one door makes them read the file of that name. `Path.glob` has its
    pattern apart from the folder, and no pattern is made of a name that a person gave."""
    for path in FILES:
        name = str(path.relative_to(ROOT))
        if name != "shards/database.py":
            outside = (
                r"(pl|polars)\.(read|scan)_(?!csv|ndjson)\w+|pl\.scan_\w+|duckdb\.(read|sql|query|connect).*|glob\.\w+"
            )
            assert not [call for call in called(path) if re.fullmatch(outside, call)], name
            for node in ast.walk(parsed(path)):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    assert not re.search(r"\b(read|scan)_(parquet|csv|json)\(|\bFROM '", node.value), name
        for node in ast.walk(parsed(path)):
            if not isinstance(node, ast.Call):
                continue
            call = ast.unparse(node.func)
            if call in ("pl.read_csv", "pl.read_ndjson"):
                assert ast.unparse(node.args[0]).startswith("io.BytesIO("), f"{name}: {call} of a path"
            if call.endswith((".glob", ".rglob")):
                [pattern] = node.args
                inserted = {
                    ast.unparse(part.value) for part in ast.walk(pattern) if isinstance(part, ast.FormattedValue)
                }
                ours = re.compile(r"[A-Z]+|identity\[:DIGITS\]")
                assert isinstance(pattern, ast.Constant | ast.JoinedStr), f"{name}: {call}({ast.unparse(pattern)})"
                assert all(ours.fullmatch(part) for part in inserted), f"{name}: {call}({ast.unparse(pattern)})"


def test_transformers_is_imported_by_its_modules():
    """Where the package itself is named, pyright reads the 400 families of models in it: a quarter of `make check`."""
    for folder in (*ROOMS, "tests", "benchmarks"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(parsed(path)):
                if isinstance(node, ast.Import | ast.ImportFrom):
                    assert "transformers" not in [getattr(node, "module", None), *(one.name for one in node.names)], (
                        path
                    )


def test_no_model_and_no_process_group_in_the_shards():
    for path in FILES:
        if path.relative_to(ROOT).parts[0] == "shards":
            assert "torch" not in roots(path), path


def test_no_module_without_a_noun():
    nameless = {"utils", "util", "common", "helpers", "helper", "misc"}
    stems = {part for path in FILES for part in (*path.relative_to(ROOT).parts[:-1], path.stem)}
    assert not {stem for stem in stems if nameless & set(stem.split("_"))}


def test_what_is_imported_is_declared():
    """A dependency that only comes along with another one goes when that one no longer needs it."""
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    names = {re.split(r"[\[<>=]", one)[0].lower() for one in declared}
    owners = packages_distributions()
    looked_for = {"pynvml"}  # where it is installed, GPU use is logged too
    for path in FILES:
        for root in roots(path) - set(ROOMS) - set(sys.stdlib_module_names) - looked_for:
            assert {owner.lower() for owner in owners[root]} & names, f"{path}: {root} is not in pyproject.toml"
