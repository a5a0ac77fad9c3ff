"""Configurations as nested dicts, and back.

Enters: a dataclass and a dict, as JSON gives it. Leaves: the value. Must hold: an unknown key or a wrong type fails
with a line that says what to change.
"""

from __future__ import annotations

import dataclasses
import difflib
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

C = TypeVar("C")


def from_dict(kind: type[C], values: dict[str, Any]) -> C:
    """Build a config dataclass from nested dicts. Raises ValueError for an unknown key (naming the nearest) or type."""
    hints = get_type_hints(kind)
    known = {f.name for f in dataclasses.fields(kind)}  # type: ignore[arg-type]
    built: dict[str, Any] = {}
    for key, value in values.items():
        if key not in known:
            near = difflib.get_close_matches(key, sorted(known), 1)
            hint = f"; did you mean '{near[0]}'?" if near else f"; known keys: {', '.join(sorted(known))}"
            raise ValueError(f"unknown key '{key}' in {kind.__name__}{hint}")
        built[key] = _convert(hints[key], value, f"{kind.__name__}.{key}")
    missing = [
        f.name
        for f in dataclasses.fields(kind)  # type: ignore[arg-type]
        if f.name not in built and f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise ValueError(f"{kind.__name__} needs a value for {', '.join(missing)}")
    return kind(**built)


def _convert(hint: Any, value: Any, where: str) -> Any:
    if dataclasses.is_dataclass(hint):
        if not isinstance(value, dict):
            raise ValueError(f"{where} must be an object, not {value!r}")
        return from_dict(hint, value)  # type: ignore[arg-type]
    options = get_args(hint)
    if get_origin(hint) is tuple and options[1:] == (Ellipsis,):
        if not isinstance(value, list | tuple):
            raise ValueError(f"{where} must be a list, not {value!r}")
        return tuple(_convert(options[0], element, where) for element in value)
    if options and not isinstance(options[0], type):
        if value not in options:
            raise ValueError(f"{where} is {value!r}; allowed: {', '.join(map(str, options))}")
        return value
    # `int | None` is a UnionType; with bounds on the int it is typing's own Union.
    kinds = tuple(get_origin(kind) or kind for kind in (options if get_origin(hint) in (UnionType, Union) else (hint,)))
    if tuple in kinds and isinstance(value, list):
        return tuple(value)
    if float in kinds and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        raise ValueError(f"{where} must be {' or '.join(kind.__name__ for kind in kinds)}, not {value!r}")
    return value
