"""A run that is stopped, moved to other ranks, or meets a bad step."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from pretrain.config.prompt import PromptConfig
from pretrain.config.run import EngineConfig
from pretrain.tracking.tracker import read_lines
from pretrain.training import checkpoint
from pretrain.training.loss_spikes import WINDOW, reason


def train_some(world, config, steps_until, bad_sum=None):
    """Train; the job is as good as killed in the step after `steps_until`. The batch whose inputs have the sum
    `bad_sum` has no finite loss. Returns what came of it and what was said."""
    import pretrain.training.engine
    from pretrain.training.train import train

    said, count = [], 0
    engine_class = pretrain.training.engine.Engine
    step, backward = engine_class.step, engine_class._backward

    def counted(self, micro_batches, *arguments):
        nonlocal count
        if count == steps_until:
            raise KeyboardInterrupt
        count += 1
        return step(self, micro_batches, *arguments)

    def sometimes_bad(self, micro_batches, scale):
        loss = backward(self, micro_batches, scale)
        inputs = [getattr(batch, "prompt", batch).input_ids_BS for batch in micro_batches]
        (found,) = world.sum(sum(int(ids_BS.sum()) for ids_BS in inputs))
        return float("nan") if scale and found == bad_sum else loss

    class Listener:
        def line(self, text):
            said.append(text)

        def progress(self, what, done, total, unit, note=""):
            assert 0 <= done <= total and what and unit

    engine_class.step, engine_class._backward = counted, sometimes_bad  # type: ignore[method-assign]
    try:
        return str(train(config, world, Listener())), said
    except KeyboardInterrupt:
        return "interrupted", said
    except ValueError as error:
        return f"refused: {error}", said
    finally:
        engine_class.step, engine_class._backward = step, backward  # type: ignore[method-assign]


def losses_of(out):
    """Loss by global step; where a step was done twice, every value."""
    found: dict[int, list[float]] = {}
    for line in read_lines(Path(out) / "metrics.jsonl"):
        for name, value in line.items():
            if name.endswith("/loss"):
                found.setdefault(line["step"], []).append(value)
    return found


def test_two_ranks_then_one_then_four(trained_run, train_config, run_ranks):
    """The same samples in the same order, and losses within 1e-5, while ranks and ZeRO stages come and go."""
    whole, out = trained_run
    config = train_config("moved", checkpoint_steps=1)
    saved = []
    for ranks, stage, until in ((2, 2, 4), (1, 0, 4), (4, 3, None)):
        engine = EngineConfig(zero_stage=stage)  # type: ignore[arg-type]
        options = dataclasses.replace(config, engine=engine, micro_batch_size=16 // ranks)
        results = run_ranks(train_some, ranks, options, until)
        assert len({result for result, _ in results}) == 1
        saved.append(int(checkpoint.newest(Path(config.out)).name[5:]))  # type: ignore[union-attr]
        said = results[0][1]
        assert any("written by" in text and "ZeRO stage" in text for text in said) == (len(saved) > 1)
    assert saved[:2] == [4, 8] and saved[2] > 10
    ours, theirs = losses_of(config.out), losses_of(out)
    assert sorted(ours) == sorted(theirs)
    for step in theirs:
        assert ours[step] == pytest.approx(theirs[step], rel=0, abs=1e-5), step
    states = [checkpoint.verify(checkpoint.newest(Path(folder))) for folder in (config.out, out)]  # type: ignore[arg-type]
    assert states[0]["positions"] == states[1]["positions"] and states[0]["world_size"] == 4


def test_other_values_are_refused_unless_they_are_allowed_by_name(train_config, run_ranks):
    config = train_config("changed", checkpoint_steps=1)
    run_ranks(train_some, 1, config, 3)
    other = dataclasses.replace(config, recommender_lr=5e-4)
    [(result, _)] = run_ranks(train_some, 1, other, 1)
    assert "was made with recommender_lr 0.001, not 0.0005: give another --out" in result
    assert result.endswith(", or --allow-changed recommender_lr")
    seeded = dataclasses.replace(other, seed=3, allow_changed=("recommender_lr", "seed"))
    [(result, _)] = run_ranks(train_some, 1, seeded, 1)
    assert result.startswith("refused: ") and "seed 0, not 3" in result and "allow-changed" not in result
    for until in (1, None):
        allowed = dataclasses.replace(other, allow_changed=("recommender_lr",))
        [(result, said)] = run_ranks(train_some, 1, allowed, until)
        line = "from here on with other values: recommender_lr 0.001, not 0.0005"
        assert (line in said) == (until == 1), "the next checkpoint has the new value"
    assert checkpoint.verify(Path(result))["config"]["recommender_lr"] == 5e-4
    opened = [line["tags"].get("idgenrec.changed") for line in read_lines(Path(config.out) / "events.jsonl")
              if line["event"] == "opened"]  # fmt: skip
    assert opened == [None, "recommender_lr 0.001, not 0.0005", None]


def test_users_keep_their_ids_when_a_run_stops_inside_the_generators_phase(train_config, run_ranks):
    """The generator changes there; who writes users' IDs is the one that wrote the book."""
    prompt = PromptConfig(user_id="with-items", user_tokens=4, item_tokens=8)
    ends = []
    for name, stops in (("users-whole", [None]), ("users-stopped", [10, 1, None])):
        config = train_config(name, checkpoint_steps=1, prompt=prompt, generator_lr=0.1)
        config = dataclasses.replace(config, schedule=dataclasses.replace(config.schedule, generator_steps=4))
        for until in stops:
            [(result, _)] = run_ranks(train_some, 1, config, until)
            if until == 1:
                state = checkpoint.verify(checkpoint.newest(Path(config.out)))  # type: ignore[arg-type]
                assert 1 < state["engine_steps"]["generator"] == state["state"]["step"] < 4
        files = json.loads((Path(result) / checkpoint.FILES).read_text())
        ends.append({name: digest for name, digest in files.items() if name != "state.json"})
    assert ends[0] == ends[1] and any(name.startswith("user-id-writer/") for name in ends[0])


def sum_of(world, config, step):
    """Sum of one step's input tokens."""
    from pretrain.runtime.progress import Silent
    from pretrain.training.run import Run

    run = Run(config, world, Silent())
    for number, (_, micro_batches) in enumerate(run.steps(), 1):
        if number == step:
            return sum(int(batch.input_ids_BS.sum()) for batch in micro_batches)  # type: ignore[union-attr]
    return None


@pytest.fixture(scope="module")
def bad(train_config, run_ranks):
    """By what the third batch, the bad one, is known."""
    [found] = run_ranks(sum_of, 1, train_config("look"), 3)
    return found


def test_a_loss_that_is_not_finite_stops_the_run_before_that_step(train_config, run_ranks, bad):
    config = train_config("stop", checkpoint_steps=1)
    [(result, _)] = run_ranks(train_some, 1, config, None, bad)
    assert result.startswith("refused: teach generator, step 3: the loss is nan; the run has stopped before that step")
    folder = checkpoint.newest(Path(config.out))
    assert folder is not None and folder.name == "step-0000002"
    checkpoint.verify(folder)


def test_a_bad_step_is_given_no_weight(train_config, run_ranks, bad):
    config = train_config("skip", checkpoint_steps=1, on_bad_step="skip", keep_checkpoints=99)
    [(result, said)] = run_ranks(train_some, 1, config, None, bad)
    assert not result.startswith("refused") and checkpoint.verify(Path(result))["finished"]
    assert any("teach generator, step 3: the loss is nan; the step is given no weight" in text for text in said)
    hashes = [
        json.loads((folder / checkpoint.FILES).read_text())["generator/model.safetensors"]
        for folder in checkpoint.checkpoints_of(Path(config.out))[:4]
    ]
    assert hashes[1] == hashes[2] and len(set(hashes)) == 3, "the third step left the weights of the second"


def test_rewind_leaves_the_batch_out(train_config, run_ranks, bad):
    """It ends as a run that left the batch out without ever having gone back: what is redone is what was done."""
    ends = []
    for name, every in (("rewind-1", 1), ("rewind-2", 100)):
        config = train_config(name, checkpoint_steps=every, on_bad_step="rewind")
        [(result, said)] = run_ranks(train_some, 1, config, None, bad)
        assert not result.startswith("refused"), result
        assert any("going back to the last checkpoint and leaving that batch out" in text for text in said)
        assert len(checkpoint.verify(Path(result))["left_out"]) == 1
        files = json.loads((Path(result) / checkpoint.FILES).read_text())
        ends.append({name: digest for name, digest in files.items() if name != "state.json"})
    assert ends[0] == ends[1]


def test_what_is_a_bad_step():
    calm = [1.0, 1.1] * WINDOW
    assert reason(3.0, calm, None) is None and reason(2.0, calm, 2.0) is None
    assert "nan" in str(reason(float("nan"), [], None)) and "inf" in str(reason(float("inf"), calm, None))
    assert "above 2 times the median" in str(reason(2.2, calm, 2.0))
    assert reason(50.0, calm[1:], 2.0) is None, "no verdict before the window is filled twice"
    old = [9.0] * WINDOW + calm[:WINDOW]
    assert "above 2 times the median" in str(reason(2.2, old, 2.0)), "of the window's losses alone"


def test_a_checkpoint_in_the_background_is_the_same(trained_run, train_config, run_ranks):
    config = train_config("background", checkpoint_in_background=True)
    [(result, _), (other, _)] = run_ranks(train_some, 2, config, None)
    sync = train_config("foreground")
    [(again, _), _] = run_ranks(train_some, 2, sync, None)
    assert result == other
    files = [json.loads((Path(path) / checkpoint.FILES).read_text()) for path in (result, again)]
    assert all(files[0][name] == files[1][name] for name in files[0] if name != "state.json")
    assert set(files[0]) == set(files[1]) and not list(Path(config.out).glob("checkpoints/.*"))
    assert np.isfinite([value for values in losses_of(config.out).values() for value in values]).all()
