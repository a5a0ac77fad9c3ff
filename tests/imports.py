"""Who imports whom: rooms, the folders inside each room and the modules, read from the source and never run.

`python -m tests.imports` prints the order of the folders, every arrow that runs up and every circle.
"""

import ast
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HOUSE = {
    "shards": "stream inspect build readers download . files",
    "pretrain": "export planning training ranking tracking data ids model config decoding runtime",
    "zeroshot": ". compare report judge baselines audit tasks protocol",
    "launchers": ". commands slurm jobs checks line",
}
"""Rooms from the ground up; in each its folders from the top down, `.` for the modules of the room itself. A module
imports from its own folder and from those below it, and from rooms before its own."""


def modules(root: Path = ROOT, rooms: tuple[str, ...] = tuple(HOUSE)) -> dict[str, Path]:
    """Every module of the rooms by its dotted name; a package is its `__init__`."""
    return {
        ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__"): path
        for room in rooms
        for path in sorted((root / room).rglob("*.py"))
    }


def imported(path: Path, root: Path = ROOT) -> set[str]:
    """Dotted names that a file imports, wherever in it: modules, and what is taken out of them."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            package = list(path.relative_to(root).parts[:-1]) if node.level else []
            base = package[: len(package) - node.level + 1] + ([node.module] if node.module else [])
            names |= {".".join(base), *(".".join([*base, alias.name]) for alias in node.names)}
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) in (
            "import_module",
            "__import__",
        ):
            names |= {str(argument.value) for argument in node.args[:1] if isinstance(argument, ast.Constant)}
    return names


def arrows(paths: dict[str, Path], root: Path = ROOT) -> dict[str, set[str]]:
    """Of each module the modules that it imports. Whoever imports from a package's module names the package too, and
    runs its `__init__`, but does not depend on what stands there."""
    graph = {}
    for name, path in paths.items():
        names = imported(path, root) & paths.keys()
        graph[name] = {
            one for one in names if one != name and not any(other.startswith(f"{one}.") for other in names | {name})
        }
    return graph


def floor(module: str, path: Path) -> str:
    """The folder of a module inside its room; `.` for the room itself."""
    parts = module.split(".")
    inside = len(parts) > 2 or (len(parts) == 2 and path.name == "__init__.py")
    return parts[1] if inside else "."


def upward(root: Path = ROOT) -> list[str]:
    """Each import that runs up, as `importer -> imported`."""
    paths = modules(root)
    rooms = list(HOUSE)

    def height(module: str) -> tuple[int, int]:
        room = module.split(".")[0]
        folders = HOUSE[room].split()
        return rooms.index(room), -folders.index(floor(module, paths[module]))

    return [
        f"{name} -> {other}"
        for name, others in arrows(paths, root).items()
        for other in sorted(others)
        if name not in HOUSE and height(other) > height(name)
    ]


def circle(graph: dict[str, set[str]]) -> list[str]:
    """The modules of one circle of imports, none where there is no circle."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def main() -> None:
    """Print the house."""
    paths = modules()
    for room, folders in HOUSE.items():
        print(room)
        for folder in folders.split():
            inside = [
                name for name, path in paths.items() if name.split(".")[0] == room and floor(name, path) == folder
            ]
            print(f"  {folder:12} {' '.join(name.rsplit('.', 1)[1] for name in inside if name.count('.'))}")
    found = [*upward(), *(["circle: " + " -> ".join(ring)] if (ring := circle(arrows(paths))) else [])]
    print("\n".join(found) or "no import runs up, and there is no circle")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
