"""Dropout keyed by sample: right rates, and masks that know their sample and place and nothing else."""

import dataclasses
import warnings
from functools import partial

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from pretrain.config.prompt import PromptConfig
from pretrain.config.run import ModelConfig, PretrainConfig
from pretrain.data.batches import BatchMaker, GeneratorBatch
from pretrain.data.micro_batches import interaction_steps, split, teaching_steps
from pretrain.data.prompts import PromptBuilder
from pretrain.model.dropout import KeyedDropout, dropped, key_dropout, keyed
from pretrain.model.t5 import build_model, frozen_copy
from pretrain.runtime.world import World
from pretrain.training.objectives import GeneratorObjective, RecommenderObjective
from shards.stream.stream import Stream

KEYS = torch.tensor([5, -77, 1 << 61, -(1 << 63), 0, 1])
RATE = 0.25
THRESHOLD = round(RATE * 65536)


def fresh_keys(rows, seed=0):
    draw = np.random.default_rng(seed)
    return torch.from_numpy(draw.integers(-(1 << 63), 1 << 63, size=rows, dtype=np.int64))


def mixed(word):
    """splitmix64's finaliser in Python's integers."""
    word = (word ^ word >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    word = (word ^ word >> 27) * 0x94D049BB133111EB % 2**64
    return word ^ word >> 31


def by_hand(key, site, position, feature, threshold):
    """The same hash in Python's integers."""
    base = mixed(mixed(key % 2**64 ^ site) ^ position) >> 32
    word = base ^ feature // 2
    word = (word ^ word >> 16) * 0x85EBCA6B % 2**32
    word = (word ^ word >> 13) * 0xC2B2AE35 % 2**32
    word ^= word >> 16
    lane = word >> 16 if feature % 2 else word % 2**16
    return (lane ^ 0x8000) < threshold  # read as a signed number


def test_the_mask_is_the_hash_of_key_site_position_and_feature():
    mask = dropped(KEYS, 3, 7, 9, THRESHOLD)
    assert mask.shape == (6, 7, 9) and mask.dtype == torch.bool
    for (row, position, feature), found in np.ndenumerate(mask.numpy()):
        assert found == by_hand(int(KEYS[row]), 3, position, feature, THRESHOLD)


@pytest.mark.parametrize("rate", [0.01, 0.1, 0.5])
def test_the_rate_is_right_along_every_axis(rate):
    threshold = round(rate * 65536)
    mask = dropped(fresh_keys(48), 11, 64, 256, threshold).double()
    chance = threshold / 65536
    assert abs(mask.mean().item() - chance) < 4 * (chance * (1 - chance) / mask.numel()) ** 0.5
    for axis in range(3):
        counts = mask.transpose(0, axis).flatten(1).sum(1)
        trials = mask.numel() // len(counts)
        statistic = ((counts - trials * chance) ** 2 / (trials * chance * (1 - chance))).sum().item()
        assert 1e-4 < stats.chi2.sf(statistic, len(counts)) < 1 - 1e-4, axis


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_neighbours_along_every_axis_are_independent(axis):
    """Consecutive keys are the worst case; the batches' keys are digests."""
    mask = dropped(torch.arange(48), 0, 64, 256, 1 << 15).transpose(0, axis)
    for step in (1, 2, 8):
        agree = (mask[step:] == mask[:-step]).double()
        assert abs(agree.mean().item() - 0.5) < 4 * 0.5 / agree.numel() ** 0.5


def test_sites_epochs_and_samples_have_masks_of_their_own():
    masks = [dropped(fresh_keys(8, seed), site, 32, 64, 1 << 15) for seed in (0, 1) for site in (0, 1, 2)]
    for index, one in enumerate(masks):
        for other in masks[:index]:
            assert abs((one == other).double().mean().item() - 0.5) < 4 * 0.5 / one.numel() ** 0.5


def test_a_mask_knows_neither_width_of_padding_nor_neighbours_nor_the_order_of_rows():
    whole = dropped(KEYS, 4, 40, 32, THRESHOLD)
    assert torch.equal(dropped(KEYS, 4, 16, 32, THRESHOLD), whole[:, :16])
    for rows in ([2], [3, 0, 5], [1, 4]):
        assert torch.equal(dropped(KEYS[rows], 4, 40, 32, THRESHOLD), whole[rows])
    assert torch.equal(dropped(KEYS, 4, 40, 31, THRESHOLD), whole[..., :31])


def test_what_stays_is_scaled_and_so_is_its_gradient():
    module = KeyedDropout(RATE, site=2).train()
    hidden = torch.randn(6, 5, 8, generator=torch.Generator().manual_seed(0)).requires_grad_()
    with keyed(module, KEYS):
        out = module(hidden)
    gone = dropped(KEYS, 4, 5, 8, THRESHOLD)
    assert 20 < int(gone.sum()) < 120
    expected = torch.where(gone, 0.0, 1 / (1 - RATE))
    torch.testing.assert_close(out, hidden * expected)
    out.sum().backward()
    torch.testing.assert_close(hidden.grad, expected)


def test_nothing_happens_in_eval_mode_and_training_without_keys_is_a_mistake():
    module, hidden = KeyedDropout(RATE, 0), torch.ones(6, 5, 8)
    assert module.eval()(hidden) is hidden
    with keyed(module, KEYS):
        assert module(hidden) is hidden
    with pytest.raises(AssertionError, match="keys"):
        module.train()(hidden)
    with keyed(module, KEYS):
        beginning, end = module(hidden), module(hidden)
        assert not torch.equal(beginning, end), "a module that is used twice drops twice"
        with pytest.raises(AssertionError, match="one forward pass"):
            module(hidden)


def test_every_dropout_of_a_model_has_a_site_of_its_own(small_model):
    model = small_model(1)
    places = [name for name, module in model.named_modules() if isinstance(module, nn.Dropout)]
    key_dropout(model, 0.0)
    assert all(type(model.get_submodule(name)) is nn.Dropout for name in places), "a rate of 0 leaves them alone"
    weights = set(model.state_dict())
    key_dropout(model, RATE)
    found = {name: module.site for name, module in model.named_modules() if isinstance(module, KeyedDropout)}
    assert found == {name: site for site, name in enumerate(places)} and len(places) == 2 + 2 + 2 + 3 + 0
    assert not any(isinstance(module, nn.Dropout) for module in model.modules())
    assert set(model.state_dict()) == weights and model.config.dropout_rate == 0.0
    key_dropout(model, 0.5)
    assert {module.threshold for module in model.modules() if isinstance(module, KeyedDropout)} == {1 << 15}
    for rate in (1.0, -0.1):
        with pytest.raises(ValueError, match="at least 0 and below 1"):
            key_dropout(model, rate)
        with pytest.raises(ValueError, match="at least 0 and below 1"):
            PretrainConfig("s", "o", dropout=rate)


@pytest.fixture(scope="module")
def maker(tokenizer, items, book_of):
    return BatchMaker(PromptBuilder(tokenizer, PromptConfig(max_tokens=96)), book_of(), items, 24, 0)


@pytest.fixture(scope="module")
def samples(shard_folder, manifest):
    stream = Stream(str(shard_folder), manifest, 0, 0, 1)
    return next(iter(stream.batches(stream.start(), 12)))[1]


@pytest.fixture
def objective_of(tokenizer):
    def make(kind, rate, layers=2, checkpointing=False):
        shape = ModelConfig(d_model=16, d_ff=32, num_layers=layers, num_heads=2)
        model = build_model(shape, tokenizer, 1)
        if checkpointing:
            with warnings.catch_warnings():  # the newest transformers calls the method by another name
                warnings.simplefilter("ignore", FutureWarning)
                model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        if kind == "recommender":
            return RecommenderObjective(model, rate).train()
        return GeneratorObjective(model, frozen_copy(build_model(shape, tokenizer, 2)), dropout=rate).train()

    return make


def loss_and_gradients(objective, batches):
    """Of the sum over the batches."""
    total = 0.0
    for batch in batches:
        loss, _ = objective(batch)
        loss.backward()
        total += loss.item()
    return total, [parameter.grad for parameter in objective.parameters()]


def assert_same(one, other, tolerance=1e-5):
    assert one[0] == pytest.approx(other[0], rel=tolerance)
    scale = max(gradient.abs().max() for gradient in one[1])
    for a, b in zip(one[1], other[1], strict=True):
        assert (a - b).abs().max() <= tolerance * scale


@pytest.mark.parametrize("kind", ["recommender", "generator"])
def test_accumulation_is_the_large_batch_with_dropout_too(objective_of, maker, samples, kind):
    """Samples of other lengths in other micro-batches, padded otherwise, fillers between them."""
    make = partial(maker.generator_batch, slot=24) if kind == "generator" else maker.recommender_batch
    whole = loss_and_gradients(objective_of(kind, 0.2), [make(samples, 1)])
    for parts in (2, 5, len(samples)):
        batches = [make([None, *part], 1) for part in split(list(samples[::-1]), parts)]
        assert_same(whole, loss_and_gradients(objective_of(kind, 0.2), batches))
    without = loss_and_gradients(objective_of(kind, 0.0), [make(samples, 1)])
    other = loss_and_gradients(objective_of(kind, 0.2), [make(samples, 2)])
    assert abs(whole[0] / without[0] - 1) > 1e-4 < abs(whole[0] / other[0] - 1)


@pytest.mark.parametrize("kind", ["recommender", "generator"])
@pytest.mark.parametrize("rate", [0.0, 0.2])
def test_computing_layers_again_changes_nothing(objective_of, maker, samples, kind, rate):
    """Activation checkpointing; the generator's items stand in several parts, each with keys of its own."""
    batch = maker.generator_batch(samples, 0) if kind == "generator" else maker.recommender_batch(samples, 0)
    if kind == "generator":
        assert len(batch.parts) > 1
    kept = loss_and_gradients(objective_of(kind, rate), [batch])
    again = objective_of(kind, rate, checkpointing=True)
    forwards = []
    again.model.encoder.block[0].layer[0].register_forward_pre_hook(lambda *_: forwards.append(1))
    assert_same(kept, loss_and_gradients(again, [batch]))
    assert len(forwards) == 2 * (len(batch.parts) if kind == "generator" else 1), "forward, and once more for backward"
    for module in again.modules():
        if isinstance(module, KeyedDropout):
            assert module.keys_B is None and module.calls == 0, "nothing is left behind"


def test_a_model_with_dropout_is_the_plain_one_when_it_is_judged(objective_of, maker, samples, small_model):
    batch = maker.recommender_batch(samples, 0)
    objective = objective_of("recommender", 0.3)
    random = torch.get_rng_state()
    trained, _ = objective(batch)
    assert torch.equal(torch.get_rng_state(), random), "no global randomness"
    plain, _ = objective_of("recommender", 0.0)(batch)
    judged, _ = objective.eval()(batch)
    assert torch.equal(judged, plain) and not torch.equal(trained, plain)
    frozen = frozen_copy(objective.train().model)
    with torch.no_grad():
        loss, _ = GeneratorObjective(small_model(1), frozen)(maker.generator_batch(samples, 0))
    assert torch.isfinite(loss)


def test_keys_are_of_seed_epoch_and_sample(maker, samples):
    def keys(chosen, epoch=3, seed=0):
        one = BatchMaker(maker.prompts, maker.book, maker.items, 24, seed)
        found = one.recommender_batch(chosen, epoch).keys_B
        again = one.generator_batch(chosen, epoch).prompt.keys_B
        assert found is not None and again is not None and torch.equal(found, again)
        return found.tolist()

    mine = keys(samples)
    assert len(set(mine)) == len(samples)
    assert keys([None, samples[4], samples[1]]) == [0, mine[4], mine[1]]
    assert keys([dataclasses.replace(sample, slot=99) for sample in samples]) == mine
    longer = [dataclasses.replace(sample, prefix_end=sample.prefix_end + 1000) for sample in samples]
    for others in (keys(samples, epoch=4), keys(samples, seed=1), keys(longer)):
        assert not set(others) & set(mine)


def test_an_item_has_one_mask_in_a_step_and_another_in_the_next(maker, samples):
    def keys(part, slot, epoch=0):
        batch = maker.generator_batch(part, epoch, slot)
        return dict(zip(map(tuple, batch.id_labels_IT.tolist()), batch.item_keys_I.tolist(), strict=True))

    def trimmed(found):
        return {tuple(token for token in ids if token >= 0): key for ids, key in found.items()}

    whole = trimmed(keys(samples, 12))
    assert len(set(whole.values())) == len(whole)
    for part in (samples[:5], samples[5:]):
        some = trimmed(keys(part, 12))
        assert some.items() <= whole.items()
    for other in (keys(samples, 24), keys(samples, 12, epoch=1)):
        assert not set(trimmed(other).values()) & set(whole.values())


def rows_masks_keys(batch):
    """What a batch has its model in training read."""
    if isinstance(batch, GeneratorBatch):
        return batch.item_ids_IU, batch.item_mask_IU, batch.item_keys_I
    assert batch.keys_B is not None
    return batch.input_ids_BS, batch.mask_BS, batch.keys_B


@pytest.mark.parametrize("kind", ["recommender", "generator", "teaching"])
def test_ranks_and_micro_batches_do_not_enter_the_keys(shard_folder, manifest, tokenizer, items, maker, kind):
    def by_rank(size, micro):
        """Key of every row that a rank trains, by its tokens, for two steps."""
        found: list[set] = [set(), set()]
        for rank in range(size):
            world = World(rank, size, torch.device("cpu"))
            config = PretrainConfig(str(shard_folder), "out", batch_size=8, micro_batch_size=micro)
            stream = Stream(str(shard_folder), manifest, 0, rank, size)
            if kind == "teaching":
                steps = teaching_steps(tokenizer, items, stream.start(), config, world)
            else:
                steps = interaction_steps(kind, stream, maker, stream.start(), config, world)
            for step, (_, batches) in zip(range(2), steps, strict=False):
                for batch in batches:
                    for row, mask, key in zip(*rows_masks_keys(batch), strict=True):
                        found[step].add((tuple(row[mask.bool()].tolist()), int(key)))
        return found

    alone = by_rank(1, 8)
    assert by_rank(2, 8) == by_rank(4, 1) == alone
    assert all(len({key for _, key in step}) == len(step) >= 8 for step in alone)
    assert not {key for _, key in alone[0]} & {key for _, key in alone[1]}
