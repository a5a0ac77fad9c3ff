"""The generator's loss: one-hot soft IDs are the discrete ones, weights are probabilities, one model is frozen."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from pretrain.config.prompt import PromptConfig
from pretrain.config.soft_ids import SoftIdConfig
from pretrain.data.batches import IGNORED, BatchMaker
from pretrain.data.prompts import PromptBuilder
from pretrain.model import vocabulary_loss
from pretrain.model.soft_ids import insert, soft_ids
from pretrain.model.t5 import content_hash, frozen_copy
from pretrain.model.vocabulary_loss import expected_embeddings
from pretrain.training.objectives import GeneratorObjective, RecommenderObjective
from shards.records import Sample


@pytest.fixture(scope="module")
def batch(tokenizer, items, book_of):
    maker = BatchMaker(PromptBuilder(tokenizer, PromptConfig(max_tokens=64)), book_of(), items, 24, 0)
    draw = np.random.default_rng(4)
    rows = [draw.integers(0, len(items), size=size).astype(np.int32) for size in (2, 5, 9, 3)]
    samples = [Sample(f"Garden/{n:09d}", len(row) - 1, row[:-1], int(row[-1]), n) for n, row in enumerate(rows)]
    return maker.generator_batch([*samples, None], epoch=0)


@pytest.fixture
def objective(small_model):
    return GeneratorObjective(small_model(5), frozen_copy(small_model(6)))


def test_one_hot_soft_ids_give_the_discrete_loss(batch, objective):
    recommender = objective.recommender
    labels_M = batch.id_labels_IT.clamp(min=0).flatten()
    one_hot = torch.nn.functional.one_hot(labels_M, recommender.config.vocab_size).float() * 1e4
    identity, embedding = torch.eye(one_hot.shape[1]), recommender.shared.weight
    with torch.no_grad():
        weights = expected_embeddings(one_hot, identity, embedding)
        soft, count = objective.loss_from_embeddings(batch, weights)
        hard, same = RecommenderObjective(recommender)(batch.prompt)
        other, _ = objective.loss_from_embeddings(batch, weights.roll(batch.id_labels_IT.shape[1], dims=0))
    assert count == same == batch.num_targets
    torch.testing.assert_close(soft, hard, rtol=1e-5, atol=1e-5)
    assert abs(other - hard) > 1e-2, "other IDs give another loss"


def test_weights_are_probabilities():
    """Fault 5: with log-probabilities the soft tokens would come out thousands of times too long."""
    draw = torch.Generator().manual_seed(0)
    embedding = torch.randn(50, 8, generator=draw)
    logits, identity = torch.randn(18, 50, generator=draw) * 5, torch.eye(50)
    soft = expected_embeddings(logits, identity, embedding)
    assert soft.shape == (18, 8) and soft.norm(dim=-1).max() <= embedding.norm(dim=-1).max()
    expected = (logits.exp() / logits.exp().sum(-1, keepdim=True))[..., None] * embedding
    torch.testing.assert_close(soft, expected.sum(-2), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(expected_embeddings(logits + 7, identity, embedding), soft, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(expected_embeddings(torch.zeros(1, 50), identity, embedding)[0], embedding.mean(0))


def test_insert_replaces_the_slots_and_nothing_else():
    prompt, soft = torch.zeros(2, 3, 4), torch.arange(24.0).view(6, 4)
    slots = torch.tensor([[-1, 4, -1], [0, -1, 5]])
    out = insert(prompt, soft, slots)
    assert torch.equal(out[0, 1], soft[4]) and torch.equal(out[1, 0], soft[0]) and torch.equal(out[1, 2], soft[5])
    assert not out[0, [0, 2]].any() and not out[1, 1].any()


def test_the_soft_path_is_the_generators_distribution_over_the_current_ids(batch, objective):
    """Teacher-forced on the book's IDs: the forward pass is the loss from the logits at those labels."""
    labels = batch.id_labels_IT
    with torch.no_grad():
        logits = objective.model(
            input_ids=batch.item_ids_IU,
            attention_mask=batch.item_mask_IU,
            decoder_input_ids=torch.cat([torch.zeros_like(labels[:, :1]), labels[:, :-1].clamp(min=0)], dim=1),
        ).logits
        weights = torch.softmax(logits, dim=-1).flatten(0, 1)
        expected, _ = objective.loss_from_embeddings(batch, weights @ objective.recommender.shared.weight)
        found, count = objective(batch)
    assert count == int((batch.prompt.labels_BT != IGNORED).sum())
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=0)


def test_the_gradient_reaches_all_of_the_generator_and_none_of_the_recommender(batch, objective):
    before = content_hash(objective.recommender)
    loss, _ = objective(batch)
    loss.backward()
    missing = [name for name, p in objective.model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert missing == []
    assert all(parameter.grad is None for parameter in objective.recommender.parameters())
    assert content_hash(objective.recommender) == before


def test_the_recommender_is_no_part_of_the_module(objective):
    owned = {id(parameter) for parameter in objective.parameters()}
    assert owned == {id(parameter) for parameter in objective.model.parameters()}
    assert all(name.startswith("model.") for name in objective.state_dict())
    objective.train()
    assert not objective.recommender.training and objective.model.training


def tensors(rows=23, vocab=97, width=12, other=7):
    draw = torch.Generator().manual_seed(0)
    make = lambda *shape: torch.randn(*shape, generator=draw, dtype=torch.float64)  # noqa: E731
    labels = torch.randint(0, vocab, (rows,), generator=draw)
    return make(rows, width).requires_grad_(), make(vocab, width).requires_grad_(), make(vocab, other), labels


def value_and_gradients(soft, *inputs):
    weight = torch.randn(soft.shape, generator=torch.Generator().manual_seed(2), dtype=soft.dtype)
    return soft.detach(), *torch.autograd.grad((soft * weight).sum(), inputs)


def assert_equal(one, other):
    for a, b in zip(one, other, strict=True):
        torch.testing.assert_close(a, b)


@pytest.fixture(params=[1 << 9, 1 << 12, 16 << 20], ids=["one row", "few rows", "all rows"])
def chunked(request, monkeypatch):
    monkeypatch.setitem(vocabulary_loss.CHUNK_BYTES, "cpu", request.param)


@pytest.mark.usefixtures("chunked")
@pytest.mark.parametrize("k", [1, 5, 97])
def test_top_k_is_the_softmax_over_the_largest_logits(k):
    hidden, head, embedding, labels = tensors()
    found = soft_ids(hidden, head, embedding, labels, SoftIdConfig(top_k=k))
    top, tokens = (hidden @ head.T).topk(k)
    plain = (torch.softmax(top, -1)[..., None] * embedding[tokens]).sum(1)
    ours = value_and_gradients(found, hidden, head)
    assert_equal(ours, value_and_gradients(plain, hidden, head))
    if k == 97:
        assert_equal(ours, value_and_gradients(expected_embeddings(hidden, head, embedding), hidden, head))
    soft_ids(hidden, head.detach(), embedding, labels, SoftIdConfig(top_k=k)).sum().backward()
    assert hidden.grad is not None and head.grad is None


def test_top_k_comes_nearer_to_the_whole_softmax_as_k_grows():
    hidden, head, embedding, labels = tensors()
    whole = value_and_gradients(expected_embeddings(hidden, head, embedding), hidden)
    distances = []
    for k in (2, 8, 32, 96):
        some = value_and_gradients(soft_ids(hidden, head, embedding, labels, SoftIdConfig(top_k=k)), hidden)
        distances.append([float((a - b).norm() / b.norm()) for a, b in zip(some, whole, strict=True)])
    assert distances == sorted(distances, reverse=True)
    assert all(one > two for first, second in pairwise(distances) for one, two in zip(first, second, strict=True))
    assert distances[0][0] > 0.05 and max(distances[-1]) < 0.01


@pytest.mark.parametrize("k", [None, 5])
@pytest.mark.parametrize("temperature", [0.5, 3.0])
def test_temperature_divides_the_logits(temperature, k):
    hidden, head, embedding, labels = tensors()
    found = soft_ids(hidden, head, embedding, labels, SoftIdConfig(temperature, top_k=k))
    top, tokens = (hidden @ head.T / temperature).topk(k or 97)
    plain = (torch.softmax(top, -1)[..., None] * embedding[tokens]).sum(1)
    assert_equal(value_and_gradients(found, hidden, head), value_and_gradients(plain, hidden, head))


@pytest.mark.parametrize("rest", [{}, {"temperature": 0.7}, {"top_k": 5}])
def test_straight_through_is_the_assigned_token_forward_and_the_soft_one_backward(rest):
    hidden, head, embedding, labels = tensors()
    value, *gradients = value_and_gradients(
        soft_ids(hidden, head, embedding, labels, SoftIdConfig(straight_through=True, **rest)), hidden, head
    )
    assert torch.equal(value, embedding[labels])
    soft = soft_ids(hidden, head, embedding, labels, SoftIdConfig(**rest))
    assert_equal(gradients, value_and_gradients(soft, hidden, head)[1:])


def test_straight_through_has_the_discrete_loss_and_teaches_the_whole_generator(batch, small_model):
    recommender = frozen_copy(small_model(6))
    objective = GeneratorObjective(small_model(5), recommender, SoftIdConfig(straight_through=True))
    loss, count = objective(batch)
    hard, same = RecommenderObjective(recommender)(batch.prompt)
    assert count == same
    torch.testing.assert_close(loss, hard, rtol=1e-6, atol=0)
    soft, _ = GeneratorObjective(small_model(5), recommender)(batch)
    assert abs(soft / hard - 1) > 1e-4
    loss.backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in objective.model.parameters())


def test_the_objective_takes_the_options(batch, small_model):
    def loss(**options):
        with torch.no_grad():
            return GeneratorObjective(small_model(5), frozen_copy(small_model(6)), SoftIdConfig(**options))(batch)[0]

    plain, vocab = loss(), small_model(5).config.vocab_size
    assert torch.equal(loss(temperature=1.0), plain)
    torch.testing.assert_close(loss(top_k=vocab), plain, rtol=1e-6, atol=0)
    assert len({loss(**options).item() for options in ({}, {"temperature": 0.3}, {"top_k": 3})}) == 3
    with pytest.raises(ValueError, match=f"soft_ids.top_k is {vocab + 1}; the vocabulary has {vocab} tokens"):
        loss(top_k=vocab + 1)


def test_only_a_frozen_recommender_is_taken(small_model):
    with pytest.raises(AssertionError):
        GeneratorObjective(small_model(1), small_model(2))
    with pytest.raises(AssertionError):
        GeneratorObjective(small_model(1), frozen_copy(small_model(2)).train())
