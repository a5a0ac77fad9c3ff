"""Where a shard folder lies: a folder of this machine or any URL that fsspec knows (s3://, gs://, https://, ...).

Enter a folder and the name of a file in it; leave its bytes. It must hold that no name leads out of the folder, not
even by a symbolic link, and that what cannot be read is one line with its full name.
"""

import hashlib
import tempfile
from functools import cache
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem


def is_remote(folder: str | Path) -> bool:
    """Whether `folder` is a URL. Give URLs as text: a Path makes one slash of two."""
    return isinstance(folder, str) and "://" in folder


def read_bytes(folder: str | Path, file: str) -> bytes:
    """The bytes of `folder/file`; ValueError where the name leaves the folder, or the file is missing or unreadable."""
    if not is_remote(folder):
        path = local_path(folder, file)
        try:
            return path.read_bytes()
        except OSError as error:
            raise _unreadable(folder, file, error.strerror) from error
    _check_inside(folder, file)
    system, root = _file_system(str(folder))
    try:
        return bytes(system.cat_file(f"{root}/{file}"))  # pyright: ignore[reportArgumentType] - no text mode here
    except FileNotFoundError as error:
        raise _missing(folder, file) from error
    except Exception as error:  # each protocol has exceptions of its own, aiohttp's among them
        raise _unreadable(folder, file, str(error) or type(error).__name__) from error


def sha256(folder: str | Path, file: str) -> str:
    """SHA-256 of `folder/file` in hex; a local file is read in pieces. Errors as in `read_bytes`."""
    if is_remote(folder):
        return hashlib.sha256(read_bytes(folder, file)).hexdigest()
    path = local_path(folder, file)
    try:
        with open(path, "rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise _unreadable(folder, file, error.strerror) from error


def local_path(folder: str | Path, file: str) -> Path:
    """The path of `file` in a folder of this machine. ValueError where it leads out of the folder or is missing."""
    _check_inside(folder, file)
    path = Path(folder) / file
    if not path.resolve().is_relative_to(Path(folder).resolve()):
        raise ValueError(f"{folder}/{file} is a link out of the folder; copy the file into the folder")
    if not path.is_file():
        raise _missing(folder, file)
    return path


def local_copy(folder: str | Path, subfolder: str) -> Path:
    """`folder/subfolder` on this machine: itself, or copies of its files, kept until the process ends.

    For code of others that wants paths, as a tokenizer's does. ValueError where the subfolder has no files.
    """
    _check_inside(folder, subfolder)
    if is_remote(folder):
        return Path(_copied(str(folder), subfolder).name)
    return Path(folder) / subfolder


@cache
def _copied(folder: str, subfolder: str) -> "tempfile.TemporaryDirectory[str]":
    system, root = _file_system(folder)
    try:
        names = [PurePosixPath(path).name for path in system.ls(f"{root}/{subfolder}", detail=False)]
    except Exception as error:
        raise _unreadable(folder, subfolder, str(error) or type(error).__name__) from error
    copy = tempfile.TemporaryDirectory(prefix="idgenrec-")
    for name in names:
        (Path(copy.name) / name).write_bytes(read_bytes(folder, f"{subfolder}/{name}"))
    if not names:
        raise ValueError(f"{folder}/{subfolder} has no files; does the server list folders?")
    return copy


@cache
def _file_system(folder: str) -> tuple["AbstractFileSystem", str]:
    from fsspec.core import url_to_fs

    try:
        system, root = url_to_fs(folder)
    except (ImportError, ValueError) as error:
        raise ValueError(f"{folder} cannot be opened ({error})") from error
    return system, root.rstrip("/")


def _check_inside(folder: str | Path, file: str) -> None:
    parts = file.split("/")
    if "\\" in file or "\0" in file or not {"", ".", ".."}.isdisjoint(parts) or ":" in parts[0]:
        raise ValueError(f"{folder}: the file name {file!r} leads out of the folder; build the shards again")


def _missing(folder: str | Path, file: str) -> ValueError:
    if file == "manifest.json":
        return ValueError(f"{folder}/{file} is missing; name a shard folder, or make one with `idgenrec shard build`")
    return ValueError(f"{folder}/{file} is missing; build the shards again")


def _unreadable(folder: str | Path, file: str, reason: str | None) -> ValueError:
    return ValueError(f"{folder}/{file} cannot be read ({reason}); see to it and try again")
