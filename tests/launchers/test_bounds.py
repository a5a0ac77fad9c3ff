"""Every number of every configuration has bounds, and one that is out of them is refused by its name."""

import dataclasses
import importlib
import math
import pkgutil
from typing import Any, get_args, get_type_hints

import pytest

import launchers
import pretrain
import shards
import zeroshot
from launchers.slurm.options import SlurmOptions
from pretrain.config.ids import IdConfig
from pretrain.config.prompt import PromptConfig
from pretrain.config.run import ModelConfig, PretrainConfig, ScheduleConfig
from shards.bounds import Bounds, bounds_of

NEEDED: dict[str, dict[str, Any]] = {
    "BuildConfig": {"out": "o", "train": ("somewhere",)},
    "Demo": {"out": "o"},
    "DownloadConfig": {"out": "o"},
    "Foundation": {"train": ("a",), "test": ("b",), "t5": "t5", "out": "o"},
}
"""Fields that a configuration must have; the others that it must have are strings."""


def holds_configurations(module: str) -> bool:
    """By name: `config` modules, and those of the commands but what only carries them out."""
    of_commands = module.startswith("launchers.commands.") and not module.endswith("_run")
    return (
        module.endswith("config") or of_commands or module.startswith(("pretrain.config.", "launchers.slurm.options"))
    )


def configurations():
    """The dataclasses of the modules that hold configurations or commands."""
    found = {}
    for package in (shards, pretrain, zeroshot, launchers):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if holds_configurations(module.name):
                for one in vars(importlib.import_module(module.name)).values():
                    if isinstance(one, type) and dataclasses.is_dataclass(one) and one.__module__ == module.name:
                        found[f"{one.__module__}.{one.__name__}"] = one
    return found


CONFIGURATIONS = configurations()


def is_number(hint):
    return hint in (int, float) or any(map(is_number, get_args(hint)))


def numbers(kind):
    return [name for name, hint in get_type_hints(kind).items() if is_number(hint)]


def built(kind, **values):
    needed = {
        field.name: "x"
        for field in dataclasses.fields(kind)
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    }
    return kind(**needed | NEEDED.get(kind.__name__, {}) | values)


def beyond(bounds: Bounds, whole: bool):
    """Numbers just out of bounds, and those that are none."""
    step = 1 if whole else 1e-9
    found = [-1] if max(bounds.least, bounds.above) > -1 else []
    found += [] if whole else [math.nan, math.inf, -math.inf]
    found += [bounds.least - step] if math.isfinite(bounds.least) else []
    found += [bounds.most + step] if math.isfinite(bounds.most) else []
    return found + [limit for limit in (bounds.above, bounds.below) if math.isfinite(limit)]


def test_the_configurations_are_there():
    names = {name.rsplit(".", 1)[-1] for name in CONFIGURATIONS}
    assert {
        "PretrainConfig",
        "ScheduleConfig",
        "SearchConfig",
        "BuildConfig",
        "EvaluateConfig",
        "SlurmOptions",
    } <= names
    assert sum(len(numbers(kind)) for kind in CONFIGURATIONS.values()) > 110


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_every_number_has_bounds(name):
    assert set(numbers(CONFIGURATIONS[name])) == set(bounds_of(CONFIGURATIONS[name]))


@pytest.mark.parametrize("name", [name for name, kind in CONFIGURATIONS.items() if numbers(kind)])
def test_a_number_out_of_bounds_is_refused_by_its_name(name):
    kind = CONFIGURATIONS[name]
    for field, bounds in bounds_of(kind).items():
        hint = get_type_hints(kind)[field]
        whole = float not in (hint, *get_args(hint))
        assert beyond(bounds, whole), f"{name}.{field} may be anything"
        for number in beyond(bounds, whole):
            value = (number,) if any(isinstance(part, type(Ellipsis)) for part in get_args(hint)) else number
            shown = field.replace("_", "[-_]")
            with pytest.raises(ValueError, match=rf"\b{shown} is {number}; it must be ") as refused:
                built(kind, **{field: value})
            assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (ModelConfig, {"num_heads": 0}),
        (ModelConfig, {"start_from": "t5", "d_model": 0}),
        (PretrainConfig, {"keep_checkpoints": 0}),
        (PretrainConfig, {"spike_factor": 1.0}),
        (PromptConfig, {"max_history": 0}),
        (ScheduleConfig, {"teaching_words": 0}),
        (SlurmOptions, {"nodes": 0}),
    ],
)
def test_nothing_of_what_there_must_be_one_of(kind, values):
    with pytest.raises(ValueError, match="it must be"):
        built(kind, **values)


TEXTS, ALONE, TITLES = PromptConfig(history="texts"), PromptConfig(user_id="alone"), IdConfig(form="titles")


@pytest.mark.parametrize("values", [{"prompt": TEXTS}, {"prompt": ALONE}, {"ids": TITLES}])
@pytest.mark.parametrize(
    ("schedule", "option"),
    [
        (ScheduleConfig(generator_epochs=0.0, generator_steps=10), "schedule.generator_steps to 0"),
        (ScheduleConfig(), "schedule.generator_epochs to 0"),
        (ScheduleConfig(generator_steps=0), None),
        (ScheduleConfig(generator_epochs=0.0), None),
    ],
)
def test_a_generator_that_would_learn_nothing_is_refused_by_the_option_that_trains_it(values, schedule, option):
    """Steps, where given, take the place of epochs."""
    if option is None:
        PretrainConfig("s", "o", schedule=schedule, **values)
        return
    with pytest.raises(ValueError, match=option):
        PretrainConfig("s", "o", schedule=schedule, **values)
