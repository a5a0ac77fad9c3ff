"""Diverse beam search equals Hugging Face's own at batch 1, from the newest transformers that still has it."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pretrain.decoding.decoder import T5Decoder
from pretrain.decoding.diverse import DiverseConfig, diverse_search

EOS, CLOSE = 1, 1e-4
HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory):
    from transformers.models.t5.configuration_t5 import T5Config
    from transformers.models.t5.modeling_t5 import T5ForConditionalGeneration

    torch.manual_seed(7)
    shape: dict[str, Any] = {
        "vocab_size": 61, "d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4, "dropout_rate": 0.0,
        "feed_forward_proj": "gated-gelu", "decoder_start_token_id": 0, "pad_token_id": 0, "eos_token_id": EOS,
    }  # fmt: skip
    model = T5ForConditionalGeneration(T5Config(**shape)).eval()
    for name, parameter in model.named_parameters():
        if "Attention" in name or "layer_norm" in name:
            parameter.data += torch.randn_like(parameter) * 0.3
    model.shared.weight.data[EOS] *= 3  # so that sequences end now and then
    folder = tmp_path_factory.mktemp("peer") / "model"
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def cases():
    draw = np.random.default_rng(3)
    found = []
    for number in range(60):
        shortest = int(draw.integers(1, 4))
        allowed = draw.choice(np.arange(2, 61), draw.integers(24, 30) if number % 4 else 59, replace=False)
        barred = sorted(set(range(61)) - {EOS, *allowed.tolist()})
        found.append({
            "prompt": [*draw.integers(2, 61, draw.integers(1, 12)).tolist(), EOS],
            "groups": int(draw.integers(2, 7)), "beams": 1 + number % 3,
            "penalty": float(draw.choice([0.1, 0.3, 1.0, 2.5])),
            "shortest": shortest, "longest": shortest + int(draw.integers(0, 12)), "barred": barred,
        })  # fmt: skip
    return found


@pytest.fixture(scope="module")
def peer(model_folder, cases, tmp_path_factory):
    python = Path(os.environ.get("IDGENREC_PEERS", HERE.parent.parent / ".venv-peers")) / "bin" / "python"
    assert python.is_file(), f"{python} is missing: run `make test-peers`"
    folder = tmp_path_factory.mktemp("answers")
    request, answer = folder / "request.json", folder / "answer.json"
    request.write_text(json.dumps({"model": str(model_folder), "threads": 1, "cases": cases}))
    subprocess.run([python, HERE / "hugging_face.py", request, answer], check=True)
    found = json.loads(answer.read_text())
    assert found["transformers"].startswith("4.56")
    return found["answers"]


def test_equals_hugging_faces_own(model_folder, cases, peer):
    from transformers.models.t5.modeling_t5 import T5ForConditionalGeneration

    model = T5ForConditionalGeneration.from_pretrained(model_folder).eval()
    decoder, compared, ended = T5Decoder(model), 0, 0
    for case, theirs in zip(cases, peer, strict=True):
        mask = torch.ones(1, len(case["prompt"]), dtype=torch.long)
        state = decoder.start(decoder.encode(torch.tensor([case["prompt"]]), mask), mask)
        config = DiverseConfig(
            case["groups"], case["shortest"], case["longest"], EOS, torch.tensor(case["barred"]), case["beams"],
            ending="huggingface",
        )  # fmt: skip
        found = diverse_search(decoder, state, torch.tensor([case["penalty"]]), config)
        ours = []
        for score, row in zip(
            found.scores_BGK.flatten().tolist(), found.tokens_BGKT.flatten(0, 2).tolist(), strict=True
        ):
            ours.append((score, row[: row.index(EOS) + 1] if EOS in row else row))
            ended += EOS in row
        ours.sort(key=lambda entry: entry[0], reverse=True)
        assert [score for score, _ in ours] == pytest.approx(theirs["scores"], abs=CLOSE)
        for place, (score, row) in enumerate(ours):
            near = [
                s for s, other in zip(theirs["sequences"], theirs["scores"], strict=True) if abs(other - score) < CLOSE
            ]
            assert row in near, (place, row, near)
            compared += 1
    assert compared > 400 and 50 < ended < compared - 50, (
        "the cases compare sequences that end and sequences that are cut"
    )
