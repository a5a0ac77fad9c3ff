"""Random T5s for the tests of decoding, and their scores by Hugging Face's own forward pass."""

from typing import Any

import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def random_t5():
    """`random_t5(tied, seed, dtype)`: 29 tokens, 16 wide, a head that has opinions; untied as T5 v1.1 is."""
    from transformers.models.t5.configuration_t5 import T5Config
    from transformers.models.t5.modeling_t5 import T5ForConditionalGeneration

    def make(tied=True, seed=0, dtype=torch.float32, layers=1):
        shape: dict[str, Any] = {
            "vocab_size": 29, "d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": layers, "num_heads": 2,
            "dropout_rate": 0.0, "feed_forward_proj": "gated-gelu", "decoder_start_token_id": 0,
            "pad_token_id": 0, "eos_token_id": 1, "tie_word_embeddings": tied,
        }  # fmt: skip
        config = T5Config(**shape)
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            model = T5ForConditionalGeneration(config)
            for name, parameter in model.named_parameters():
                if "relative_attention_bias" in name or "layer_norm" in name:
                    parameter.data += torch.randn_like(parameter) * 0.5
                if "EncDecAttention" in name or "SelfAttention" in name:
                    parameter.data *= 2.0
            if not tied:  # transformers 5 ties every T5 it builds; only a checkpoint with two matrices comes untied
                model.lm_head.weight = torch.nn.Parameter(torch.randn_like(model.lm_head.weight) * 0.4)
        assert (model.lm_head.weight is model.shared.weight) == tied
        assert model.config.scale_decoder_outputs == tied
        torch.nn.Module.to(model, dtype)
        return model.eval()

    return make


@pytest.fixture(scope="session")
def hf_logits():
    """`hf_logits(model, inputs, prefixes)`: next-token logits [N, V] of one unpadded input, by the model itself."""

    @torch.no_grad()
    def score(model, inputs, prefixes):
        rows = [model.config.decoder_start_token_id or 0]
        decoder = torch.tensor([rows + list(prefix) for prefix in prefixes])
        source = torch.tensor(list(inputs))[None].expand(len(prefixes), -1)
        return model(input_ids=source, decoder_input_ids=decoder, use_cache=False).logits[:, -1]

    return score


@pytest.fixture(scope="session")
def padded():
    """`padded(rows, extra)`: token rows as (input ids, mask), with `extra` more columns of padding."""

    def make(rows, extra=0):
        width = max(len(row) for row in rows) + extra
        ids = torch.zeros(len(rows), width, dtype=torch.long)
        mask = torch.zeros(len(rows), width, dtype=torch.long)
        for index, row in enumerate(rows):
            ids[index, : len(row)] = torch.tensor(list(row))
            mask[index, : len(row)] = 1
        return ids, mask

    return make


@pytest.fixture(scope="session")
def search(padded):
    """`search(model, question)`: what the search along the trie answers, [(score, item)] of each prompt."""
    from questions import answer

    return lambda model, asked: answer(model, asked, padded)


@pytest.fixture(scope="session")
def table(tokenizer):
    """`table(texts)`: an item table of these texts."""

    import numpy as np

    from shards.tables import ItemTable

    def make(texts):
        encoded = tokenizer(texts, add_special_tokens=False)["input_ids"] if texts else []
        offsets = np.cumsum([0, *map(len, encoded)])
        flat = np.array([token for tokens in encoded for token in tokens], dtype=np.int32)
        return ItemTable([f"i{row}" for row in range(len(texts))], texts, flat, offsets, {"All": (0, len(texts))})

    return make
