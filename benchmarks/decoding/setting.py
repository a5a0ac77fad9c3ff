"""What the sections of the decoding benchmark share: a catalogue of recombined IDs, models, prompts, and the clock.

Enters: the options of `python -m benchmarks.decoding`. Leaves: a `Setting`, the same for the same options.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor
from transformers.models.t5.configuration_t5 import T5Config
from transformers.models.t5.modeling_t5 import T5ForConditionalGeneration

from benchmarks.decoding.catalogues import RealIds
from pretrain.config.prompt import PromptConfig
from pretrain.data.batches import text_batch
from pretrain.data.prompts import PromptBuilder
from shards.tokenizer import EOS_ID, load_tokenizer

CATALOGUE, PROMPT_TOKENS, BEAM = 233_323, 128, 20


@dataclass(frozen=True)
class Setting:
    """What every section shares: real IDs, the catalogue of the paper's Fusion size, models by name, prompts."""

    real: RealIds
    ids: pa.LargeListArray
    models: dict[str, T5ForConditionalGeneration]
    input_ids_BS: Tensor
    mask_BS: Tensor
    tokenizer: Any
    options: argparse.Namespace


def t5_small() -> T5ForConditionalGeneration:
    """The shape of T5-small with seeded random weights: 60.5 million parameters, a tied head of 32,128 rows."""
    torch.manual_seed(0)
    shape: dict[str, Any] = {
        "vocab_size": 32128, "d_model": 512, "d_kv": 64, "d_ff": 2048, "num_layers": 6, "num_heads": 8,
        "dropout_rate": 0.0, "decoder_start_token_id": 0, "pad_token_id": 0, "eos_token_id": EOS_ID,
    }  # fmt: skip
    return T5ForConditionalGeneration(T5Config(**shape)).eval()


def prepare(options: argparse.Namespace) -> Setting:
    tokenizer = load_tokenizer(options.tokenizer)
    real = RealIds(options.ids, tokenizer)
    ids = real.recombine(options.items)
    models = {"T5-small's shape, random weights": t5_small()}
    if options.model:
        model = T5ForConditionalGeneration.from_pretrained(options.model, dtype=torch.float32).eval()
        models[f"pretrained, {sum(p.numel() for p in model.parameters()) / 1e6:.0f} million"] = model
    prompts = PromptBuilder(tokenizer, PromptConfig(max_history=30, max_tokens=PROMPT_TOKENS))
    draw = np.random.default_rng(1)
    histories = [ids.take(pa.array(draw.integers(0, len(ids), 30))).to_pylist() for _ in range(options.users)]
    built = [prompts.build([np.array(item) for item in history], 0).tokens_S for history in histories]
    batch = text_batch(built, [[]] * len(built), prompts.eos)
    return Setting(real, ids, models, batch.input_ids_BS, batch.mask_BS, tokenizer, options)


def in_turns(repeats: int, **sides: Callable[[], Any]) -> dict[str, float]:
    """Median seconds of each side over `repeats` rounds, after one round that does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(repeats + 1):
        for name, run in sides.items():
            started = time.perf_counter()
            run()
            if turn:
                seconds[name].append(time.perf_counter() - started)
    return {name: statistics.median(values) for name, values in seconds.items()}
