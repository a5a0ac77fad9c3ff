"""Configurations: what is refused and what survives JSON."""

import dataclasses
import json

import pytest

from launchers.jobs.request import IdsConfig
from pretrain.config.ids import IdConfig
from pretrain.config.prompt import PromptConfig
from pretrain.config.run import EngineConfig, ModelConfig, PretrainConfig, ScheduleConfig
from pretrain.config.serialization import from_dict
from pretrain.config.soft_ids import SoftIdConfig
from pretrain.decoding.config import SearchConfig
from zeroshot.protocol.config import EvaluateConfig


@pytest.mark.parametrize(
    "config",
    [
        PretrainConfig("shards", "out"),
        PretrainConfig(
            "s",
            "o",
            recommender=ModelConfig(start_from="t5"),
            schedule=ScheduleConfig(rounds=3),
            ids=IdConfig(groups=7),
            prompt=PromptConfig(max_tokens=99), engine=EngineConfig(zero_stage=3, precision="bf16"), generator_lr=1e-8,
            tracking_uri="sqlite:///x", search=SearchConfig(50, 30, 0.5), dropout=0.1,
            soft_ids=SoftIdConfig(0.5, True, 32),
        ),
        PretrainConfig(
            "s", "o", prompt=PromptConfig(history="texts", item_tokens=8), schedule=ScheduleConfig(generator_epochs=0.0)
        ),
        IdsConfig("generator", "shards", "out", catalogue="Beauty", ids=IdConfig(penalty_max=0.5)),
        EvaluateConfig("run", "shards", "out", tasks=("Beauty", "Yelp"), max_users=5),
    ],
)  # fmt: skip
def test_round_trip_through_json(config):
    again = from_dict(type(config), json.loads(json.dumps(dataclasses.asdict(config))))
    assert again == config and type(again) is type(config)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"batch_sise": 3}, "unknown key 'batch_sise' in PretrainConfig; did you mean 'batch_size'"),
        ({"schedule": {"rouns": 2}}, "unknown key 'rouns' in ScheduleConfig; did you mean 'rounds'"),
        ({"qqq": 3}, "unknown key 'qqq' in PretrainConfig; known keys: .*batch_size"),
        ({"batch_size": "64"}, "PretrainConfig.batch_size must be int, not '64'"),
        ({"batch_size": 6.5}, "batch_size must be int"),
        ({"batch_size": True}, "batch_size must be int"),
        ({"batch_size": [64]}, r"batch_size must be int, not \[64\]"),
        ({"recommender_lr": "fast"}, "recommender_lr must be float"),
        ({"schedule": 3}, "schedule must be an object"),
        ({"ids": {"groups": None}}, "IdConfig.groups must be int"),
        ({"engine": {"zero_stage": 4}}, "zero_stage is 4; allowed: 0, 1, 2, 3"),
        ({"tracking_uri": 5}, "tracking_uri"),
        ({"recommender": {"start_from": 5}}, "start_from"),
        ({"batch_size": 0}, "batch_size is 0; it must be at least 1"),
        ({"recommender": {"d_model": 10, "num_heads": 4}}, "d_model 10 is not divisible"),
        ({"dropout": 1.0}, "dropout is 1.0; it must be at least 0 and below 1"),
        ({"prompt": {"history": "words"}}, "PromptConfig.history is 'words'; allowed: ids, texts"),
        ({"prompt": {"item_tokens": 0}}, "prompt.item_tokens is 0; it must be at least 1"),
        ({"prompt": {"history": "texts"}}, "set schedule.generator_epochs to 0, or prompt.history to ids"),
        ({"soft_ids": {"temperature": 0}}, "soft_ids.temperature is 0.0; it must be above 0"),
        ({"soft_ids": {"top_k": 0}}, "soft_ids.top_k is 0; it must be at least 1"),
    ],
)
def test_mistakes_are_named(values, message):
    with pytest.raises(ValueError, match=message):
        from_dict(PretrainConfig, {"shards": "s", "out": "o"} | values)


def test_missing_values_are_named():
    with pytest.raises(ValueError, match="PretrainConfig needs a value for shards, out"):
        from_dict(PretrainConfig, {})


def test_whole_numbers_are_floats_too():
    config = from_dict(PretrainConfig, {"shards": "s", "out": "o", "clip_norm": 2, "schedule": {"warmup_epochs": 0}})
    assert isinstance(config.clip_norm, float) and isinstance(config.schedule.warmup_epochs, float)


def test_nothing_can_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        PretrainConfig("s", "o").seed = 3  # type: ignore[misc]


def test_micro_batches():
    config = PretrainConfig("s", "o", batch_size=24, micro_batch_size=5)
    assert [config.micro_batches(size) for size in (1, 2, 3, 8)] == [5, 3, 2, 1]
    with pytest.raises(ValueError, match="batch_size 24 is not divisible by 5 ranks"):
        config.micro_batches(5)


def test_a_tuple_of_choices_is_converted_and_checked() -> None:
    built = from_dict(EvaluateConfig, {"checkpoint": "c", "shards": "s", "out": "o", "controls": ["untrained-ids"]})
    assert built.controls == ("untrained-ids",)
    for wrong, said in ((["trained"], "allowed: untrained, untrained-ids"), ("untrained", "must be a list")):
        with pytest.raises(ValueError, match=said):
            from_dict(EvaluateConfig, {"checkpoint": "c", "shards": "s", "out": "o", "controls": wrong})
