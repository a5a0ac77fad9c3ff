"""Other beams and templates, on a sample of users."""

import numpy as np
import pytest
import torch

from pretrain.config.prompt import TEMPLATES, PromptConfig
from pretrain.decoding.config import SearchConfig
from pretrain.ranking.generate import GenerativeRecommender
from pretrain.ranking.metrics import summary
from pretrain.runtime.world import World
from zeroshot.judge.judge import judge
from zeroshot.judge.sweeps import sample, sweep
from zeroshot.protocol.config import EvaluateConfig
from zeroshot.tasks.task import Task


@pytest.fixture(scope="module")
def task(items):
    draw = np.random.default_rng(4)
    histories = [draw.integers(0, len(items), draw.integers(1, 8)) for _ in range(30)]
    users = [f"u{number}" for number in range(30)]
    return Task("Toy", users, items.texts, items.items, histories, draw.integers(0, len(items), 30), histories)


def test_every_setting_is_judged_on_the_same_sample(task, small_model, tokenizer, book_of, tmp_path):
    model, ids = small_model(3), book_of().token_ids
    made, said = [], []

    def make(setting, value):
        made.append((setting, value))
        search = SearchConfig(value if setting == "beam" else 12)
        template = value - 1 if setting == "template" else 0
        return GenerativeRecommender("tiny", model, tokenizer, ids, PromptConfig(), search, template=template)

    world = World(0, 1, torch.device("cpu"))
    rows = sweep(task, make, 20, 7, world, lambda what, done, total: said.append((what, done, total)), tmp_path)
    settings = [("beam", 10), ("beam", 20), ("beam", 50)] + [("template", n + 1) for n in range(len(TEMPLATES))]
    assert made == settings == [(row["setting"], row["value"]) for row in rows] and len(TEMPLATES) == 10
    assert all((row["task"], row["protocol"], row["num_users"]) == ("Toy", "all", 20) for row in rows)
    few = sample(task, 20, 7)
    for row, (setting, value) in zip(rows, settings, strict=True):
        assert row["metrics"] == pytest.approx(summary(judge(few, make(setting, value), "all", block=64).ranks_N))
        assert all(low <= row["metrics"][name] <= high for name, (low, high) in row["intervals"].items())
        assert ("ms_per_user" in row) == (setting == "beam")
    assert all(row["ms_per_user"] > 0 for row in rows if setting == "beam")
    assert ("template 10", 20, 20) in said
    hits = {tuple(row["metrics"].values()) for row in rows if row["setting"] == "template"}
    assert len(hits) > 1, "the template is asked"
    # What was kept is taken over, with the time that it took.
    again = sweep(task, make, 20, 7, world, lambda what, done, total: None, tmp_path)
    assert again == rows


def test_the_sample_is_seeded_and_leaves_the_baselines_everyone(task):
    one, same, other = sample(task, 20, 7), sample(task, 20, 7), sample(task, 20, 8)
    assert one.users == same.users != other.users and len(set(one.users)) == 20
    assert one.training_histories is task.training_histories
    assert sample(task, 500, 7).users == task.users
    for user, history, target in zip(one.users, one.histories, one.targets, strict=True):
        row = task.users.index(user)
        assert history is task.histories[row] and target == task.targets[row]
    with pytest.raises(ValueError, match="sweep_users is -1"):
        EvaluateConfig("run", "shards", "out", sweep_users=-1)
