"""Interpolation: each weight on the straight line, the rest the checkpoint's; every reader takes it, no run does."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from pretrain.export.hugging_face import export
from pretrain.export.interpolation import interpolate
from pretrain.model.t5 import content_hash, load_model
from pretrain.training import checkpoint
from zeroshot.recommend import load_models


@pytest.fixture
def run(trained_run, tmp_path):
    """A copy of the whole tiny run."""
    return Path(shutil.copytree(trained_run[1], tmp_path / "run"))


def best_of(run):
    found = checkpoint.best(run)
    assert found is not None
    return found


def weights(folder, tokenizer):
    return dict(load_model(str(folder / "recommender"), tokenizer).named_parameters())


def test_each_weight_lies_between_start_and_end(run, tokenizer):
    source = best_of(run)
    made = interpolate(run, 0.25)
    assert made == run / "checkpoints" / "interpolated-0.25"
    assert checkpoint.verify(source)["validation"] and not checkpoint.verify(made)["validation"], "nobody validated it"
    start, end, between = (weights(folder, tokenizer) for folder in (run / "untrained", source, made))
    assert any(not torch.equal(start[name], end[name]) for name in end)
    for name, weight in between.items():
        torch.testing.assert_close(weight, 0.75 * start[name] + 0.25 * end[name], rtol=1e-6, atol=1e-6)
    for part in ("generator/model.safetensors", "book.arrow"):
        assert (made / part).read_bytes() == (source / part).read_bytes()


@pytest.mark.parametrize("share", [0, 1])
def test_its_ends_are_the_models_before_and_after(run, tokenizer, share):
    folder = best_of(run) if share else run / "untrained"
    made = interpolate(best_of(run), share)
    one, other = (load_model(str(path / "recommender"), tokenizer) for path in (made, folder))
    torch.testing.assert_close(dict(one.named_parameters()), dict(other.named_parameters()), rtol=1e-6, atol=1e-6)
    if not share:
        assert content_hash(one) == content_hash(other)


def test_every_reader_takes_it_and_no_run_goes_on_from_it(run, trained_run, tokenizer, tmp_path):
    newest, best = checkpoint.newest(run), best_of(run)
    made = interpolate(run, 0.5)
    assert interpolate(run, 0.5) == made, "written again"
    assert (checkpoint.newest(run), checkpoint.best(run)) == (newest, best)
    own = checkpoint.verify(made)["config"]
    assert own == checkpoint.verify(best)["config"] | {"interpolated_share": 0.5}, "another recipe"
    halfway = content_hash(load_model(str(made / "recommender"), tokenizer))
    assert content_hash(load_models(made, torch.device("cpu")).recommender) == halfway
    assert export(made, tmp_path / "export", "float32", trained_run[0].shards) == made
    assert content_hash(load_model(str(tmp_path / "export" / "recommender"), tokenizer)) == halfway
    card = (tmp_path / "export" / "README.md").read_text()
    assert "Share of what training changed in the recommender that is kept (weights interpolated): 0.5" in card


def test_what_cannot_be_interpolated_is_one_line(run):
    for share in (-0.1, 1.5, float("nan")):
        with pytest.raises(ValueError, match="share is .*; it must lie between 0 .* and 1"):
            interpolate(run, share)
    with pytest.raises(ValueError, match="is interpolated itself; give the checkpoint that it was made of"):
        interpolate(interpolate(run, 0.5), 0.5)
    shutil.rmtree(run / "untrained")
    with pytest.raises(ValueError, match="no recommender from before training at"):
        interpolate(run, 0.25)
    assert not (run / "checkpoints" / "interpolated-0.25").exists()


def test_a_damaged_checkpoint_is_refused_and_nothing_is_left(run):
    source = best_of(run)
    (source / "state.json").write_text(json.dumps({}))
    with pytest.raises(ValueError, match="state.json is damaged"):
        interpolate(source, 0.5)
    assert not [path for path in (run / "checkpoints").iterdir() if not path.name.startswith("step-")]
