"""The configuration reference, made from the dataclasses: `python docs/configuration.py` writes docs/configuration.md.

Enters: the configuration classes, their defaults and docstrings. Leaves: Markdown. Must hold: what it says is what the
code has; tests/test_docs.py fails when the page is not the one that this prints.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import textwrap
from pathlib import Path
from typing import Any

from launchers.ids_config import IdsConfig
from launchers.slurm_options import SlurmOptions
from pretrain.config import PretrainConfig
from shards.config import AddConfig, BuildConfig
from shards.download import DownloadConfig
from zeroshot.config import EvaluateConfig

COMMANDS: dict[str, type] = {
    "shard download": DownloadConfig,
    "shard build": BuildConfig,
    "shard add": AddConfig,
    "pretrain": PretrainConfig,
    "ids": IdsConfig,
    "zeroshot": EvaluateConfig,
    "launch slurm": SlurmOptions,
}
HEAD = """\
# Configuration reference

Every option of the commands that have many, with its default. This page is made from the dataclasses by `make docs`.
The first word of a row is the key in a configuration file. The option has `--` before it and `-` in the place of `_`:
`schedule.warmup_epochs` is `--schedule.warmup-epochs`.

`--print-config` prints the whole configuration of `pretrain`, `ids`, `zeroshot` or `shard build` as JSON and starts
nothing; `--config FILE` reads such a file back, or TOML written by hand. An option beside it has the last word; what
neither has keeps the default below. An unknown key fails, and the nearest one is named.

```
idgenrec pretrain --recipe foundation --shards shards --out runs/first --print-config > first.json
idgenrec pretrain --config first.json --out runs/second --seed 1
```
"""


def docs_of(kind: type) -> dict[str, str]:
    """The text under each field of a dataclass."""
    (body,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    assert isinstance(body, ast.ClassDef)
    found = {}
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


def table_of(kind: type, prefix: str) -> tuple[list[str], list[tuple[str, type]]]:
    """The rows of a dataclass, and the dataclasses inside it with their prefixes."""
    rows, inner, docs = [], [], docs_of(kind)
    for field in dataclasses.fields(kind):
        nested = field.default_factory
        if isinstance(nested, type) and dataclasses.is_dataclass(nested):
            inner.append((f"{prefix}{field.name}.", nested))
            continue
        said = docs.get(field.name)
        assert said, f"{kind.__name__}.{field.name} has no docstring"
        rows.append(f"| `{prefix}{field.name}` | {default_of(field)} | {said.replace('|', chr(92) + '|')} |")
    return ["| option | default | what it is |", "|---|---|---|", *rows], inner


def section_of(command: str, kind: type) -> list[str]:
    """A command's options, its groups below it."""
    lines, groups = [f"## idgenrec {command}", ""], [("", kind)]
    while groups:
        (prefix, one), *groups = groups
        if prefix:
            said = " ".join((one.__doc__ or "").split("\n\n")[0].split())
            lines += [f"### {command}: {prefix.rstrip('.')}", "", said, ""]
        rows, inner = table_of(one, prefix)
        lines += [*rows, ""]
        groups += inner
    return lines


def page() -> str:
    """The whole page."""
    return "\n".join([HEAD, *(line for command, kind in COMMANDS.items() for line in section_of(command, kind))])


if __name__ == "__main__":
    Path(__file__).with_suffix(".md").write_text(page(), encoding="utf-8")
