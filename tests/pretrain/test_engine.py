"""The engine: neither ranks nor accumulation nor ZeRO stage change what is learned; all ranks hold one model."""

import numpy as np
import pytest
import torch

from pretrain.config.run import EngineConfig

STEPS = 20


def train_steps(world, shards, book_texts, changes, kind, steps, rate, backend):
    """Losses, gradients of the first step, parameters after the first and the last step, and the share moved."""
    import functools
    from pathlib import Path

    import deepspeed.utils
    import numpy as np

    from pretrain.config.run import ModelConfig, PretrainConfig
    from pretrain.data.batches import BatchMaker
    from pretrain.data.micro_batches import interaction_steps
    from pretrain.data.prompts import PromptBuilder
    from pretrain.ids.book import Book, canonical
    from pretrain.model.t5 import build_model, content_hash, frozen_copy, prepare
    from pretrain.training.engine import Engine
    from pretrain.training.objectives import GeneratorObjective, RecommenderObjective
    from shards.manifest import Manifest
    from shards.stream.stream import Stream
    from shards.tables import load_items
    from shards.tokenizer import load_tokenizer

    values = {"batch_size": 8, "micro_batch_size": 8, "clip_norm": 1e6, "recommender_lr": rate} | changes
    config = PretrainConfig(shards, "out", **values)
    manifest, tokenizer = Manifest.load(shards), load_tokenizer(Path(shards) / "tokenizer")
    items = load_items(shards, manifest)
    normal, encoded = canonical(tokenizer, book_texts)
    zeros = np.zeros(len(items), dtype=np.int32)
    ids = [np.array(tokens, dtype=np.int32) for tokens in encoded]
    book = Book(items.items, normal, ids, zeros, zeros, zeros.astype(bool), "g", "t")
    shape = ModelConfig(d_model=16, d_ff=32, num_layers=1, num_heads=2)
    model, other = build_model(shape, tokenizer, 1), build_model(shape, tokenizer, 2)
    frozen, before = frozen_copy(other), content_hash(other)
    if kind == "recommender":
        objective = RecommenderObjective(model, config.dropout)
    else:
        objective = GeneratorObjective(model, frozen, config.soft_ids, config.dropout)
    compiling = torch.nn.Module.compile
    torch.nn.Module.compile = functools.partialmethod(compiling, backend=backend)  # type: ignore[method-assign]
    prepare(model, config.engine)
    engine = Engine(objective, config, world)
    stream = Stream(shards, manifest, 0, world.rank, world.size)
    maker = BatchMaker(PromptBuilder(tokenizer, config.prompt), book, items, 24, 0)
    gradients: list = []
    take_step = engine._engine.step

    def step_after_a_look(*arguments):
        if not gradients and engine._engine.is_gradient_accumulation_boundary():
            found = [deepspeed.utils.safe_get_full_grad(parameter) for parameter in model.parameters()]
            gradients.extend(None if gradient is None else gradient.clone().numpy() for gradient in found)
        return take_step(*arguments)

    engine._engine.step = step_after_a_look
    model.train()
    losses, targets, snapshots, norms = [], [], [], []
    for _, batches in interaction_steps(kind, stream, maker, stream.start(), config, world):  # type: ignore[arg-type]
        result = engine.step(batches, rate)
        losses.append(result.loss)
        targets.append(result.num_targets)
        norms.append(getattr(result, "grad_norm", None))
        if len(losses) in (1, steps):
            snapshots.append(np.concatenate([weight.numpy().ravel().copy() for _, weight in engine.weights()]))
        if len(losses) == steps:
            break
    assert content_hash(frozen) == content_hash(other) == before, "the recommender is frozen"
    assert all(parameter.grad is None for parameter in frozen.parameters())
    return {
        "losses": losses, "targets": targets, "first": snapshots[0], "last": snapshots[-1], "gradients": gradients,
        "moved": engine.share_moved(), "norms": norms,
    }  # fmt: skip


@pytest.fixture(scope="module")
def learn(run_ranks, shard_folder, book_of):
    """`learn(world_size, **changes of the config)`: the results of every rank; the same call is made once."""
    made: dict = {}

    def run(world_size=1, steps=STEPS, kind="recommender", rate=3e-3, backend="inductor", **changes):
        key = (world_size, steps, kind, rate, backend, tuple(sorted(changes.items())))
        if key not in made:
            words = (str(shard_folder), book_of().texts, changes, kind, steps, rate, backend)
            made[key] = run_ranks(train_steps, world_size, *words)
        return made[key]

    return run


def gradient_error(one, two):
    """Largest difference of two lists of gradients, relative to the largest gradient."""
    assert len(one) == len(two) > 10 and all(gradient is not None for gradient in one + two)
    scale = max(np.abs(gradient).max() for gradient in one)
    return max(np.abs(a - b).max() for a, b in zip(one, two, strict=True)) / scale


def assert_same_training(one, two):
    assert one["targets"] == two["targets"] and len(set(one["targets"])) > 1
    np.testing.assert_allclose(one["losses"], two["losses"], rtol=0, atol=1e-5)
    assert gradient_error(one["gradients"], two["gradients"]) < 1e-6


def test_the_reference_run_learns(learn):
    (alone,) = learn()
    assert alone["losses"][-1] < alone["losses"][0] - 0.5


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_two_ranks_with_half_batches_are_one_rank_with_whole_ones(learn, stage):
    (alone,) = learn()
    ranks = learn(2, engine=EngineConfig(zero_stage=stage))
    for rank in ranks:
        assert_same_training(alone, rank)
        # Adam's first step is nearly the sign of the gradient; where that is rounding noise the weights may part.
        step = np.abs(alone["first"] - rank["first"])
        assert np.mean(step > 1e-5) < 0.01 and step.max() <= 2.1 * 3e-3
    assert np.array_equal(ranks[0]["last"], ranks[1]["last"]), "fault 3: all ranks hold the same parameters"
    assert ranks[0]["losses"] == ranks[1]["losses"], "and report the same loss"


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_accumulation_is_the_large_batch(learn, stage):
    (alone,) = learn()
    (accumulated,) = learn(1, micro_batch_size=3, engine=EngineConfig(zero_stage=stage))
    assert_same_training(alone, accumulated)


def test_two_ranks_that_accumulate(learn):
    (alone,) = learn()
    ranks = learn(2, micro_batch_size=2, engine=EngineConfig(zero_stage=2), steps=4)
    for rank in ranks:
        np.testing.assert_allclose(alone["losses"][:4], rank["losses"], rtol=0, atol=1e-5)
        assert gradient_error(alone["gradients"], rank["gradients"]) < 1e-6


def test_equals_plain_pytorch(learn, shard_folder, manifest, tokenizer, items, book_of):
    """The sum of -log p over the batch, divided by its number of target tokens, under decoupled AdamW."""
    from pretrain.config.prompt import PromptConfig
    from pretrain.config.run import ModelConfig
    from pretrain.data.batches import BatchMaker
    from pretrain.data.prompts import PromptBuilder
    from pretrain.model.t5 import build_model
    from pretrain.training.objectives import RecommenderObjective
    from shards.stream.stream import Stream

    model = build_model(ModelConfig(d_model=16, d_ff=32, num_layers=1, num_heads=2), tokenizer, 1)
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.3)
    stream = Stream(shard_folder, manifest, 0)
    maker = BatchMaker(PromptBuilder(tokenizer, PromptConfig()), book_of(), items, 24, 0)
    losses, gradients, norms = [], [], []
    for _, samples in stream.batches(stream.start(), 8):
        loss_sum, count = RecommenderObjective(model)(maker.recommender_batch(samples, 0))
        optimiser.zero_grad()
        (loss_sum / count).backward()
        found = [parameter.grad.numpy().copy() for parameter in model.parameters()]  # type: ignore[union-attr]
        norms.append(float(np.sqrt(sum((gradient.astype(np.float64) ** 2).sum() for gradient in found))))
        gradients = gradients or found
        optimiser.step()
        losses.append((loss_sum / count).item())
        if len(losses) == 8:
            break
    (engine,) = learn(1, steps=8, weight_decay=0.3)
    np.testing.assert_allclose(engine["losses"], losses, rtol=0, atol=1e-5)
    assert gradient_error(gradients, engine["gradients"]) < 1e-6
    assert engine["norms"] == pytest.approx(norms, rel=1e-3)


@pytest.mark.parametrize("kind", ["recommender", "generator"])
def test_dropout_knows_no_ranks(learn, kind):
    """A sample's mask is its own: ranks and micro-batches change nothing, another rate does."""
    (alone,), (none,) = learn(1, steps=4, kind=kind, dropout=0.2), learn(1, steps=4, kind=kind)
    for ranks in (learn(2, steps=4, kind=kind, dropout=0.2), learn(1, steps=4, kind=kind, dropout=0.2,
                                                                   micro_batch_size=3)):  # fmt: skip
        for rank in ranks:
            np.testing.assert_allclose(alone["losses"], rank["losses"], rtol=0, atol=1e-5)
            assert gradient_error(alone["gradients"], rank["gradients"]) < 1e-5
    assert np.abs(np.subtract(alone["losses"], none["losses"])).max() > 1e-3


@pytest.mark.parametrize("stage", [1, 3])
def test_activation_checkpointing_changes_no_gradient(learn, stage):
    (plain,) = learn(1, steps=4, dropout=0.2)
    (again,) = learn(1, steps=4, dropout=0.2, engine=EngineConfig(zero_stage=stage, activation_checkpointing=True))
    np.testing.assert_allclose(plain["losses"], again["losses"], rtol=0, atol=1e-5)
    assert gradient_error(plain["gradients"], again["gradients"]) < 1e-5


def test_compiled_models_learn_the_same(learn):
    """Traced as for any backend; inductor's code, which takes minutes to compile, is met in tests/soak."""
    (plain,) = learn(1, steps=2)
    (compiled,) = learn(1, steps=2, engine=EngineConfig(compile=True), backend="eager")
    np.testing.assert_allclose(plain["losses"], compiled["losses"], rtol=0, atol=1e-5)
    assert gradient_error(plain["gradients"], compiled["gradients"]) < 1e-5


@pytest.mark.parametrize("stage", [1, 3])
def test_a_generator_step_on_two_ranks(learn, stage):
    (alone,) = learn(1, steps=4, kind="generator")
    ranks = learn(2, steps=4, kind="generator", engine=EngineConfig(zero_stage=stage))
    for rank in ranks:
        np.testing.assert_allclose(alone["losses"], rank["losses"], rtol=0, atol=1e-5)
        assert gradient_error(alone["gradients"], rank["gradients"]) < 1e-5
    assert np.array_equal(ranks[0]["last"], ranks[1]["last"])
    assert not np.array_equal(alone["first"], alone["last"])
    assert min(np.abs(gradient).max() for gradient in alone["gradients"]) > 0, "every generator weight has a gradient"


def test_a_tiny_rate_moves_few_weights(learn):
    """Fault 13: at 1e-8 a float32 weight moves only where it is small."""
    (tiny,) = learn(1, steps=2, rate=1e-8, weight_decay=0.0)
    (normal,) = learn(1, steps=2, rate=1e-3)
    assert 0 < tiny["moved"] < 0.5 < 0.9 < normal["moved"] <= 1


def test_clipping_is_by_the_global_norm(learn):
    """A gradient cut below Adam's epsilon moves the weights little, and by the same on one rank and on two."""
    (alone,), ranks = (
        learn(1, steps=3, clip_norm=1e-8, weight_decay=0.0),
        learn(2, steps=3, clip_norm=1e-8, weight_decay=0.0),
    )
    (free,) = learn()
    moved = alone["last"] - alone["first"]
    assert 0 < np.abs(moved).max() < 3e-3 / 2 < np.abs(free["last"] - free["first"]).max()
    for rank in ranks:
        np.testing.assert_allclose(rank["last"] - rank["first"], moved, rtol=0, atol=0.02 * np.abs(moved).max())


def steps_with_fillers(world):
    import torch

    from pretrain.config.run import PretrainConfig
    from pretrain.data.batches import text_batch
    from pretrain.training.engine import Engine

    class Objective(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(2))

        def forward(self, batch):
            from pretrain.data.batches import IGNORED

            targets = (batch.labels_BT != IGNORED).sum()
            return self.weight.sum() * targets, targets

    objective = Objective()
    config = PretrainConfig("s", "o", batch_size=2 * world.size, micro_batch_size=2, weight_decay=0.0)
    engine = Engine(objective, config, world)
    real, filler = text_batch([[5, 1]], [[7]], 1), text_batch([[]], [[]], 1)
    first = engine.step([real if world.rank == 0 else filler], 0.1)
    after = objective.weight.detach().clone()
    second = engine.step([filler], 0.1)
    return (first.loss, first.num_targets, second.num_targets, after.tolist(), objective.weight.tolist())


def test_fillers_add_nothing(run_ranks):
    """One rank has a sample, the other none; then a batch of fillers alone (the tail of uneven lanes)."""
    for loss, count, none, after, end in run_ranks(steps_with_fillers, 2):
        assert (loss, count, none) == (2.0, 2, 0)
        assert after == pytest.approx([0.9, 0.9]) and end == after


def test_every_batch_must_divide_over_the_ranks():
    from pretrain.config.run import PretrainConfig

    with pytest.raises(ValueError, match="batch_size 9 is not divisible by 2 ranks"):
        PretrainConfig("s", "o", batch_size=9).micro_batches(2)
    assert torch.get_num_threads() == 1
