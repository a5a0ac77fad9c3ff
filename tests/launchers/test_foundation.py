"""From raw folders to the judged model by one command that can be given again."""

import dataclasses
import json

import pytest

from launchers.commands.foundation import Foundation
from launchers.commands.foundation_run import build_config, evaluate_config, pretrain_config
from launchers.jobs import recipes
from pretrain.config.run import EngineConfig
from pretrain.config.soft_ids import SoftIdConfig
from pretrain.model.t5 import save_model


@pytest.fixture(scope="module")
def asked(shard_folder, small_model, tokenizer, tmp_path_factory):
    """The words of a foundation run over the tiny marketplace, from a tiny T5."""
    t5, raw = tmp_path_factory.mktemp("t5"), shard_folder.parent / "raw"
    save_model(small_model(7), tokenizer, t5)
    return [
        "foundation", "--train", raw / "Garden", raw / "Kitchen", "--test", raw / "Gifts", "--t5", t5,
        "--size", "small", "--search.prior-weight", "0.5", "--blend-weight", "1", "--popularity-weight", "2",
        "--repeats", "observed", "--trained-share", "0.75", "--prompt.user-id", "with-items",
        "--ids.groups", "3", "--ids.max-tiers", "2", "--search.beam", "10",
    ]  # fmt: skip


@pytest.fixture
def tiny(monkeypatch):
    monkeypatch.setitem(
        recipes.SCALES, "small", recipes.Scale(10, 10, 4, batch_size=32, micro_batch_size=16, dropout=0.1)
    )


def test_both_models_start_from_one_folder_and_one_can_be_trained_alone():
    full = recipes.foundation_small("s", "o", "t5")
    assert full.recommender == full.generator and full.recommender.start_from == "t5"
    epochs = full.schedule
    assert (epochs.warmup_epochs + epochs.recommender_epochs, epochs.generator_epochs) == (1.0, 1.0)
    small = recipes.foundation_small("s", "o", "t5", recipes.SCALES["small"]).schedule
    alone = recipes.foundation_small("s", "o", "t5", recipes.SCALES["small"], "recommender").schedule
    steps = recipes.SCALES["small"].steps
    assert small.warmup_steps is not None and small.recommender_steps is not None and small.generator_steps
    assert small.warmup_steps + small.recommender_steps == steps
    assert (alone.warmup_steps, alone.recommender_steps) == (small.warmup_steps, small.recommender_steps)
    assert (alone.generator_epochs, alone.generator_steps) == (0.0, None)


def test_numbers_beside_the_size_have_the_last_word(idgenrec, asked, tmp_path, monkeypatch):
    scale, commands = recipes.SCALES["small"], []
    numbers = ("--users", 7, "--steps", 9, "--sample", 5, "--lr", 1e-3, "--from-scratch")
    numbers += ("--teaching-steps", 6, "--generator-steps", 0, "--generator-lr", 2e-4, "--history-dropout", 0.2)
    numbers += ("--batch-size", 48, "--dropout", 0.3, "--soft-ids.straight-through", "--soft-ids.temperature", 0.5)
    numbers += ("--total-users", 11, "--mixture", "temperature", "--temperature", 4)
    with monkeypatch.context() as patch:
        patch.setattr(Foundation, "run", lambda self: commands.append(self))
        assert idgenrec(*asked, "--out", tmp_path, *numbers)[0] == 0
    [command] = commands
    assert command.scale() == dataclasses.replace(
        scale, max_users=7, steps=9, sample=5, teaching_steps=6, generator_steps=0, batch_size=48, dropout=0.3
    )
    config = pretrain_config(command.asked(), tmp_path / "shards", tmp_path, 3, EngineConfig())
    assert config.recommender == recipes.SMALL_SHAPE and config.generator.start_from and config.recommender_lr == 1e-3
    assert config.seed == 3 and config.schedule.warmup_steps == 4 and config.schedule.recommender_steps == 5
    assert (config.schedule.teaching_steps, config.schedule.generator_steps) == (6, 0)
    assert (config.generator_lr, config.teaching_lr, config.history_dropout) == (2e-4, 1e-3, 0.2)
    assert (config.batch_size, config.dropout, config.prompt.user_id) == (48, 0.3, "with-items")
    assert config.soft_ids == SoftIdConfig(temperature=0.5, straight_through=True)
    build = build_config(command.asked(), tmp_path / "shards")
    assert (build.max_users, build.total_users, build.mixture, build.temperature) == (7, 11, "temperature", 4)
    judged = evaluate_config(command.asked(), tmp_path, tmp_path, first=True)
    assert (judged.sample, judged.max_users) == (5, None)
    everyone = dataclasses.replace(command, sample=None, judge_users=40)
    judged = evaluate_config(everyone.asked(), tmp_path, tmp_path, first=True)
    assert (judged.sample, judged.max_users) == (None, 40)
    status, _, wrong = idgenrec(*asked, "--out", tmp_path, "--sample", 5, "--judge-users", 40)
    assert status == 2 and "--sample (for models alone) and --judge-users (for everyone) exclude each other" in wrong
    status, _, wrong = idgenrec(*asked, "--out", tmp_path, "--steps", 0)
    assert status == 2 and "steps is 0; it must be at least 1" in wrong
    status, _, wrong = idgenrec(*asked, "--out", tmp_path, "--trained-share", 1.5)
    assert status == 2 and "trained_share is 1.5; it must be between 0 and 1" in wrong
    words = ("--ids.form", "titles", "--train-models", "recommender", "--teaching-steps", 5, "--prompt.user-id", "none")
    status, _, wrong = idgenrec(*asked, "--out", tmp_path, *words)
    assert status == 2 and "it need not be taught; leave --teaching-steps or --ids.form out" in wrong
    status, _, wrong = idgenrec(*asked, "--out", tmp_path / "x", "--prompt.user-id", "alone")
    assert status == 2 and "shows the generator nothing of its items' IDs; set schedule.generator_steps to 0" in wrong
    status, _, wrong = idgenrec(*asked, "--out", tmp_path / "x", "--mixture", "uniform")
    assert status == 2 and "mixture uniform shares out total_users; give total_users" in wrong
    assert not (tmp_path / "x").exists()


def test_the_untrained_model_is_judged_once_where_no_seed_changes_it(idgenrec, asked, tmp_path, monkeypatch):
    commands = []
    monkeypatch.setattr(Foundation, "run", lambda self: commands.append(self))
    words = ("--out", tmp_path, "--controls", "untrained", "untrained-ids")
    only = ("--train-models", "recommender")
    for more in ((), only, (*only, "--from-scratch"), (*only, "--teaching-steps", 5)):
        assert idgenrec(*asked, *words, *more)[0] == 0
    both, alone, scratch, taught = (command.asked() for command in commands)
    later = [evaluate_config(one, tmp_path, tmp_path, first=False).controls for one in (both, alone, scratch, taught)]
    assert later == [("untrained", "untrained-ids"), ("untrained-ids",), *[("untrained", "untrained-ids")] * 2]
    assert evaluate_config(alone, tmp_path, tmp_path, first=True).controls == ("untrained", "untrained-ids")


@pytest.mark.slow
@pytest.mark.processes
def test_one_command_builds_trains_and_judges_and_goes_on_where_it_was(idgenrec, asked, tiny, tmp_path):
    out = tmp_path / "foundation"
    status, said, wrong = idgenrec(*asked, "--out", out)
    assert status == 0, wrong
    assert "idgenrec+text+popularity" in said and "untrained" in said
    results = json.loads((out / "seed-0" / "report" / "results.json").read_text())
    rows = {row["recommender"]: row for row in results["rows"] if row["protocol"] == "all"}
    assert rows["idgenrec+text+popularity"]["kind"] == rows["idgenrec+popularity"]["kind"] == "blend"
    assert rows["idgenrec"]["num_users"] == 4
    checkpoints = sorted((out / "seed-0" / "run" / "checkpoints").iterdir())
    audited = {check["check"]: check["verdict"] for check in results["audit"]}
    [users] = results["users"].values()
    assert len(users) == 4 and all("user_id" in user for user in users)
    assert audited["inputs of idgenrec"] == "passed", "users' IDs have not seen the target"
    assert results["provenance"]["checkpoint"] == checkpoints[0].name == "interpolated-0.75"
    before = (out / "seed-0" / "report" / "results.json").stat().st_mtime_ns
    books = {path.name: path.stat().st_mtime_ns for path in (out / "books").iterdir()}
    status, said, wrong = idgenrec(*asked, "--seeds", 0, 1, "--out", out)
    assert status == 0, wrong
    assert (out / "seed-0" / "report" / "results.json").stat().st_mtime_ns == before, "seed 0 is not judged again"
    assert sorted((out / "seed-0" / "run" / "checkpoints").iterdir()) == checkpoints
    kept = {path.name: path.stat().st_mtime_ns for path in (out / "books").iterdir()}
    assert books.items() <= kept.items(), "what the untrained generator wrote is not written again"
    assert (out / "compared" / "compare.html").is_file()
    status, said, wrong = idgenrec(*asked, "--blend-weight", 2, "--out", out)
    assert status == 2 and "was begun with blend_weight 1.0, not 2.0" in wrong and len(wrong.splitlines()) == 1


def test_a_generator_that_writes_nothing_is_not_trained(idgenrec, asked, tmp_path):
    status, _, wrong = idgenrec(*asked, "--ids.form", "titles", "--out", tmp_path / "x")
    assert (
        status == 2 and "give --train-models recommender beside --ids.form" in wrong and not (tmp_path / "x").exists()
    )


def test_a_mistake_can_be_mended_in_the_same_folder(idgenrec, asked, tiny, tmp_path):
    """Nothing is noted before the shards stand; what pretrain would refuse is refused before any rank starts."""
    words, out = list(asked), tmp_path / "mended"
    words[words.index("--test") + 1] = tmp_path / "nowhere"
    status, _, wrong = idgenrec(*words, "--out", out)
    assert status == 2 and "nowhere" in wrong and len(wrong.splitlines()) == 1
    status, _, wrong = idgenrec(*asked, "--processes", 0, "--out", out)
    assert status == 2 and "processes is 0" in wrong and [path.name for path in out.iterdir()] == [".shards.building"]
    status, _, wrong = idgenrec(*asked, "--processes", 3, "--out", out)
    assert status == 2 and "batch_size 32 is not divisible by 3 ranks" in wrong
    assert sorted(path.name for path in out.iterdir()) == ["foundation.json", "shards"]
