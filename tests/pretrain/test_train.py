"""A whole run on tiny shards: its phases, its traces, and that an interrupted run ends as if it had not been."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np

from pretrain.config.run import EngineConfig
from pretrain.ids.book import Book
from pretrain.model.t5 import content_hash, load_model
from pretrain.tracking.tracker import read_lines
from pretrain.training import checkpoint
from pretrain.training.schedule import make_plan


def plan_of(config, manifest, items):
    return make_plan(config.schedule, manifest.num_samples, len(items), config.batch_size, from_scratch=True)


def train_until(world, config, stop_after):
    """Train; raise KeyboardInterrupt in the step after `stop_after`. Returns (what came of it, optimiser steps)."""
    import pretrain.training.engine
    from pretrain.training.train import train

    steps, said = 0, []
    take_step = pretrain.training.engine.Engine.step

    def step(self, *arguments):
        nonlocal steps
        if steps == stop_after:
            raise KeyboardInterrupt
        steps += 1
        return take_step(self, *arguments)

    class Listener:
        def line(self, text):
            said.append(text)

        def progress(self, what, done, total, unit, note=""):
            assert 0 <= done <= total and what and unit

    pretrain.training.engine.Engine.step = step  # type: ignore[method-assign]
    try:
        return str(train(config, world, Listener())), steps, said
    except KeyboardInterrupt:
        return "interrupted", steps, said
    except ValueError as error:
        return f"refused: {error}", steps, said


def outcome(folder, tokenizer):
    """Everything that a run leaves and that must not depend on interruptions."""
    state = checkpoint.verify(folder)
    return {
        "recommender": content_hash(load_model(str(folder / "recommender"), tokenizer)),
        "generator": content_hash(load_model(str(folder / "generator"), tokenizer)),
        "book": Book.load(folder / "book.arrow", tokenizer).sha256,
        "book_marks": Book.load(folder / "book.arrow", tokenizer).attempt.tolist(),
        **{name: state[name] for name in ("state", "positions", "validation", "config", "book_sha256", "finished")},
    }


def test_a_run_of_one_epoch_saves_its_checkpoints(trained_run, manifest, items, tokenizer):
    """Fault 9, and what a checkpoint holds."""
    config, out = trained_run
    plan = plan_of(config, manifest, items)
    assert [phase.kind for phase in plan] == ["teaching", "recommender", "generator", "recommender"]
    folder = checkpoint.newest(Path(out))
    assert folder is not None and folder.name == f"step-{sum(phase.steps for phase in plan):07d}"
    state = checkpoint.verify(folder)
    assert state["finished"] and (state["state"]["phase"], state["state"]["step"]) == (len(plan), 0)
    assert 0 <= state["validation"]["NDCG@10"] <= state["validation"]["HR@10"] <= 1
    error = state["validation"]["NDCG@10_stderr"]
    assert 0 < error < 1 and state["state"]["as_good"] < state["state"]["best"], "what chance may do is known"
    assert state["manifest_sha256"] == manifest.sha256() and state["world_size"] == 1
    engines = {path.name for path in (folder / "engines").iterdir()}
    assert engines == {"recommender"}, "an optimiser whose phases are over is not carried on"
    book = Book.load(folder / "book.arrow", tokenizer)
    assert book.items == items.items and state["book_sha256"] == book.sha256
    generator = load_model(str(folder / "generator"), tokenizer)
    assert book.generator_hash == content_hash(generator), "the book is of the generator beside it"
    kept = checkpoint.checkpoints_of(Path(out))
    assert 2 <= len(kept) <= config.keep_checkpoints + 1 and checkpoint.best(Path(out)) in kept
    untrained = load_model(str(Path(out) / "untrained" / "recommender"), tokenizer)
    assert content_hash(untrained) != content_hash(load_model(str(folder / "recommender"), tokenizer))


def mlflow_run(world, config, name):
    """Statuses and parameters of the MLflow runs of that name, and all metric histories."""
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=config.tracking_uri)
    found = client.get_experiment_by_name(config.experiment)
    assert found is not None
    runs = [run for run in client.search_runs([found.experiment_id]) if run.info.run_name == name]
    histories = {
        key: sorted((metric.step, metric.value) for metric in client.get_metric_history(run.info.run_id, key))
        for run in runs
        for key in run.data.metrics
    }
    return [run.info.status for run in runs], [dict(run.data.params) for run in runs], histories


def test_an_interrupted_run_ends_as_the_whole_one(trained_run, train_config, run_ranks, manifest, items, tokenizer):
    whole, out = trained_run
    plan = plan_of(whole, manifest, items)
    ends = np.cumsum([phase.steps for phase in plan]).tolist()
    config = train_config("interrupted", checkpoint_steps=1)
    done = 0
    # In the middle of teaching, right behind its end, in the middle of the generator's and the last phase.
    for wanted in (ends[0] - 1, ends[0], ends[2] - 1, ends[3] - 1):
        [(result, steps, said)] = run_ranks(train_until, 1, config, wanted - done)
        assert result == "interrupted" and steps == wanted - done
        assert any("resuming from" in text for text in said) == (done > 0)
        done = int(checkpoint.newest(Path(config.out)).name[5:])  # type: ignore[union-attr]
        assert done == wanted, "a step is never lost with a checkpoint each step"
    ends_said = [event["status"] for event in read_lines(Path(config.out) / "events.jsonl") if "status" in event]
    assert ends_said == ["KILLED"] * 4
    [(result, steps, _)] = run_ranks(train_until, 1, config, None)
    assert done + steps == ends[-1] and result == str(checkpoint.newest(Path(config.out)))
    assert outcome(Path(result), tokenizer) == outcome(checkpoint.newest(Path(out)), tokenizer)
    [(again, steps, said)] = run_ranks(train_until, 1, config, 0)
    assert (again, steps) == (result, 0) and "finished; nothing to do" in said[-1]
    [(statuses, params, histories)] = run_ranks(mlflow_run, 1, config, "interrupted")
    assert statuses == ["FINISHED"] and len(params) == 1, "its parts are one MLflow run"
    [(_, _, expected)] = run_ranks(mlflow_run, 1, whole, "whole")
    for name in ("teaching/loss", "recommender/loss", "generator/loss", "validation/NDCG_at_10"):
        assert histories[name] == expected[name], "the same curves"


def test_steps_since_the_last_checkpoint_are_done_again(
    trained_run, train_config, run_ranks, manifest, items, tokenizer
):
    """The interruption falls between two checkpoints, so steps are repeated: the end is the same."""
    config = train_config("repeated", checkpoint_steps=4)
    saved = plan_of(config, manifest, items)[0].steps
    [(result, steps, _)] = run_ranks(train_until, 1, config, saved + 2)
    assert (result, steps) == ("interrupted", saved + 2)
    assert checkpoint.newest(Path(config.out)).name == f"step-{saved:07d}"  # type: ignore[union-attr]
    [(result, steps, _)] = run_ranks(train_until, 1, config, None)
    assert steps == int(Path(result).name[5:]) - saved
    assert outcome(Path(result), tokenizer) == outcome(checkpoint.newest(Path(trained_run[1])), tokenizer)


def test_another_configuration_or_other_shards_are_refused(trained_run, run_ranks, tmp_path):
    config, out = trained_run
    changes = (
        {"recommender_lr": 2e-3},
        {"schedule": dataclasses.replace(config.schedule, rounds=2)},
        {"seed": 1},
        {"batch_size": 8},
    )
    for change in changes:
        [(result, steps, _)] = run_ranks(train_until, 1, dataclasses.replace(config, **change), None)
        assert steps == 0 and result.startswith("refused:") and f"was made with {next(iter(change))}" in result
        assert out in result and "\n" not in result
    other = tmp_path / "shards"
    shutil.copytree(config.shards, other)
    manifest = json.loads((other / "manifest.json").read_text())
    (other / "manifest.json").write_text(json.dumps(manifest | {"seed": 77}))
    [(result, _, _)] = run_ranks(train_until, 1, dataclasses.replace(config, shards=str(other)), None)
    assert result.startswith("refused:") and "other shards" in result
    moved = tmp_path / "moved"
    shutil.copytree(config.shards, moved)
    free = dataclasses.replace(config, shards=str(moved), log_steps=3, checkpoint_steps=9, keep_checkpoints=1)
    [(result, _, said)] = run_ranks(train_until, 1, free, None)
    assert not result.startswith("refused") and "nothing to do" in said[-1], "the same shards may lie elsewhere"


def flip_a_byte(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


def test_damaged_checkpoints_are_named_and_passed_over(trained_run, train_config, run_ranks, tokenizer):
    """A flipped byte, a truncated file, a missing one: the run goes on from the last good one and ends the same."""
    config = train_config("damaged", keep_checkpoints=9)
    [(result, _, _)] = run_ranks(train_until, 1, config, None)
    folders = checkpoint.checkpoints_of(Path(config.out))
    assert result == str(folders[-1]) and len(folders) > 5
    flip_a_byte(folders[-1] / "recommender" / "model.safetensors")
    moments = next((folders[-2] / "engines" / "recommender").glob("moments-*"))
    moments.write_bytes(moments.read_bytes()[:-9])
    next((folders[-3] / "engines").rglob("moments-*")).unlink()
    [(again, steps, said)] = run_ranks(train_until, 1, config, None)
    passed = [text for text in said if text.startswith("passing over a checkpoint")]
    assert [folder.name in text for folder, text in zip(folders[:-4:-1], passed, strict=True)] == [True] * 3
    assert "model.safetensors is damaged" in passed[0] and "moments" in passed[1] and "is missing" in passed[2]
    assert steps > 0 and again == result
    assert outcome(Path(again), tokenizer) == outcome(checkpoint.newest(Path(trained_run[1])), tokenizer)
    for folder in checkpoint.checkpoints_of(Path(config.out)):
        flip_a_byte(folder / "state.json")
    [(refused, steps, _)] = run_ranks(train_until, 1, config, None)
    assert steps == 0 and "can be used, all are damaged; give another --out" in refused


def test_mlflow_holds_one_run_with_parameters_and_loss_curves(trained_run, run_ranks, manifest, items):
    config, out = trained_run
    plan = plan_of(config, manifest, items)
    [(statuses, params, histories)] = run_ranks(mlflow_run, 1, config, "whole")
    assert statuses == ["FINISHED"]
    assert params[0]["batch_size"] == "16" and params[0]["schedule.rounds"] == "1" and "world_size" not in params[0]
    for kind in ("teaching", "recommender", "generator"):
        assert len(histories[f"{kind}/loss"]) == sum(phase.steps for phase in plan if phase.kind == kind)
        assert all(np.isfinite(value) for _, value in histories[f"{kind}/loss"])
        assert f"{kind}/lr" in histories and f"{kind}/share_of_weights_moved" in histories
    steps = sorted(step for kind in ("teaching", "recommender", "generator") for step, _ in histories[f"{kind}/loss"])
    assert steps == list(range(1, sum(phase.steps for phase in plan) + 1)), "one global step for all phases"
    assert len(histories["validation/NDCG_at_10"]) == 2 and len(histories["ids/share_changed"]) == 1
    lines = read_lines(Path(out) / "metrics.jsonl")
    written = [(line["step"], line["teaching/loss"]) for line in lines if "teaching/loss" in line]
    assert written == histories["teaching/loss"]


def batches_of_two_books(world, config, texts):
    """Rows of IDs in the generator phase's next batch, with one book and then with another."""
    import dataclasses

    import numpy as np

    from pretrain.data.batches import GeneratorBatch
    from pretrain.ids.book import canonical
    from pretrain.runtime.progress import Silent
    from pretrain.training.run import Run
    from pretrain.training.schedule import State

    run = Run(config, world, Silent())
    at = State(next(index for index, phase in enumerate(run.plan) if phase.kind == "generator"), 0)
    run.state = dataclasses.replace(run.state, schedule=at)
    run.refresh_ids(lambda: 0)
    found = []
    for new in (None, texts):
        if new is not None:
            assert run.state.book is not None
            normal, encoded = canonical(run.tokenizer, new)
            other = dataclasses.replace(run.state.book, texts=normal, token_ids=[np.array(ids) for ids in encoded])
            run.state = dataclasses.replace(run.state, book=other)
        assert run.state.book is not None
        written = {tuple(ids.tolist()) for ids in run.state.book.token_ids}
        for _, micro_batches in run.steps():
            batches = [batch for batch in micro_batches if isinstance(batch, GeneratorBatch)]
            assert len(batches) == len(micro_batches)
            rows = [tuple(row[row >= 0].tolist()) for batch in batches for row in batch.id_labels_IT]
            labels = [tuple(row[row >= 0].tolist()[:-1]) for batch in batches for row in batch.prompt.labels_BT]
            assert set(rows) <= written and set(labels) - {()} <= written
            found.append(sorted(rows))
            break
    return found


def test_a_refreshed_book_reaches_the_generator_batches_at_once(train_config, run_ranks, items):
    """Fault 7, in the run itself."""
    texts = [f"frost {row}" for row in range(len(items))]
    [(first, second)] = run_ranks(batches_of_two_books, 1, train_config("books"), texts)
    assert first != second and len(first) == len(second)


def test_small_batches_and_uneven_lanes(train_config, run_ranks):
    """Batches that are no multiple of the lanes end in fillers alone; the run goes through them."""
    schedule = dataclasses.replace(
        train_config("x").schedule,
        teaching_epochs=0.1,
        warmup_epochs=1.2,
        generator_epochs=0.05,
        recommender_epochs=0.05,
    )
    config = train_config("small", batch_size=3, micro_batch_size=2, schedule=schedule, checkpoint_steps=1000)
    [(result, steps, _)] = run_ranks(train_until, 1, config, None)
    assert Path(result).is_dir() and steps > 30


def test_validation_inside_phases_and_early_stop(train_config, run_ranks, tokenizer):
    """Validations change nothing of what is learned, and patience stops where the curve without it says."""
    schedule = dataclasses.replace(
        train_config("x").schedule, teaching_steps=2, warmup_steps=6, generator_steps=1, recommender_steps=6
    )
    often = dataclasses.replace(schedule, validation_steps=2)
    outcomes, curves = {}, {}
    for name, changed in (
        ("once", schedule), ("often", often), ("patient", dataclasses.replace(often, patience=2)),
    ):  # fmt: skip
        config = train_config(name, schedule=changed)
        [(result, steps, said)] = run_ranks(train_until, 1, config, None)
        outcomes[name] = (Path(result), steps, said)
        lines = read_lines(Path(config.out) / "metrics.jsonl")
        curves[name] = [
            (line["step"], line["validation/NDCG_at_10"]) for line in lines if "validation/NDCG_at_10" in line
        ]
    assert [step for step, _ in curves["once"]] == [8, 15]
    assert [step for step, _ in curves["often"]] == [4, 6, 8, 11, 13, 15]
    assert set(curves["once"]) <= set(curves["often"])
    once, many = (outcome(outcomes[name][0], tokenizer) for name in ("once", "often"))
    assert {key: once[key] for key in ("recommender", "generator", "book", "positions")} == {
        key: many[key] for key in ("recommender", "generator", "book", "positions")
    }
    best, stale, stop = -1.0, 0, 15
    for step, value in curves["often"]:
        best, stale = max(best, value), 0 if value > best else stale + 1
        if stale == 2:
            stop = step
            break
    folder, steps, said = outcomes["patient"]
    assert steps == stop and folder.name == f"step-{stop:07d}" and checkpoint.verify(folder)["finished"]
    assert stop < 15, "choose another seed: this curve rises to its end"
    assert curves["patient"] == [(step, value) for step, value in curves["often"] if step <= stop]
    assert f"{15 - stop} planned steps are left undone" in said[-1]


def test_all_phases_in_bf16(train_config, run_ranks):
    config = train_config("bf16", engine=EngineConfig(zero_stage=2, precision="bf16"))
    for result, steps, _ in run_ranks(train_until, 2, config, None):
        assert Path(result).is_dir() and steps > 10
    kinds = {line["group"] for line in read_lines(Path(config.out) / "metrics.jsonl")}
    assert {"teaching", "recommender", "generator", "validation"} <= kinds
