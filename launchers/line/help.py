"""The first page of `idgenrec --help`, `--version` and `--completion`: what concerns no single command.

Enters: the commands. Leaves: text. Must hold: no command is forgotten; nothing heavy is imported.
"""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Mapping
from pathlib import Path

from launchers.line.mistakes import subcommands
from zeroshot.report.provenance import LIBRARIES, git_state, versions

SHELLS = ("bash", "zsh", "fish", "tcsh")
DESCRIPTION = "Pretrain and judge the IDGenRec foundation recommender: textual item IDs, zero-shot recommendation."
GROUPS = {
    "to see it work": ("demo",),
    "data": ("shard",),
    "training": ("pretrain", "foundation", "ids", "book", "interpolate", "export"),
    "judging": ("zeroshot", "report", "compare", "recommend"),
    "other machines": ("launch", "jobs", "logs", "cancel"),
    "watching": ("doctor", "track"),
}
FOOT = """\
idgenrec COMMAND --help     what a command reads and writes, all of its options, an example
idgenrec --quiet COMMAND    results and errors alone
idgenrec --json COMMAND     each line of standard output is a JSON object: line, result or progress (docs/faq.md)
idgenrec --version          versions of idgenrec, Python and the libraries that matter
idgenrec --completion bash  a script for tab completion (bash, zsh, fish, tcsh); for bash: eval "$(...)" in ~/.bashrc

Exit status: 0 done; 2 a mistake, said in one line; 3 the audit failed; 75 stopped as asked, all saved; 130 Ctrl-C.
"""


def first_page(commands: Mapping[str, type]) -> str:
    """All commands with what they do, in the order of the work."""
    assert sorted(commands) == sorted(name for names in GROUPS.values() for name in names)
    width = min(shutil.get_terminal_size().columns, 120)
    lines = ["usage: idgenrec COMMAND [OPTIONS]", "", *textwrap.wrap(DESCRIPTION, width)]
    for group, names in GROUPS.items():
        lines += ["", group]
        for name in names:
            for path, kind in _flat(name, commands[name]):
                first = " " * 2 + f"{path:<15} "
                said = " ".join((kind.__doc__ or "").partition("\n\n")[0].split())
                lines += textwrap.wrap(said, width, initial_indent=first, subsequent_indent=" " * len(first))
    return "\n".join([*lines, "", FOOT])


def _flat(name: str, kind: type) -> list[tuple[str, type]]:
    return [(f"{name} {word}", inner) for word, inner in subcommands(kind).items()] or [(name, kind)]


def version_lines() -> list[str]:
    """What to say in a report of a fault: versions, and the commit where the code runs from a checkout."""
    found = versions(("idgenrec", *LIBRARIES, "submitit", "pyarrow", "polars", "duckdb", "tyro"))
    root = Path(__file__).resolve().parents[2]
    where = str(root)
    if (root / ".git").exists():
        commit, dirty = git_state(root)
        where += f", commit {commit[:12]}{' with changes' if dirty else ''}"
    python = found.pop("python")
    return [f"idgenrec {found.pop('idgenrec')} ({where})", f"python {python}", *(f"{k} {v}" for k, v in found.items())]


def completion_words(words: list[str]) -> list[str]:
    """tyro's own words for `--completion SHELL`."""
    if len(words) != 2 or words[1] not in SHELLS:
        raise ValueError(f"--completion needs the name of a shell: {', '.join(SHELLS)}")
    return ["--tyro-write-completion", words[1], "-"]
