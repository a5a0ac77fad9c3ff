"""House rules that a parser can check: imports run one way, some libraries have one door, names mean something."""

import ast
import functools
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import imports
import pytest

ROOT = Path(__file__).resolve().parent.parent
ROOMS = tuple(imports.HOUSE)
FILES = sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))


@functools.cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@functools.cache
def roots(path: Path) -> set[str]:
    return {name.split(".")[0] for name in imports.imported(path)}


def test_the_rooms_are_there():
    assert {path.relative_to(ROOT).parts[0] for path in FILES} == set(ROOMS) and len(FILES) > 40


def test_imports_run_one_way():
    assert imports.upward() == []
    assert not [path for path in FILES if "tests" in roots(path)]


def test_no_circle():
    for rooms in (ROOMS,):
        assert imports.circle(imports.arrows(imports.modules(rooms=rooms))) == []


@pytest.fixture
def planted(tmp_path):
    """`planted({path: source})`: a small house in a folder of its own."""

    def house(files):
        for name, source in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(source)
        return tmp_path

    return house


@pytest.mark.parametrize(
    ("importer", "source", "imported"),
    [
        ("shards/tars.py", "import pretrain.runtime.world", "pretrain.runtime.world"),
        ("pretrain/runtime/ranks.py", "from pretrain.training import state", "pretrain.training.state"),
        ("pretrain/data/batches.py", "def f():\n    from pretrain.training.state import x", "pretrain.training.state"),
        ("shards/files/atomic.py", "from shards.tars import Tar", "shards.tars"),
    ],
)
def test_an_import_that_runs_up_is_found(planted, importer, source, imported):
    house = {"shards/tars.py": "", "pretrain/runtime/world.py": "", "pretrain/training/state.py": "import shards.tars"}
    assert imports.upward(planted(house)) == []
    assert imports.upward(planted(house | {importer: source})) == [f"{importer[:-3].replace('/', '.')} -> {imported}"]


def test_a_circle_is_found(planted):
    root = planted({"shards/a.py": "from shards import b", "shards/b.py": "def f():\n    import shards.a"})
    assert set(imports.circle(imports.arrows(imports.modules(root), root))) == {"shards.a", "shards.b"}


def test_no_circle_in_benchmarks():
    graph = imports.arrows(imports.modules(rooms=("benchmarks",)))
    assert len(graph) > 30 and imports.circle(graph) == []


@pytest.mark.parametrize(
    ("library", "doors"),
    [
        ("deepspeed", {"pretrain/training/engine.py"}),
        ("mlflow", {"pretrain/tracking/mlflow_store.py"}),
        ("fcntl", {"shards/files/atomic.py"}),
        ("submitit", {"launchers/slurm/submit.py", "launchers/slurm/requeue.py"}),
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
        if name != "shards/files/database.py":
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
