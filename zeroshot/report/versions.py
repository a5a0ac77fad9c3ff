"""Versions of the libraries that decide a result, and the commit of the code.

Nothing heavy is imported: a command line says them at once.
"""

from __future__ import annotations

import importlib.metadata
import platform
import subprocess
from pathlib import Path

LIBRARIES = ("torch", "deepspeed", "transformers", "webdataset", "sentencepiece", "mlflow", "numpy")


def versions(libraries: tuple[str, ...] = LIBRARIES) -> dict[str, str]:
    """Python's version and those of the libraries, as installed."""
    return {"python": platform.python_version()} | {
        library: importlib.metadata.version(library) for library in libraries
    }


def git_state(folder: Path) -> tuple[str, bool]:
    """Commit of the code and whether the work tree differs from it; ("unknown", False) outside a checkout."""

    def git(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(["git", "-C", str(folder), *words], capture_output=True, text=True, check=False)

    try:
        head = git("rev-parse", "HEAD")
    except FileNotFoundError:
        return "unknown", False
    if head.returncode:
        return "unknown", False
    return head.stdout.strip(), bool(git("status", "--porcelain").stdout.strip())
