"""What is wrong with the words of a command line, in one line.

Enters: what tyro found wrong, and the commands there are. Leaves: a ValueError that says what to change, with the
nearest option or command. Must hold: none of tyro's boxes is drawn for a mistake.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Annotated, Any, get_args, get_origin, get_type_hints

# tyro marks these as private, which is why pyproject.toml has one version of it alone.
from tyro._errors import (
    BadValue,
    InstantiationFailure,
    InvalidChoice,
    MissingArgs,
    MissingSubcommand,
    ParseErrorEvent,
    UnrecognizedArgs,
    on_parse_error,
)

from launchers.line.console import MODES

FIRST_OPTIONS = ("--help", "--version", "--completion", *MODES)
LAUNCHED = ("pretrain", "ids", "zeroshot", "shard")
NONE: Mapping[str, type] = {}

KINDS = {"INT": "a whole number", "FLOAT": "a number", "{None}": "None"}


def usage_errors_raised(commands: Mapping[str, type], words: list[str]) -> AbstractContextManager[None]:
    """While it is entered, a mistake in `words` is a ValueError of one line."""

    def refuse(event: ParseErrorEvent) -> None:
        raise ValueError(" ".join(one_line(event, commands, words).split()))

    return on_parse_error(refuse)


def one_line(event: ParseErrorEvent, commands: Mapping[str, type], words: list[str]) -> str:
    """What is wrong and what to change."""
    if isinstance(event, UnrecognizedArgs):
        return _unknown(event.tokens, commands, words)
    if isinstance(event, MissingArgs):
        if any(token.startswith("-") for token in event.unrecognized_tokens):  # the missing one, spelt wrongly
            return _unknown(event.unrecognized_tokens, commands, words)
        (prog, missing), *_ = event._args_from_prog().items()
        surplus = f"unknown word {event.unrecognized_tokens[0]}; " if event.unrecognized_tokens else ""
        return f"{surplus}{prog} needs {' and '.join(_name(one) for one in missing)}; {prog} --help tells more"
    if isinstance(event, MissingSubcommand):
        return f"{_walked(commands, words)[0]} needs a command: {', '.join(event.subcommand_spec.parser_from_name)}"
    if isinstance(event, InvalidChoice):
        near = difflib.get_close_matches(event.value, event.choices, 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        return f"{_name(event.argument)} is '{event.value}'; allowed: {', '.join(event.choices)}{hint}"
    if isinstance(event, BadValue):
        return f"{_name(event.argument)} needs a value; {event.prog} --help tells which"
    if isinstance(event, InstantiationFailure):
        if event.argument is None:
            return event.message
        kind = " or ".join(KINDS.get(part, part) for part in str(event.argument.lowered.metavar).split("|"))
        return f"{_name(event.argument)} is '{_value(_name(event.argument), words)}'; it must be {kind}"
    return f"{type(event).__name__} in {' '.join(words)}; {event.prog} --help tells more"


def _name(argument: Any) -> str:
    return str(argument.lowered.metavar) if argument.is_positional() else argument.lowered.name_or_flags[-1]


def _value(option: str, words: list[str]) -> str:
    """What was given to an option, the last one where it was given twice."""
    pairs = zip(words, [*words[1:], ""], strict=True)
    given = [word.partition("=")[2] if "=" in word else after for word, after in pairs if _same(word, option)]
    return given[-1] if given else ""


def _same(word: str, option: str) -> bool:
    return word.partition("=")[0].replace("_", "-") == option


def _unknown(tokens: list[str], commands: Mapping[str, type], words: list[str]) -> str:
    token = next((token for token in tokens if token.startswith("-")), tokens[0])
    path, kind, below = _walked(commands, words)
    if token in MODES:
        return f"{token} stands before the command: idgenrec {token} {' '.join(path.split()[1:])} ..."
    launched = [word for word in words if word in LAUNCHED]
    if words[0] == "launch" and launched:
        how = path if path.count(" ") > 1 else f"{path} local"
        return f"what is launched stands behind --, as: {how} -- {launched[0]} ..."
    if kind is None and not words[0].startswith("-"):
        token = words[0]  # what stands behind it belongs to a command that there is not
    if token.startswith("-"):
        return _nearest("option", token, FIRST_OPTIONS if kind is None else sorted(set(options(kind))), path)
    return _nearest("command" if below else "word", token, list(below), path, below)


def _walked(commands: Mapping[str, type], words: list[str]) -> tuple[str, type | None, Mapping[str, type]]:
    """How far the words are commands: the path, the class there, the commands below it."""
    path, kind, below = "idgenrec", None, commands
    for word in words:
        if word not in below:
            break
        path, kind = f"{path} {word}", below[word]
        below = subcommands(kind)
    return path, kind, below


def _nearest(kind: str, token: str, known: Sequence[str], path: str, below: Mapping[str, type] = NONE) -> str:
    name = token.partition("=")[0].replace("_", "-")
    near = difflib.get_close_matches(name, known, 1)
    if kind == "command" and not near:
        near = [f"{one} {name}" for one in known if name in subcommands(below[one])]
        near += [f"--{name}"] * (f"--{name}" in FIRST_OPTIONS)
    if not near:  # an option of a group without its group: --rounds for --schedule.rounds
        near = [option for option in known if option.split(".")[-1] == name.lstrip("-")]
    if near:
        return f"unknown {kind} {token} of {path}; did you mean {' or '.join(near)}?"
    if kind == "command":
        return f"unknown {kind} {token}; {path} has {', '.join(known)}"
    return f"unknown {kind} {token} of {path}; {path} --help shows what there is"


def subcommands(kind: type) -> dict[str, type]:
    """Name and class of each command below a command."""
    commands: dict[str, type] = {}
    for hint in get_type_hints(kind, include_extras=True).values():
        for option in get_args(get_args(hint)[0] if get_origin(hint) is Annotated else hint):
            names = [mark.name for mark in get_args(option)[1:] if type(mark).__name__ == "_SubcommandConfig"]
            if names:
                commands[names[0]] = get_args(option)[0]
    return commands


def options(kind: type, prefix: str = "") -> Iterator[str]:
    """The options of a command or configuration, as a person gives them."""
    hints = get_type_hints(kind, include_extras=True)
    for field in dataclasses.fields(kind):
        base, *marks = (
            get_args(hints[field.name]) if get_origin(hints[field.name]) is Annotated else [hints[field.name]]
        )
        named = [mark.name for mark in marks if getattr(mark, "name", None) is not None]
        name = (named[0] if named else field.name).replace("_", "-")
        if dataclasses.is_dataclass(base):
            yield from options(base, f"{prefix}{name}." if name else prefix)  # type: ignore[arg-type]
        else:
            yield f"--{prefix}{name}"
            if base is bool:
                yield f"--{prefix}no-{name}"
