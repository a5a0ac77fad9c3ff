"""Recommender and ID generator as T5 models: build, load, freeze, save.

Enters: a ModelConfig and a tokenizer. Leaves: a `T5ForConditionalGeneration` in float32 without dropout. Must hold: an
untied head (T5 v1.1) stays untied through load and save; the vocabulary is the tokenizer's; from scratch, the weights
are a function of the seed alone.
"""

from __future__ import annotations

import copy
import hashlib
import json
from pathlib import Path

import torch
from torch import Tensor
from transformers.activations import ACT2FN, NewGELUActivation
from transformers.models.t5.configuration_t5 import T5Config
from transformers.models.t5.modeling_t5 import T5ForConditionalGeneration
from transformers.models.t5.tokenization_t5 import T5Tokenizer

from pretrain.config.run import EngineConfig, ModelConfig, Precision
from pretrain.model.weights import load_whole
from pretrain.runtime.watchdog import beat
from shards.tokenizer import EOS_ID, PAD_ID, padded_vocab_size

DTYPES: dict[Precision, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16}


def build_model(config: ModelConfig, tokenizer: T5Tokenizer, seed: int) -> T5ForConditionalGeneration:
    """The model a run starts from. Raises ValueError when a pretrained vocabulary is too small for the tokenizer."""
    if config.start_from is not None:
        return load_model(config.start_from, tokenizer)
    shape = T5Config(
        vocab_size=padded_vocab_size(tokenizer),
        d_model=config.d_model,
        d_kv=config.d_model // config.num_heads,
        d_ff=config.d_ff,
        num_layers=config.num_layers,
        num_heads=config.num_heads,
        feed_forward_proj="gated-gelu",
        dropout_rate=0.0,
        pad_token_id=PAD_ID,
        eos_token_id=EOS_ID,
    )
    shape.decoder_start_token_id = PAD_ID
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = T5ForConditionalGeneration(shape)
    return with_fused_activation(model).eval()


def load_model(name: str, tokenizer: T5Tokenizer) -> T5ForConditionalGeneration:
    """A T5 from a Hugging Face folder or hub name, in float32, dropout off. ValueError where weights are lacking."""
    beat(f"reading {name}")
    model = load_whole(T5ForConditionalGeneration, name, "a T5", dropout_rate=0.0, dtype=torch.float32)
    # A head is scaled where it is the embedding; a folder that says one thing and holds the other is of neither kind.
    if (model.lm_head.weight is model.shared.weight) != model.config.scale_decoder_outputs:
        tied = model.config.scale_decoder_outputs
        whose = "the embedding, and the weights have another" if tied else "not the embedding, and it is lacking"
        raise ValueError(f"cannot load a T5 from '{name}': by its config.json lm_head.weight is {whose}")
    if model.config.vocab_size < len(tokenizer):
        raise ValueError(
            f"'{name}' has {model.config.vocab_size:,} embedding rows, the tokenizer {len(tokenizer):,} pieces; "
            "build the shards with the model's own tokenizer (--tokenizer)"
        )
    return with_fused_activation(model).eval()


def with_fused_activation(model: T5ForConditionalGeneration) -> T5ForConditionalGeneration:
    """The model with T5 v1.1's activation (GELU in its tanh form) as one operation instead of eight.

    The same within rounding; forward and backward take half the time of it, and of a gated layer four wide tensors are
    kept for the gradient instead of seven. The configuration, and so what is saved, stays as it was.
    """
    for module in model.modules():
        if isinstance(getattr(module, "act", None), NewGELUActivation):
            module.act = ACT2FN["gelu_pytorch_tanh"]
    return model


def on_device(model: T5ForConditionalGeneration, device: torch.device) -> T5ForConditionalGeneration:
    """The model, moved to `device`."""
    torch.nn.Module.to(model, device)
    return model


def prepare(model: T5ForConditionalGeneration, options: EngineConfig) -> None:
    """Set a model up for training as the engine's options say; neither changes what it computes."""
    if options.activation_checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    if options.compile:
        for stack in (model.encoder, model.decoder):
            stack.compile(dynamic=True)


def frozen_copy(model: T5ForConditionalGeneration) -> T5ForConditionalGeneration:
    """A full replica in eval mode whose parameters take no gradient (section 2.5.2: the recommender is fixed)."""
    return copy.deepcopy(model).eval().requires_grad_(False)


def save_model(model: T5ForConditionalGeneration, tokenizer: T5Tokenizer, folder: Path) -> None:
    """Write a Hugging Face folder that `from_pretrained` of transformers 4 and 5 loads to the same logits."""
    beat(f"writing {folder}")
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    # transformers 5 writes `tie_word_embeddings: true` whatever the model does, which would scale an
    # untied head's input.
    path = folder / "config.json"
    written = json.loads(path.read_text()) | {"tie_word_embeddings": bool(model.config.scale_decoder_outputs)}
    path.write_text(json.dumps(written, indent=2))
    # It lists the extra ids under a name where transformers 4 wants a mapping; both know the older name.
    path = folder / "tokenizer_config.json"
    written = json.loads(path.read_text())
    written["additional_special_tokens"] = written.pop("extra_special_tokens")
    path.write_text(json.dumps(written, indent=2))


def content_hash(model: T5ForConditionalGeneration) -> str:
    """sha256 over the names and bytes of all parameters."""
    digest = hashlib.sha256()
    for name, parameter in sorted(model.named_parameters()):
        digest.update(name.encode())
        digest.update(parameter.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def outline(model: T5ForConditionalGeneration) -> T5ForConditionalGeneration:
    """The same model without weights: its parameters, tied as they are, lie on torch's meta device."""
    return copy.deepcopy(model, {
        id(p): torch.nn.Parameter(torch.empty_like(p, device="meta"), requires_grad=p.requires_grad)
        for p in model.parameters()
    })  # fmt: skip


def filled(outlined: T5ForConditionalGeneration, weights: dict[str, Tensor]) -> T5ForConditionalGeneration:
    """A model in eval mode with an outline's shape and these weights, by the names of `named_parameters`."""
    parameters = {id(p): torch.nn.Parameter(weights[name]) for name, p in outlined.named_parameters()}
    return copy.deepcopy(outlined, parameters).eval()
