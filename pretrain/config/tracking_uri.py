"""Tracking URIs: the address of an MLflow store.

Enters: what a person gave, or the folder of a run. Leaves: the same where MLflow can take it, the file of a SQLite
store, the address that a folder has now. Must hold: an address that MLflow will never take is refused before anything
starts; a path in a URI stays that path, whatever signs are in it; a store that moved with its run is found again, and
none is made where another one is meant.
"""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from importlib.metadata import entry_points
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from pretrain.runtime.redaction import redacted

DATABASES = ("sqlite", "mysql", "postgresql", "mssql")
FILE = "mlflow.db"
KNOWN = "http://HOST:PORT, https://HOST, sqlite:///FILE, postgresql://, mysql://, mssql://, databricks"


def default_uri(folder: Path) -> str:
    """SQLite beside the runs: `<folder>/mlflow.db`."""
    path = str(folder.resolve() / FILE)
    # What SQLAlchemy would decode, or take for the end of the path.
    return "sqlite:///" + path.replace("%", "%25").replace("?", "%3F")


def sqlite_file(uri: str) -> Path | None:
    """The file of a SQLite store; None for any other."""
    parts = re.fullmatch(r"sqlite(?:\+\w+)?:///([^?]*)(?:\?.*)?", uri)
    return None if parts is None else Path(unquote(parts[1]))


def check_uri(uri: str | None) -> None:
    """Raise ValueError for an address that MLflow will never take; None is the default one."""
    if not uri:
        return
    wrong = _wrong(uri)
    if wrong is not None:
        shown = redacted(uri) if "://" in uri else uri.rpartition("@")[2]
        raise ValueError(f"tracking_uri {shown!r} {wrong}")


def _wrong(uri: str) -> str | None:
    if re.fullmatch(r"[\w.-]+:\d+(/.*)?", uri):
        return f"has no scheme; write http://{uri}"
    scheme, separator, _ = uri.partition(":")
    if not separator and uri != "databricks" or scheme == "file" or uri[0] in "./~":
        return f"is a folder, where MLflow keeps no runs any more; write sqlite:///FOLDER/{FILE}, or one of {KNOWN}"
    if scheme in ("http", "https"):
        return None if _has_host(uri) else f"names no host, or a port that is no number; write {scheme}://HOST:PORT"
    dialect = scheme.split("+")[0]
    if dialect == "sqlite":
        file = sqlite_file(uri)
        named = file is not None and file.name not in ("", ":memory:")
        return None if named else "names no file; write sqlite:///FILE, with four slashes before an absolute path"
    if dialect in DATABASES:
        return (
            None if uri.startswith(f"{scheme}://") else f"is no address of a database; write {scheme}://USER@HOST/NAME"
        )
    if scheme == "databricks" or any(plugin.name == scheme for plugin in entry_points(group="mlflow.tracking_store")):
        return None
    return f"has a scheme that MLflow does not know; give one of {KNOWN}"


def _has_host(uri: str) -> bool:
    try:
        parts = urlsplit(uri)
        return parts.hostname is not None and parts.port != 0
    except ValueError:
        return False


def present_uri(folder: Path, uri: str, run_id: str | None) -> str:
    """Where the store of a tracked folder is now: a SQLite file that was moved together with the folder is found beside
    it. Raises ValueError where the run's store is nowhere: another one, new and empty, would not have the run."""
    file, beside = sqlite_file(uri), folder.resolve().parent / FILE
    if file is None or run_id is None and file.parent.is_dir() or _has_run(file, run_id):
        return uri
    if run_id is None or _has_run(beside, run_id):
        return default_uri(beside.parent)
    # A store that was lost where it stood is filled again from the lines of the folder.
    if file.is_file() or file.resolve() == beside:
        return uri
    raise ValueError(
        f"{folder} is tracked in {file}, which is not there, and {beside} does not have the run; give --tracking-uri"
    )


def _has_run(file: Path, run_id: str | None) -> bool:
    if not file.is_file():
        return False
    try:
        with closing(sqlite3.connect(f"file:{quote(str(file))}?mode=ro", uri=True)) as store:
            return bool(store.execute("SELECT 1 FROM runs WHERE run_uuid = ?", (run_id,)).fetchall())
    except sqlite3.Error:  # no store of MLflow's, or one that is ill: that is said by who opens it
        return False
