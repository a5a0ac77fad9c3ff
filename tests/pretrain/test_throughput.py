"""What a phase is said to cost: real tokens, padding, waiting, FLOPs."""

import time

import pytest
import torch

from pretrain.data.batches import IGNORED, GeneratorBatch, text_batch
from pretrain.model.shape import token_weights
from pretrain.runtime.world import World
from pretrain.tracking.throughput import Throughput, batch_flops

ALONE = World(0, 1, torch.device("cpu"))


@pytest.fixture
def batch():
    """Two prompts of 3 and 9 tokens, targets of 1 and 2 tokens and EOS, padded to 16 and 8."""
    return text_batch([[5, 6, 1], [5] * 8 + [1]], [[7], [8, 9]], 1)


def test_padding_is_no_work(batch, small_model):
    shape = small_model().config
    watch = Throughput(ALONE, None, (shape, shape))
    for _ in watch.waiting([1, 2]):
        watch.count([batch])
    report = watch.report()
    padded = 2 * 16 + 2 * 8 if torch.cuda.is_available() else 2 * 9 + 2 * 3  # a GPU's rows are aligned
    assert (batch.input_tokens, batch.real_tokens, batch.padded_tokens) == (12, 17, padded)
    assert report["padding_share"] == pytest.approx(1 - 17 / padded)
    assert "model_flops_utilisation" not in report, "the peak of a CPU is not known"
    again = watch.report()
    assert again["tokens_per_second"] == 0 and again["padding_share"] == 0, "a report begins anew"


def test_waiting_is_what_the_data_took(small_model, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])

    def slow():
        for number in range(3):
            now[0] += 0.1
            yield number

    shape = small_model().config
    watch = Throughput(ALONE, 1.0, (shape, shape))
    for _ in watch.waiting(slow()):
        now[0] += 0.3
    report = watch.report()
    assert report["data_wait_share"] == pytest.approx(0.25)
    assert report["model_flops_utilisation"] == report["model_tflops_per_rank"] == 0
    assert report["memory_gb"] > 0.05


def counted_flops(run):
    """Multiplications and additions of all matrix products with weights, by torch's own counter."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()


def test_flops_are_those_of_the_matrices(small_model):
    """Beside torch's count of the plain model, which also has the attention scores: ours is below, and by little."""
    model = small_model()
    full = text_batch([[5] * 15 + [1]] * 4, [[7] * 7] * 4, 1)
    ours = batch_flops(full, model.config, model.config)
    torchs = counted_flops(
        lambda: model(input_ids=full.input_ids_BS, attention_mask=full.mask_BS, labels=full.labels_BT).loss.backward()
    )
    assert 0.8 * torchs < ours <= torchs


def test_a_generator_batch_counts_both_models(small_model):
    shape = small_model().config
    prompt = text_batch([[5] * 7 + [1]], [[7]], 1)
    ids, labels = torch.full((1, 8), 5), torch.tensor([[7, 8] + [IGNORED] * 6])
    nowhere, keys = torch.full((1, 8), -1), torch.zeros(1, dtype=torch.long)
    batch = GeneratorBatch(prompt, ids, torch.ones_like(ids), labels, nowhere, ((0, 1, 8),), keys)
    source, target, head = token_weights(shape)
    writing = 6 * (8 * source + 2 * (target + head))
    soft, frozen = 4 * 2 * shape.vocab_size * shape.d_model, 4 * (8 * source + 2 * (target + head))
    assert batch_flops(batch, shape, shape) == writing + soft + frozen
    assert (batch.item_tokens, batch.id_tokens, batch.real_tokens) == (8, 2, 8 + 2 + 10)
