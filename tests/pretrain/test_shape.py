"""The shape of a T5: parameters to the last one, what a pass keeps as torch itself counts it."""

import json

import pytest
import torch
from transformers.models.t5.configuration_t5 import T5Config
from transformers.models.t5.modeling_t5 import T5ForConditionalGeneration

from pretrain.config.run import ModelConfig
from pretrain.model.shape import (
    FROZEN,
    TRAIN,
    Shape,
    from_config_json,
    kept_elements,
    passes,
    token_weights,
    weight_shapes,
)
from pretrain.model.t5 import build_model, save_model, with_fused_activation
from pretrain.training.objectives import head_inputs

T5_SMALL = {
    "model_type": "t5", "vocab_size": 32128, "d_model": 512, "d_kv": 64, "d_ff": 2048, "num_layers": 6, "num_heads": 8,
}  # fmt: skip


def test_parameters_of_published_models():
    """60.5, 77.0 and 222.9 million: t5-small, flan-t5-small, t5-base."""
    assert from_config_json(T5_SMALL).num_parameters == 60_506_624
    flan = T5_SMALL | {"d_ff": 1024, "num_layers": 8, "num_heads": 6, "feed_forward_proj": "gated-gelu"}
    assert from_config_json(flan | {"tie_word_embeddings": False}).num_parameters == 76_961_152
    base = T5_SMALL | {"d_model": 768, "d_ff": 3072, "num_layers": 12, "num_heads": 12}
    assert from_config_json(base).num_parameters == 222_903_552


@pytest.mark.parametrize("gated", [True, False])
@pytest.mark.parametrize("tied", [True, False])
def test_parameters_of_any_shape(gated, tied):
    config = T5Config(
        vocab_size=96, d_model=24, d_kv=5, d_ff=40, num_layers=3, num_decoder_layers=2, num_heads=3,
        relative_attention_num_buckets=8, feed_forward_proj="gated-gelu" if gated else "relu",
    )  # fmt: skip
    model = T5ForConditionalGeneration(config)
    if not tied:
        model.lm_head.weight = torch.nn.Parameter(torch.zeros_like(model.lm_head.weight))
    values = config.to_dict() | {"tie_word_embeddings": tied}
    # transformers 4 wrote no `scale_decoder_outputs`.
    shape = from_config_json({key: value for key, value in values.items() if key != "scale_decoder_outputs"})
    assert shape == from_config_json(values | {"tie_word_embeddings": True, "scale_decoder_outputs": tied})
    assert weight_shapes(shape) == {name: tuple(one.shape) for name, one in model.named_parameters()}
    assert shape.num_parameters == sum(parameter.numel() for parameter in model.parameters())


def test_a_model_from_scratch_saved_and_read_back(tokenizer, tmp_path):
    model = build_model(ModelConfig(d_model=16, d_ff=48, num_layers=2, num_heads=4), tokenizer, 0)
    save_model(model, tokenizer, tmp_path)
    shape = from_config_json(json.loads((tmp_path / "config.json").read_text()))
    assert shape.num_parameters == sum(parameter.numel() for parameter in model.parameters())
    assert (shape.d_kv, shape.is_gated_act, shape.tied) == (4, True, True)


@pytest.mark.parametrize(
    ("values", "message"), [({"model_type": "bert"}, "'bert', not 't5'"), ({"model_type": "t5"}, "no vocab_size")]
)
def test_no_t5(values, message):
    with pytest.raises(ValueError, match=message):
        from_config_json(values)


def kept_by_torch(config, rows, source, target, frozen):
    """Elements that autograd keeps, weights left out, each storage once."""
    torch.manual_seed(0)
    model = with_fused_activation(T5ForConditionalGeneration(config)).train()
    model.requires_grad_(not frozen)
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept: dict[int, torch.Tensor] = {}

    def keep(tensor):
        if tensor.untyped_storage().data_ptr() not in weights:
            kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    ids = torch.randint(3, 90, (rows, source))
    targets, mask = torch.randint(3, 90, (rows, target)), torch.ones(rows, source, dtype=torch.long)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        inputs = model.shared(ids)
        if frozen:
            inputs = inputs.detach().requires_grad_()
        head_inputs(model, inputs, mask, model.shared(targets))
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values()) / 4


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize(("rows", "source", "target"), [(4, 64, 8), (8, 24, 16)])
def test_what_a_pass_keeps(frozen, gated, rows, source, target):
    config = T5Config(
        vocab_size=96, d_model=64, d_kv=16, d_ff=160, num_layers=3, num_decoder_layers=2, num_heads=4, dropout_rate=0.0,
        feed_forward_proj="gated-gelu" if gated else "relu",
    )  # fmt: skip
    config.decoder_start_token_id = 0
    counted = kept_by_torch(config, rows, source, target, frozen)
    assert kept_elements(from_config_json(config.to_dict()), rows, source, target, False, frozen) == pytest.approx(
        counted, rel=0.08
    )


def test_recomputing_keeps_less_the_more_layers_there_are():
    def share(layers):
        shape = Shape(32128, 512, 64, 1024, layers, layers, 6, True, False)
        return kept_elements(shape, 32, 200, 8, True, False) / kept_elements(shape, 32, 200, 8, False, False)

    assert share(1) > 0.7 and share(8) < 0.25 and share(24) < share(8)


def test_operations_are_those_of_the_matrices():
    """Counted by torch: every matrix product of a forward pass, without attention's own."""
    from torch.utils.flop_counter import FlopCounterMode

    config = T5Config(vocab_size=96, d_model=64, d_kv=16, d_ff=160, num_layers=3, num_heads=4)
    config.decoder_start_token_id = 0
    model, rows, source, target = T5ForConditionalGeneration(config).eval(), 4, 24, 8
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(input_ids=torch.ones(rows, source, dtype=torch.long), labels=torch.ones(rows, target, dtype=torch.long))
    counts = counter.get_flop_counts()["Global"]
    products = sum(flops for name, flops in counts.items() if str(name) in ("aten.mm", "aten.addmm"))
    assert 2 * passes(rows * source, rows * target, config) == products
    assert token_weights(from_config_json(config.to_dict())) == token_weights(config)
    assert (TRAIN, FROZEN) == (6, 4)
