"""Weights of a folder: whole in each form that is published; else refused by name, never drawn at random."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from pretrain.model.shape import from_config_json
from pretrain.model.t5 import content_hash, load_model, save_model
from pretrain.model.weights import misfit_of, stored_weights

LAYER = "decoder.block.0.layer.2.DenseReluDense"


@pytest.fixture(scope="module")
def whole(small_model, tokenizer, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "model"
    save_model(small_model(3), tokenizer, folder)
    return folder


@pytest.fixture
def altered(whole, tmp_path):
    """`altered(change, **config)`: the folder with weights that `change` has changed, and other values."""

    def make(change=lambda weights: None, **config):
        folder = tmp_path / "altered"
        shutil.copytree(whole, folder)
        weights = load_file(folder / "model.safetensors")
        change(weights)
        save_file(weights, folder / "model.safetensors", {"format": "pt"})
        path = folder / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | config))
        return folder

    return make


def by_headers(folder):
    """Whether the headers alone show that a folder is not whole."""
    shape = from_config_json(json.loads((folder / "config.json").read_text()))
    stored = stored_weights(folder)
    return stored is not None and bool(misfit_of(shape, stored))


def encoder_alone(weights):
    for name in [name for name in weights if name.startswith("decoder.")]:
        del weights[name]


def one_lacking(weights):
    del weights["encoder.final_layer_norm.weight"]


def under_another_prefix(weights):
    for name in list(weights):
        weights[f"model.{name}"] = weights.pop(name)


RELU = {"feed_forward_proj": "relu", "is_gated_act": False, "dense_act_fn": "relu"}
NO_HEAD = {"tie_word_embeddings": False, "scale_decoder_outputs": False}


@pytest.mark.parametrize(
    ("change", "config", "words"),
    [
        (encoder_alone, {}, ("it lacks decoder.block.0.layer.0.SelfAttention.", " more")),
        (one_lacking, {}, ("it lacks encoder.final_layer_norm.weight",)),
        (under_another_prefix, {}, ("it lacks ", "too many: model.decoder.block.0")),
        (dict, RELU, (f"it lacks {LAYER}.wi.weight, ", f"it has too many: {LAYER}.wi_0")),
        (dict, {"num_layers": 2}, ("it lacks encoder.block.1.",)),
        (dict, {"d_ff": 64}, (f"it has {LAYER}.wi_0.weight of 32x16, not 64x16", "and 3 more")),
        (dict, NO_HEAD, ("lm_head.weight", "lack")),
    ],
)
def test_a_folder_that_is_not_whole_is_refused_by_name(altered, tokenizer, change, config, words):
    folder = altered(change, **config)
    with pytest.raises(ValueError, match="cannot load a T5 from") as caught:
        load_model(str(folder), tokenizer)
    line = str(caught.value)
    assert str(folder) in line and "\n" not in line and all(word in line for word in words), line
    assert by_headers(folder), "before a run starts, too"


def test_surplus_layers_are_not_cut_off(small_model, tokenizer, altered):
    def add(weights):
        first = [name for name in weights if "block.0" in name]
        weights |= {name.replace("block.0", "block.1"): weights[name].clone() for name in first}

    folder = altered(add)
    with pytest.raises(ValueError, match="too many: decoder.block.1.layer.0"):
        load_model(str(folder), tokenizer)
    assert by_headers(folder)


def test_a_head_of_its_own_under_a_configuration_that_ties_it(altered, tokenizer):
    folder = altered(lambda weights: weights.update({"lm_head.weight": torch.ones_like(weights["shared.weight"])}))
    with pytest.raises(ValueError, match="lm_head.weight is the embedding, and the weights have another"):
        load_model(str(folder), tokenizer)


def with_copies(weights):
    """As transformers wrote a tied T5 for years, and with the weight that no implementation reads."""
    for name in ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight", "lm_head.weight"):
        weights[name] = weights["shared.weight"].clone()
    weights["decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"] = torch.zeros(32, 2)


def test_a_whole_folder_loads_whatever_its_form(whole, altered, tokenizer, tmp_path):
    expected = load_model(str(whole), tokenizer)
    folders = [altered(with_copies), tmp_path / "shards", tmp_path / "pickled"]
    expected.save_pretrained(folders[1], max_shard_size="20KB")
    assert (folders[1] / "model.safetensors.index.json").is_file()
    shutil.copytree(whole, folders[2])
    (folders[2] / "model.safetensors").unlink()
    torch.save(load_file(whole / "model.safetensors"), folders[2] / "pytorch_model.bin")
    for folder in folders:
        assert content_hash(load_model(str(folder), tokenizer)) == content_hash(expected)
        assert not by_headers(folder)


@pytest.mark.parametrize("file", ["model.safetensors", "pytorch_model.bin"])
def test_a_damaged_file_is_one_line(whole, tokenizer, tmp_path, file):
    folder = tmp_path / "damaged"
    shutil.copytree(whole, folder)
    data = (folder / "model.safetensors").read_bytes()[:-100]
    (folder / "model.safetensors").unlink()
    (folder / file).write_bytes(data if file.startswith("model") else b"hello")
    with pytest.raises(ValueError, match="cannot load a T5 from") as caught:
        load_model(str(folder), tokenizer)
    assert str(folder) in str(caught.value) and "\n" not in str(caught.value)
    if file.startswith("model"):
        with pytest.raises(ValueError, match=r"model.safetensors is missing or damaged"):
            stored_weights(folder)
