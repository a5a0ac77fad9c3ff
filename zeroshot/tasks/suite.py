"""The suite: the six unseen sets of the paper as versioned tasks, and anyone's own.

Enters: names, `NAME@released` or paths of TOML files, and the manifest of a shard folder. Leaves: a `TaskSpec` each.
Must hold: a version is frozen, so another order or split of the same data is another task; expected counts stand in
`shards.registry` alone; an unknown name is refused before any work.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from shards import registry
from shards.config import NAME_PATTERN
from shards.manifest import Manifest
from shards.registry import Counts

Order = Literal["chronological", "released"]
RELEASED = "@released"
SAMPLE_USERS = 2_000
"""Size of the published sample, which `--sample 2000` judges models on."""
SAMPLE_SEED = 0
"""Of every sample, whatever the seed of a run: two runs on the same task judge the same users."""


@dataclass(frozen=True)
class TaskSpec:
    """What a task is.

    Attributes:
        name: of the task, such as "Toys@released".
        version: raised whenever data, order or split change.
        dataset: the test set of the shard folder that it is made from.
        order: "chronological" as the shards have it, or "released": each user's items sorted by item id, then split
            again. The reference released Sports and Toys in that order, which asks for the largest id.
        split: leave-one-out (the last item is the target, the one before it for validation), or "time" where the
            shards were split at a moment.
        expected: users, items and interactions with their source; None where nobody published any.
        sequences_sha256: hash of the sequences in the task's order (`zeroshot.tasks.fingerprints`); None = not known.
        interactions_sha256: the same with each user's items sorted by id: which interactions, in whatever order.
        sample: how many users models judge; None = everyone.
    """

    name: str
    version: int = 1
    dataset: str = ""
    order: Order = "chronological"
    split: str = "leave-one-out"
    expected: Counts | None = None
    sequences_sha256: str | None = None
    interactions_sha256: str | None = None
    sample: int | None = None

    def __post_init__(self) -> None:
        if not self.dataset:
            object.__setattr__(self, "dataset", self.name)
        if self.order not in ("chronological", "released"):
            raise ValueError(f"task {self.name}: order {self.order!r} is neither chronological nor released")
        if self.sample is not None and self.sample < 1:
            raise ValueError(f"task {self.name}: a sample of {self.sample} users; at least one must be judged")

    @property
    def released(self) -> TaskSpec:
        """The same interactions, each user's sorted by item id."""
        return replace(self, name=f"{self.name}{RELEASED}", order="released", sequences_sha256=self.interactions_sha256)


def _known(name: str, release: str, sequences: str | None, interactions: str | None) -> TaskSpec:
    expected = registry.row(release, name).expected
    return TaskSpec(name, expected=expected, sequences_sha256=sequences, interactions_sha256=interactions)


# Of the sequences whose sources the README of the data names. Of Music no full sequences were found, so none is known.
SUITE: dict[str, TaskSpec] = {
    spec.name: spec
    for spec in (
        _known(
            "Sports", "2014",
            "ab9d88ff0fe70b70f1931086930f0666b093ad3033c54dd45f21eafe8db3840c",
            "451d355a5ca457cf3c8ea0bf6dc62c165ecd297b20b5b43951c1d88459c1d601",
        ),
        _known(
            "Beauty", "2014",
            "38e714e3114906f36d438eab2385642152dee25827e18617dbced904905c7375",
            "613d7e3d560e83e8ddc6dd68c75b8d7dfa736d2972a78225f464508a80afa02a",
        ),
        _known(
            "Toys", "2014",
            "afbc7a0485904cc96dfc98c1edc0d8e693d7f50625e7051aba26d5cd433b912b",
            "992cf8d241918cca176120fb7a6979a794669ef95a7ff40ca8a4e7d0c626c9b4",
        ),
        _known("Music", "2014", None, None),
        _known(
            "Instruments", "2014",
            "47d15d97774872e0f4848b8fb2a1d44bf19a9a680b6e5796b7d394cfc8d7d8b7",
            "2b82e31095c6453b1ae94bcf5fe71fc3c509d174870c630253245c4d63afa439",
        ),
        _known(
            "Yelp", "yelp",
            "f0459c28b74c330f7830dd38daa81f4db615a6dd492042a98738c3f2c9a38435",
            "781f2246dc6944ad1c726b7ad0f9cc23127ca1ad4c9083f5b7f094901ae0a0c3",
        ),
    )
}  # fmt: skip


def resolve(names: Iterable[str], manifest: Manifest) -> list[TaskSpec]:
    """The tasks that `names` ask for; none = every test set of the shard folder, as its plain task.

    Raises:
        ValueError: an unknown name (the nearest one is suggested), a data set that the folder does not hold as an
            unseen one, a faulty file, or two tasks of one name.
    """
    tests = [member.name for member in manifest.test_members]
    if not tests:
        raise ValueError("the shard folder holds no test set; build it with test folders")
    specs = [_resolve(name, manifest, tests) for name in tuple(names) or tests]
    twice = {spec.name for spec in specs if [other.name for other in specs].count(spec.name) > 1}
    if twice:
        raise ValueError(f"two tasks are called {min(twice)}; name each once")
    return specs


def _resolve(name: str, manifest: Manifest, tests: list[str]) -> TaskSpec:
    if name.endswith(".toml"):
        spec = from_toml(Path(name), manifest.split)
    else:
        plain = name.removesuffix(RELEASED)
        if plain not in SUITE and plain not in tests and plain not in {member.name for member in manifest.members}:
            known = [*dict.fromkeys([*tests, *SUITE])]
            near = difflib.get_close_matches(plain, known, n=1, cutoff=0.5)
            hint = f"; did you mean {near[0]}?" if near else "."
            raise ValueError(f"no task {name!r}{hint} Known: {', '.join(known)}, each {RELEASED} too, or a .toml file")
        # A known task is leave-one-out; the same data split otherwise are a task of their own.
        spec = SUITE.get(plain, TaskSpec(plain)) if manifest.split == "leave-one-out" else TaskSpec(plain)
        spec = replace(spec, split=manifest.split)
        spec = spec.released if name.endswith(RELEASED) else spec
    if spec.dataset not in tests:
        raise ValueError(
            f"task {spec.name} needs the test set {spec.dataset}, but the shard folder has {', '.join(tests)}; add it "
            "with `idgenrec shard add --to SHARDS --test FOLDER`"
        )
    if spec.order == "released" and spec.split != "leave-one-out":
        raise ValueError(
            f"task {spec.name}: the released order means leave-one-out, but these shards are split by time"
        )
    return spec


FIELDS: dict[str, type] = {
    "name": str, "version": int, "dataset": str, "order": str,
    "users": int, "items": int, "interactions": int, "sample": int,
}  # fmt: skip
COUNTS = ("users", "items", "interactions")


def from_toml(path: Path, split: str = "leave-one-out") -> TaskSpec:
    """A task of one's own: name, version, dataset, order; if wished, users, items and interactions (all three) that
    must come out, and sample.

    Raises:
        ValueError: no such file, no TOML, an unknown key, a missing or ill-typed value.
    """
    if not path.is_file():
        raise ValueError(f"no task file at {path}")
    try:
        values: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is no TOML: {error}") from None
    for key, value in values.items():
        if key not in FIELDS:
            near = difflib.get_close_matches(key, FIELDS, n=1)
            hint = f"; did you mean {near[0]}" if near else ""
            raise ValueError(f"{path}: unknown key {key!r}{hint}. Known: {', '.join(FIELDS)}")
        if not isinstance(value, FIELDS[key]) or isinstance(value, bool):
            raise ValueError(f"{path}: {key} is {value!r}; it must be a {FIELDS[key].__name__}")
    missing = [key for key in ("name", "version", "dataset", "order") if key not in values]
    if missing:
        raise ValueError(f"{path} lacks {', '.join(missing)}")
    if not NAME_PATTERN.fullmatch(values["name"]):
        raise ValueError(
            f"{path}: name {values['name']!r}; use letters, digits, _ and -, beginning with one of the first"
        )
    if values["name"] in SUITE:
        raise ValueError(f"{path}: {values['name']} is a task of the suite; give yours another name")
    given = [values.pop(key) for key in COUNTS if key in values]
    if len(given) not in (0, len(COUNTS)):
        raise ValueError(f"{path}: give all of {', '.join(COUNTS)}, or none")
    expected = Counts(*given, source=path.name) if given else None
    return TaskSpec(**values, split=split, expected=expected)
