"""What a run will need: counts from the shards are those of the stream, memory and traffic are the textbook's."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pretrain.config.run import ModelConfig, PretrainConfig, ScheduleConfig
from pretrain.model.shape import Shape
from pretrain.planning import plan as costs
from pretrain.planning.workload import Batch, batch_of, count
from pretrain.training.schedule import make_plan
from shards.stream.stream import Stream

FLAN_SMALL = Shape(32128, 512, 64, 1024, 8, 8, 6, True, False)
histories = st.lists(st.lists(st.integers(0, 8), max_size=12), max_size=8)


@settings(max_examples=100)
@given(histories, st.integers(1, 6))
def test_counting_histories_is_reading_every_prefix(records, max_history):
    data = count([np.array(r, dtype=np.int32) for r in records], np.full(9, 30), max_history, 25)
    prompts = [r[max(0, end - max_history) : end] for r in records for end in range(1, len(r))]
    assert data.samples == len(prompts) and data.items == 9
    assert data.history == pytest.approx(sum(map(len, prompts)) / max(1, len(prompts)))
    assert data.longest == max(map(len, prompts), default=0)
    assert data.mentions_N.tolist() == [sum(prompt.count(item) for prompt in prompts) for item in range(9)]
    assert (data.text_tokens_N == 25).all(), "cut, EOS included"


def test_the_shards_are_counted_as_the_stream_reads_them(shard_folder, manifest, items):
    from launchers.checks.preflight import read_data

    config = PretrainConfig(str(shard_folder), "o")
    config = dataclasses.replace(config, prompt=dataclasses.replace(config.prompt, max_history=3))
    data = read_data(config, manifest)
    stream = Stream(shard_folder, manifest, 0)
    samples = [s for _, entries in stream.batches(stream.start(), 16) for s in entries if s is not None]
    assert data.samples == len(samples) == manifest.num_samples and data.items == len(items)
    assert data.history == pytest.approx(np.mean([min(3, len(s.history)) for s in samples]))
    assert data.text_tokens_N.tolist() == [min(len(items.tokens(row)) + 1, 256) for row in range(len(items))]
    rng = np.random.default_rng(0)
    drawn = [rng.choice(len(samples), 8, replace=False) for _ in range(200)]
    named = [len({row for n in some for row in samples[n].history[-3:].tolist()}) for some in drawn]
    assert data.expected_N(8).sum() == pytest.approx(np.mean(named), rel=0.1)


def make_data(items=400, records=60, length=9, seed=0):
    rng = np.random.default_rng(seed)
    return count([rng.integers(0, items, length) for _ in range(records)], rng.integers(5, 300, items), 20, 256)


def test_a_batch_of_each_kind():
    config, data = PretrainConfig("s", "o", batch_size=64, micro_batch_size=16), make_data()
    recommender, generator = (batch_of(kind, config, data, 2) for kind in ("recommender", "generator"))
    assert recommender.rows == generator.rows == 16 and recommender.texts == 0
    assert generator.prompt_tokens == recommender.prompt_tokens < 16 * recommender.prompt_width
    assert 0 < generator.texts < 16 * data.history, "a text is encoded once"
    assert sum(number for number, _ in generator.runs) == pytest.approx(generator.texts)
    widths = [width for _, width in generator.runs]
    assert widths == sorted(widths) and widths[-1] <= 256 and all(width % 8 == 0 for width in widths)
    assert generator.padded(False).tokens > generator.tokens
    assert recommender.padded(True).tokens == recommender.tokens
    teaching = batch_of("teaching", config, data, 2)
    assert teaching.prompt_tokens == pytest.approx(16 * data.text_tokens_N.mean())
    short = dataclasses.replace(config, prompt=dataclasses.replace(config.prompt, max_tokens=24))
    assert batch_of("recommender", short, data, 2).prompt_width == 24


def test_memory_of_adam_in_float32_and_what_zero_shares_out():
    """16 bytes a parameter (Rajbhandari et al. 2020, with float32 weights), and a master copy from stage 1 on."""
    million, ranks = 10**6, 4

    def bytes_a_parameter(stage, precision="fp32", offload=False):
        found = costs.memory("recommender", million, 2 * million, ranks, stage, precision, offload, 0)
        assert found.others == 4 * 2 * million and found.activations == 0
        return found.weights / million, found.gradients / million, found.optimiser / million, found.buckets / million

    assert bytes_a_parameter(0) == (4, 4, 8, 0)
    assert bytes_a_parameter(1) == (4, 4, 12 / 4, 4)
    assert bytes_a_parameter(2) == (4, 1, 12 / 4, 4)
    assert bytes_a_parameter(3) == (1 + 4, 1, 12 / 4, 0), "few enough to stay whole within a step"
    assert bytes_a_parameter(2, "bf16", offload=True) == (2, 1, 0, 2)
    huge = costs.memory("recommender", 11 * 10**9, 0, 8, 3, "bf16", False, 0)
    assert huge.weights == 2 * (11 / 8 + 1) * 10**9, "a billion at a time"
    assert costs.memory("recommender", 10**9, 0, 1, 1, "fp32", False, 0).buckets == 4 * costs.BUCKET
    frozen = costs.memory("generator", 3 * million, million, ranks, 1, "fp32", False, 7)
    assert frozen.others == 2 * 4 * 3 * million, "the recommender and its frozen replica"
    assert frozen.total == frozen.weights + frozen.gradients + frozen.optimiser + frozen.buckets + frozen.others + 7


def test_what_the_host_keeps():
    always, between = costs.host_copies(100, 4, 1, offload=False)
    assert (always, between) == (400, 400 + 200)
    assert costs.host_copies(100, 4, 2, offload=True) == (400 + 300, 600)


@pytest.mark.parametrize("ranks", [1, 2, 64])
def test_traffic_of_ring_collectives(ranks):
    share = (ranks - 1) / ranks
    sent = [costs.traffic(1000, ranks, stage, "fp32", 3) / 4000 for stage in costs.STAGES]
    assert sent == pytest.approx([2 * share, 3 * share, 7 * share, 6 * share])
    assert costs.traffic(1000, ranks, 1, "bf16", 3) == costs.traffic(1000, ranks, 1, "fp32", 3) / 2


def test_beyond_a_billion_parameters_stage_3_gathers_more_than_once():
    """As counted in docs/benchmarks/traffic.md: per micro-batch 1 gather below, up to 2 beyond, and one a call."""
    whole = 4 * 4e9 / 2
    assert costs.traffic(4_000_000_000, 2, 3, "fp32", 1) == pytest.approx((1 + 1.75) * whole)
    assert costs.traffic(4_000_000_000, 2, 3, "fp32", 2, text_runs=8) == pytest.approx(2 * (1 + 9.75) * whole)
    assert costs.traffic(1000, 2, 3, "fp32", 1, text_runs=8) == costs.traffic(1000, 2, 3, "fp32", 1)


def test_a_checkpoint_holds_the_moments_that_are_needed_again():
    def largest(**values):
        scratch = values.pop("scratch", False)
        plan = make_plan(ScheduleConfig(**values), 64, 64, 8, from_scratch=scratch)
        return costs.checkpoint_bytes(plan, recommender=10**6, generator=10**5, items=1000, tokenizer_bytes=7)

    models = 4 * (10**6 + 10**5) + 150 * 1000 + 14
    assert largest(generator_epochs=0.0) == models + 8 * 10**6
    assert largest(warmup_epochs=0.0, rounds=1) == models + 8 * 10**6, "the generator's are not needed any more"
    assert largest(rounds=1) == models + 8 * (10**6 + 10**5), "the recommender's wait for the last phase"
    assert largest(rounds=2, scratch=True) == models + 8 * (10**6 + 10**5), "teaching's go"
    assert largest(warmup_epochs=0.0, recommender_epochs=0.0) == models + 8 * 10**5


def test_operations_of_a_step():
    """Six a weight and token of what learns, four of what is frozen (no gradient of its weights)."""
    batch = Batch(rows=8, prompt_tokens=100, prompt_width=16, target_tokens=20, target_width=8)
    step = costs.batch_flops("recommender", batch, FLAN_SMALL, FLAN_SMALL)
    assert costs.batch_flops("teaching", batch, FLAN_SMALL, FLAN_SMALL) == step
    assert costs.batch_flops("generator", batch, FLAN_SMALL, FLAN_SMALL) == pytest.approx(step * 4 / 6)
    written = dataclasses.replace(batch, texts=5, text_tokens=200, id_tokens=30)
    more = costs.batch_flops("generator", written, FLAN_SMALL, FLAN_SMALL) - step * 4 / 6
    alone = dataclasses.replace(batch, prompt_tokens=200, target_tokens=30)
    soft = 4 * 30 * FLAN_SMALL.head_weights
    assert more == pytest.approx(costs.batch_flops("recommender", alone, FLAN_SMALL, FLAN_SMALL) + soft)


def test_activations_grow_with_the_batch_and_shrink_with_checkpointing():
    config, data = PretrainConfig("s", "o", ModelConfig(), ModelConfig(), micro_batch_size=16), make_data()

    def kept(kind, precision="fp32", recomputed=False, chunk=0, ranks=2):
        batch = batch_of(kind, config, data, ranks)
        return costs.activation_bytes(kind, batch, FLAN_SMALL, FLAN_SMALL, precision, recomputed, chunk)

    for kind in ("teaching", "recommender", "generator"):
        assert kept(kind, "bf16") == kept(kind) / 2
        assert kept(kind, recomputed=True) < 0.35 * kept(kind)
        assert kept(kind, chunk=10) == kept(kind) + 20
    assert kept("recommender", ranks=16) == pytest.approx(kept("recommender") / 4)
    assert kept("generator") > kept("recommender")


def test_the_id_job_and_validation():
    """Two operations a weight and token; a validation encodes once and writes `beam` IDs, EOS with them."""
    shape = Shape(10, 1, 1, 1, 1, 1, 1, False, True)
    per_source, per_target = costs.passes(1, 0, shape), costs.passes(0, 1, shape)
    assert costs.validation_flops(shape, 2, 100, 20, 4) == 2 * 2 * (100 * per_source + 20 * 5 * per_target)
    more = costs.id_job_flops(shape, 10, 10.0, 5, 4.0) - costs.id_job_flops(shape, 10, 0.0, 5, 4.0)
    assert more == 2 * 10 * 10 * per_source
    assert costs.id_job_flops(shape, 10, 0.0, 5, 4.0) == pytest.approx(2 * 10 * 2.2 * 25 * per_target)
