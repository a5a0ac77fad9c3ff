"""Models: the same logits after saving and loading, tied or not; what cannot be loaded says so in one line."""

import json

import pytest
import torch
from transformers.activations import NewGELUActivation
from transformers.models.t5.configuration_t5 import T5Config
from transformers.models.t5.modeling_t5 import T5ForConditionalGeneration

from pretrain.config.run import ModelConfig
from pretrain.model.t5 import build_model, content_hash, frozen_copy, load_model, save_model
from shards.tokenizer import fingerprint, load_tokenizer, padded_vocab_size

INPUTS = {"input_ids": torch.tensor([[5, 6, 7, 1]]), "decoder_input_ids": torch.tensor([[0, 9, 4]])}


def is_tied(model):
    return model.lm_head.weight is model.shared.weight


@torch.no_grad()
def logits(model):
    return model(**INPUTS).logits


@pytest.mark.parametrize("tied", [True, False])
def test_save_and_load(small_model, tokenizer, tied, tmp_path):
    model = small_model(3)
    if not tied:
        head = torch.randn(model.lm_head.weight.shape, generator=torch.Generator().manual_seed(0))
        model.lm_head.weight = torch.nn.Parameter(head)
        model.config.scale_decoder_outputs = False
    save_model(model, tokenizer, tmp_path / "model")
    loaded = load_model(str(tmp_path / "model"), tokenizer)
    assert is_tied(loaded) == is_tied(model) == tied
    assert loaded.config.scale_decoder_outputs == tied and not loaded.training
    assert torch.equal(logits(loaded), logits(model))
    assert content_hash(loaded) == content_hash(model)
    plain = T5ForConditionalGeneration.from_pretrained(tmp_path / "model").eval()
    # Logits of up to 15, and anyone's activation rounds after each of its operations.
    torch.testing.assert_close(logits(plain), logits(model), atol=1e-5, rtol=1e-5)
    assert fingerprint(load_tokenizer(tmp_path / "model")) == fingerprint(tokenizer)
    again = tmp_path / "again"
    save_model(loaded, tokenizer, again)
    assert torch.equal(logits(load_model(str(again), tokenizer)), logits(model))
    assert json.loads((again / "config.json").read_text())["tie_word_embeddings"] == tied
    written = json.loads((again / "tokenizer_config.json").read_text())
    assert "extra_special_tokens" not in written, "transformers 4 wants a mapping there"
    assert len(written["additional_special_tokens"]) == 100


def test_the_activation_is_one_operation_and_the_same_function(tokenizer, tmp_path):
    config = T5Config(
        vocab_size=padded_vocab_size(tokenizer), d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4,
        feed_forward_proj="gated-gelu", dropout_rate=0.0,
    )  # fmt: skip
    config.decoder_start_token_id = 0
    plain = T5ForConditionalGeneration(config).eval()
    save_model(plain, tokenizer, tmp_path)
    model = load_model(str(tmp_path), tokenizer)
    assert not any(isinstance(module, NewGELUActivation) for module in model.modules())
    assert any(isinstance(module, NewGELUActivation) for module in plain.modules())
    assert model.config.dense_act_fn == "gelu_new", "what is saved is T5 v1.1"
    for one in (plain, model):
        one(**INPUTS).logits.square().sum().backward()
    torch.testing.assert_close(logits(model), logits(plain), atol=1e-5, rtol=1e-5)
    for (name, ours), theirs in zip(model.named_parameters(), plain.parameters(), strict=True):
        assert ours.grad is not None and theirs.grad is not None, name
        scale = float(theirs.grad.abs().max())
        torch.testing.assert_close(ours.grad, theirs.grad, atol=1e-5 * scale, rtol=1e-4)


def test_from_scratch_the_weights_are_a_function_of_the_seed(tokenizer):
    shape = ModelConfig(d_model=16, d_ff=32, num_layers=1, num_heads=2)
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    first = build_model(shape, tokenizer, 7)
    assert torch.equal(torch.rand(1), expected), "the global random state is left alone"
    assert content_hash(first) == content_hash(build_model(shape, tokenizer, 7))
    assert content_hash(first) != content_hash(build_model(shape, tokenizer, 8))
    assert first.config.vocab_size == padded_vocab_size(tokenizer) and first.dtype == torch.float32
    assert first.config.dropout_rate == 0 and not first.training and is_tied(first)
    assert (first.config.pad_token_id, first.config.eos_token_id) == (0, 1)


def test_a_loaded_model_is_float32_without_dropout(small_model, tokenizer, tmp_path):
    model = small_model(1).to(torch.bfloat16)
    model.config.dropout_rate = 0.1
    model.save_pretrained(tmp_path)
    loaded = build_model(ModelConfig(start_from=str(tmp_path)), tokenizer, 0)
    dropouts = [module.p for module in loaded.modules() if isinstance(module, torch.nn.Dropout)]
    assert loaded.dtype == torch.float32 and dropouts and not any(dropouts)


def test_a_vocabulary_that_is_too_small(random_t5, tokenizer, tmp_path):
    random_t5().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"has 29 embedding rows,.* tokenizer [\d,]+ pieces"):
        load_model(str(tmp_path), tokenizer)


@pytest.mark.parametrize("name", ["nowhere/at/all", "/nowhere/at/all", "empty"])
def test_a_folder_that_is_not_there(name, tokenizer, tmp_path):
    if name == "empty":
        (tmp_path / "empty").mkdir()
        name = str(tmp_path / "empty")
    with pytest.raises(ValueError, match="cannot load a T5 from") as caught:
        load_model(name, tokenizer)
    assert name in str(caught.value) and "\n" not in str(caught.value)


def test_a_frozen_copy_shares_nothing(small_model):
    model = small_model(2).train()
    copy = frozen_copy(model)
    assert not copy.training and not any(parameter.requires_grad for parameter in copy.parameters())
    assert content_hash(copy) == content_hash(model)
    assert not {p.data_ptr() for p in copy.parameters()} & {p.data_ptr() for p in model.parameters()}
    assert model.training and all(parameter.requires_grad for parameter in model.parameters())
