"""What a number of a configuration may be, said in its type: `beam: Count = 20`.

Enters: a dataclass whose numbers have bounds. Leaves: nothing, or one line that names the first number out of bounds.
Must hold: every int and float of a configuration has bounds (tests/launchers/test_bounds.py), and is held against them
when the configuration is built, before anything starts.
"""

import functools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any, get_args, get_type_hints


@dataclass(frozen=True)
class Bounds:
    """Of finite numbers: `least` and `most` belong to them, `above` and `below` do not."""

    least: float = -math.inf
    most: float = math.inf
    above: float = -math.inf
    below: float = math.inf

    def __contains__(self, value: float) -> bool:
        return math.isfinite(value) and self.least <= value <= self.most and self.above < value < self.below

    def __str__(self) -> str:
        if math.isfinite(self.least) and math.isfinite(self.most):
            return f"between {self.least:g} and {self.most:g}"
        limits = {"at least": self.least, "at most": self.most, "above": self.above, "below": self.below}
        return " and ".join(f"{word} {limit:g}" for word, limit in limits.items() if math.isfinite(limit)) or "finite"


Count = Annotated[int, Bounds(least=1)]
Natural = Annotated[int, Bounds(least=0)]
Number = Annotated[float, Bounds()]
Positive = Annotated[float, Bounds(above=0)]
NonNegative = Annotated[float, Bounds(least=0)]
Share = Annotated[float, Bounds(least=0, most=1)]
Rate = Annotated[float, Bounds(least=0, below=1)]
"""A share that leaves something: dropout of everything leaves nothing to learn from."""


def check(config: object, named: Callable[[str], str] = str) -> None:
    """Raise ValueError for the first number of `config` that is out of its bounds. `named`: how a person gives a
    field."""
    for name, bounds in bounds_of(type(config)).items():
        value = getattr(config, name)
        for number in value if isinstance(value, tuple) else () if value is None else (value,):
            if number not in bounds:
                raise ValueError(f"{named(name)} is {number}; it must be {bounds}")


@functools.cache
def bounds_of(kind: type) -> dict[str, Bounds]:
    """The bounds of a dataclass by field, those of a tuple's elements included."""
    hints = get_type_hints(kind, include_extras=True)
    return {name: mark for name, hint in hints.items() for mark in _marks(hint)}


def _marks(hint: Any) -> Iterator[Bounds]:
    if isinstance(hint, Bounds):
        yield hint
    marks = getattr(hint, "__metadata__", ())
    for part in (*marks, *get_args(hint)):
        if part not in marks or isinstance(part, Bounds):
            yield from _marks(part)
