"""Named runs: the paper's values, ours beside them, and the way to them from the command line."""

import sys

import pytest

from launchers import cli
from launchers.commands import pretrain
from launchers.commands.pretrain import Pretrain, with_recipe
from launchers.jobs import recipes
from pretrain.training.schedule import make_plan


def epochs(config):
    """(kind, epochs) of each phase, in order: a thousand samples, batches of one."""
    scratch = config.generator.start_from is None
    plan = make_plan(config.schedule, samples=1000, items=10, batch_size=1, from_scratch=scratch)
    return [(phase.kind, phase.steps / 1000) for phase in plan]


def total(config, kind):
    return sum(count for which, count in epochs(config) if which == kind)


def test_the_papers_foundation_run():
    """Section 3.2: one epoch of each; 2.6: what both start from."""
    config = recipes.foundation("s", "o", "paper")
    assert epochs(config) == [("generator", 1), ("recommender", 1)]
    assert (config.recommender_lr, config.generator_lr) == (1e-3, 1e-8)
    assert config.recommender.start_from == "google-t5/t5-small"
    assert config.generator.start_from == "nandakishormpai/t5-small-machine-articles-tag-generation"
    assert (config.ids.groups, config.ids.penalty_start, config.ids.penalty_max) == (5, 0.1, 1.0)


def test_the_papers_standard_run():
    """Section 3.2: 1 epoch of the generator, then 10 of the recommender, three times."""
    config = recipes.standard("s", "o", "paper")
    assert epochs(config) == [("generator", 1), ("recommender", 10)] * 3
    assert (config.recommender_lr, config.generator_lr) == (1e-3, 1e-8)


def test_table_5_trains_one_model_alone_for_as_long():
    for preset in ("paper", "clean"):
        both = recipes.standard("s", "o", preset)
        recommender = recipes.standard("s", "o", preset, "recommender")
        generator = recipes.standard("s", "o", preset, "generator")
        assert total(recommender, "recommender") == total(both, "recommender") == 30
        assert total(generator, "generator") == total(both, "generator") == 3
        assert {kind for kind, _ in epochs(recommender)} == {"recommender"}
        assert {kind for kind, _ in epochs(generator)} == {"generator"}
    plan = make_plan(recipes.standard("s", "o", "paper", "recommender").schedule, 9, 9, 1, from_scratch=False)
    assert [phase.refresh_ids for phase in plan] == [True, False, False], "the IDs are those of the first generator"


@pytest.mark.parametrize("recipe", [recipes.foundation, recipes.standard])
def test_clean_warms_the_recommender_and_moves_the_generator(recipe):
    clean, paper = recipe("s", "o", "clean"), recipe("s", "o", "paper")
    assert epochs(clean)[0][0] == "recommender" and epochs(paper)[0][0] == "generator"
    assert clean.generator_lr == 1e-5
    for kind in ("recommender", "generator"):
        assert total(clean, kind) == total(paper, kind)
    assert recipe("s", "o") == clean


def test_finetune_starts_from_both_models_of_a_checkpoint():
    config = recipes.finetune("s", "o", "runs/a/checkpoints/step-1", "paper")
    assert config.recommender.start_from == "runs/a/checkpoints/step-1/recommender"
    assert config.generator.start_from == "runs/a/checkpoints/step-1/generator"
    assert epochs(config) == [("generator", 1), ("recommender", 10)]
    assert total(recipes.finetune("s", "o", "c"), "recommender") == 10


@pytest.fixture
def given(monkeypatch, capfd):
    """`given(*words)`: the Pretrain that the command line makes of them; what is printed else."""

    def run(*words):
        found = []
        monkeypatch.setattr(Pretrain, "run", lambda self: found.append(self))
        monkeypatch.setattr(sys, "argv", ["idgenrec", "pretrain", *map(str, words)])
        try:
            cli.main()
        except SystemExit:
            captured = capfd.readouterr()
            return captured.out + captured.err
        return found[0]

    return run


def test_a_recipe_gives_defaults_and_flags_have_the_last_word(given):
    where = ["--shards", "s", "--out", "o"]
    assert given("--recipe", "foundation", "--preset", "paper", *where).config == recipes.foundation("s", "o", "paper")
    assert given(*where, "--recipe=standard").config == recipes.standard("s", "o", "clean")
    alone = given(*where, "--recipe", "standard", "--train", "recommender", "--plan", "--processes", 2)
    assert alone.config == recipes.standard("s", "o", "clean", "recommender") and alone.plan and alone.processes == 2
    changed = given(
        "--recipe", "foundation", *where, "--batch-size", 128, "--recommender.start-from", "t5", "--schedule.rounds", 2
    )
    assert changed.config.batch_size == 128 and changed.config.recommender.start_from == "t5"
    assert changed.config.schedule.rounds == 2 and changed.config.schedule.warmup_epochs == 0.5
    assert given(*where).config == pretrain.PretrainConfig("s", "o")


def test_finetune_takes_the_best_checkpoint_of_a_run(given, trained_run):
    from pathlib import Path

    from pretrain.training import checkpoint

    _, out = trained_run
    found = given("--recipe", "finetune", "--from-checkpoint", out, "--shards", "s", "--out", "o")
    best = checkpoint.best(Path(out))
    assert found.config == recipes.finetune("s", "o", str(best)) and found.from_checkpoint == out
    said = given("--recipe", "finetune", "--from-checkpoint", "nowhere", "--shards", "s", "--out", "o")
    assert said.count("error:") == 1 and "nowhere is neither a checkpoint nor a run" in said


def test_help_shows_the_recipes_values(given):
    said = given("--recipe", "foundation", "--preset", "paper", "--help")
    assert "(default: 1e-08)" in said and "google-t5/t5-small" in said
    assert "(default: 1e-05)" in given("--help")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--preset", "paper"), "--preset belongs to a recipe"),
        (("--from-checkpoint", "c"), "--from-checkpoint belongs to a recipe"),
        (("--recipe", "foundation", "--train", "recommender"), "--train belongs to the recipe standard"),
        (("--recipe", "finetune"), "--from-checkpoint and the recipe finetune belong together"),
        (("--recipe", "standard", "--from-checkpoint", "c"), "belong together"),
    ],
)
def test_choices_that_do_not_go_together(given, words, message):
    said = given(*words, "--shards", "s", "--out", "o")
    assert said.startswith("error:") and message in said


def test_a_recipe_that_is_none_is_said_so_by_the_parser(given):
    assert with_recipe(["--recipe", "foundatoin"]) is None and with_recipe(["--recipe"]) is None
    said = given("--recipe", "foundatoin", "--shards", "s", "--out", "o")
    assert "foundatoin" in said and "foundation" in said
