"""The configuration reference, made from the dataclasses: `python docs/configuration.py` writes docs/configuration.md.

Enters: the commands, their configurations, defaults and docstrings. Leaves: Markdown. Must hold: what it says is what
the code has, with every option of a command; tests/test_docs.py fails when the page is not the one that this prints.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import textwrap
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from launchers.commands.book import Ids
from launchers.commands.launch import Slurm
from launchers.commands.pretrain import Pretrain
from launchers.commands.shard import Add, Build, Download
from launchers.commands.zeroshot import Zeroshot

COMMANDS: dict[str, type] = {
    "shard download": Download,
    "shard build": Build,
    "shard add": Add,
    "pretrain": Pretrain,
    "ids": Ids,
    "zeroshot": Zeroshot,
    "launch slurm": Slurm,
}
HEAD = """\
# Configuration reference

Every option of the commands that have many, with its default. This page is made from the dataclasses by `make docs`.
The first word of a row is the key in a configuration file. The option has `--` before it and `-` in the place of `_`:
`schedule.warmup_epochs` is `--schedule.warmup-epochs`. Options that are no keys of a file have tables of their own.

`--print-config` prints the whole configuration of `pretrain`, `ids`, `zeroshot` or `shard build` as JSON and starts
nothing; `--config FILE` reads such a file back, or TOML written by hand. An option beside it has the last word; what
neither has keeps the default below. An unknown key fails, and the nearest one is named.

```
idgenrec pretrain --recipe foundation --shards shards --out runs/first --print-config > first.json
idgenrec pretrain --config first.json --out runs/second --seed 1
```
"""


def docs_of(kind: type) -> dict[str, str]:
    """The text under each field of a dataclass, inherited ones too."""
    found = {}
    for one in filter(dataclasses.is_dataclass, reversed(kind.__mro__)):
        (body,) = ast.parse(textwrap.dedent(inspect.getsource(one))).body
        assert isinstance(body, ast.ClassDef)
        for field, text in zip(body.body, body.body[1:], strict=False):
            if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant):
                assert isinstance(field.target, ast.Name)
                found[field.target.id] = " ".join(str(text.value.value).split()).replace("<", "&lt;")
    return found


def default_of(field: dataclasses.Field[Any]) -> str:
    """As a table shows it."""
    if field.default is dataclasses.MISSING:
        return "required"
    shown = ", ".join(map(str, field.default)) if isinstance(field.default, tuple) else str(field.default)
    return f"`{shown}`" if shown else "none"


def row_of(name: str, field: dataclasses.Field[Any], docs: dict[str, str]) -> str:
    """A line of a table."""
    assert field.name in docs, f"{name} has no docstring"
    return f"| `{name}` | {default_of(field)} | {docs[field.name].replace('|', chr(92) + '|')} |"


def table_of(kind: type, prefix: str) -> tuple[list[str], list[tuple[str, type]]]:
    """The rows of a dataclass, and the dataclasses inside it with their prefixes."""
    rows, inner, docs = [], [], docs_of(kind)
    for field in dataclasses.fields(kind):
        nested = field.default_factory
        if isinstance(nested, type) and dataclasses.is_dataclass(nested):
            inner.append((f"{prefix}{field.name}.", nested))
            continue
        rows.append(row_of(f"{prefix}{field.name}", field, docs))
    return ["| option | default | what it is |", "|---|---|---|", *rows], inner


def parts_of(kind: type) -> tuple[type, list[tuple[str, dataclasses.Field[Any]]]]:
    """A command's configuration, and its other options with their names on the command line."""
    configurations, others = [], []
    hints = get_type_hints(kind, include_extras=True)
    for field in dataclasses.fields(kind):
        base, *marks = (
            get_args(hints[field.name]) if get_origin(hints[field.name]) is Annotated else [hints[field.name]]
        )
        if dataclasses.is_dataclass(base):
            configurations.append(base)
        else:
            named = [mark.name for mark in marks if getattr(mark, "name", None)]
            others.append((f"--{(named or [field.name])[0].replace('_', '-')}", field))
    (configuration,) = configurations
    return configuration, others


def section_of(command: str, kind: type) -> list[str]:
    """A command's options, its groups below it."""
    configuration, others = parts_of(kind)
    lines, groups = [f"## idgenrec {command}", ""], [("", configuration)]
    while groups:
        (prefix, one), *groups = groups
        if prefix:
            said = " ".join((one.__doc__ or "").split("\n\n")[0].split())
            lines += [f"### {command}: {prefix.rstrip('.')}", "", said, ""]
        rows, inner = table_of(one, prefix)
        lines += [*rows, ""]
        groups += inner
    if others:
        lines += [f"### {command}: on the command line only", "", "| option | default | what it is |", "|---|---|---|"]
        lines += [row_of(name, field, docs_of(kind)) for name, field in others]
        lines.append("")
    return lines


def page() -> str:
    """The whole page."""
    return "\n".join([HEAD, *(line for command, kind in COMMANDS.items() for line in section_of(command, kind))])


if __name__ == "__main__":
    Path(__file__).with_suffix(".md").write_text(page(), encoding="utf-8")
