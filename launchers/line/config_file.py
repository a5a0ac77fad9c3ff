"""`--config FILE` and `--print-config`: the configuration of a command as a file, and back.

Enters: JSON (or TOML, for those who write by hand) with the keys of the configuration. Leaves: the defaults of the
command; what is printed is read back to an equal configuration. Must hold: an unknown key or a wrong type is one line
with the file's name; what the file leaves out keeps its default, or must be given as an option.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

import tyro

from pretrain.config.serialization import from_dict
from pretrain.runtime.redaction import redacted

C = TypeVar("C")


@dataclass(frozen=True, kw_only=True)
class FromFile:
    """A command whose configuration may come from a file."""

    config_file: Annotated[str | None, tyro.conf.arg(name="config", metavar="FILE")] = None
    """JSON or TOML with the options as keys, nested as their dots say; an option beside it has the last word."""
    print_config: bool = False
    """Print all options as JSON that --config reads, and start nothing."""


def named_file(words: Sequence[str]) -> str | None:
    """The file that `--config` names; what is spelt wrongly is left for tyro to say."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--config", dest="config")
    try:
        return parser.parse_known_args(list(words))[0].config
    except argparse.ArgumentError:
        return None


def load(kind: type[C], file: str) -> C:
    """The configuration that a file holds; options that it must have and has not are tyro.MISSING."""
    path = Path(file)
    try:
        text = path.read_text(encoding="utf-8")
        values = tomllib.loads(text) if path.suffix == ".toml" else json.loads(text)
        if not isinstance(values, dict):
            raise ValueError("it must hold an object with the options as keys")  # noqa: TRY004 - read from a file
        needed = [
            field.name
            for field in dataclasses.fields(kind)  # type: ignore[arg-type]
            if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        ]
        absent = [name for name in needed if name not in values]
        config = from_dict(kind, values | dict.fromkeys(absent, ""))
    except OSError as error:
        raise ValueError(f"--config {file} cannot be read: {error.strerror}; give a JSON or TOML file") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"--config {file} is not UTF-8 text at byte {error.start}; save it as UTF-8") from error
    except (json.JSONDecodeError, tomllib.TOMLDecodeError) as error:
        language = "TOML" if path.suffix == ".toml" else "JSON"
        raise ValueError(f"--config {file} is not {language}: {error}") from error
    except ValueError as error:
        raise ValueError(f"--config {file}: {error}") from error
    missing: Any = tyro.MISSING
    return dataclasses.replace(config, **dict.fromkeys(absent, missing))  # type: ignore[type-var]


def printed(config: Any) -> str:
    """What `--print-config` prints. A password of the tracking URI is not in it."""
    values = dataclasses.asdict(config)
    if values.get("tracking_uri"):
        values["tracking_uri"] = redacted(values["tracking_uri"])
    return json.dumps(values, indent=2)
