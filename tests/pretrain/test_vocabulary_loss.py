"""The chunked ways through the vocabulary: the plain formulas' values and gradients, and no large array kept."""

import pytest
import torch
from torch.nn import functional as F

from pretrain.data.batches import TextBatch
from pretrain.model import vocabulary_loss
from pretrain.training.objectives import RecommenderObjective


@pytest.fixture(params=[1 << 9, 1 << 12, 16 << 20], ids=["one row", "few rows", "all rows"])
def chunked(request, monkeypatch):
    """Chunks of one row (at a vocabulary of 97 a row has 388 bytes), of ten, of all."""
    monkeypatch.setitem(vocabulary_loss.CHUNK_BYTES, "cpu", request.param)


def tensors(rows=23, vocab=97, width=12, other=7, dtype=torch.float64):
    draw = torch.Generator().manual_seed(0)
    make = lambda *shape: torch.randn(*shape, generator=draw, dtype=dtype)  # noqa: E731
    return make(rows, width).requires_grad_(), make(vocab, width).requires_grad_(), make(vocab, other)


def gradients(loss, *inputs):
    return torch.autograd.grad(loss, inputs)


@pytest.mark.usefixtures("chunked")
def test_cross_entropy_and_its_gradient():
    hidden, head, _ = tensors()
    labels = torch.randint(0, 97, (23,), generator=torch.Generator().manual_seed(1))
    labels[::5] = vocabulary_loss.IGNORED
    ours, number = vocabulary_loss.cross_entropy(hidden, head, labels)
    plain = F.cross_entropy(hidden @ head.T, labels, ignore_index=vocabulary_loss.IGNORED, reduction="sum")
    assert number == (labels != vocabulary_loss.IGNORED).sum() == 18
    torch.testing.assert_close(ours, plain)
    for our, theirs in zip(*(gradients(total * 3, hidden, head) for total in (ours, plain)), strict=True):
        torch.testing.assert_close(our, theirs)


@pytest.mark.usefixtures("chunked")
def test_expected_embeddings_and_their_gradient():
    hidden, head, embedding = tensors()
    ours = vocabulary_loss.expected_embeddings(hidden, head, embedding)
    plain = torch.softmax(hidden @ head.T, dim=-1) @ embedding
    torch.testing.assert_close(ours, plain)
    weight = torch.randn(plain.shape, generator=torch.Generator().manual_seed(2), dtype=plain.dtype)
    sums = [(found * weight).sum() for found in (ours, plain)]
    for our, theirs in zip(*(gradients(total, hidden, head) for total in sums), strict=True):
        torch.testing.assert_close(our, theirs)
    hidden, head, embedding = tensors(rows=11, width=4)  # it asks once for each number
    assert torch.autograd.gradcheck(lambda h, w: vocabulary_loss.expected_embeddings(h, w, embedding), (hidden, head))


def test_a_frozen_head_gets_no_gradient():
    hidden, head, embedding = tensors()
    vocabulary_loss.expected_embeddings(hidden, head.detach(), embedding).sum().backward()
    vocabulary_loss.cross_entropy(hidden, head.detach(), torch.zeros(23, dtype=torch.long))[0].backward()
    assert hidden.grad is not None and head.grad is None


def test_no_labels_at_all():
    hidden, head, _ = tensors()
    loss, number = vocabulary_loss.cross_entropy(hidden, head, torch.full((23,), vocabulary_loss.IGNORED))
    loss.backward()
    assert loss == 0 and number == 0
    assert hidden.grad is not None and not hidden.grad.any() and head.grad is not None and not head.grad.any()


def test_half_precision_sums_in_float32():
    hidden, head, embedding = tensors(rows=64, vocab=512, dtype=torch.float32)
    labels = torch.arange(64)
    exact = F.cross_entropy(hidden @ head.T, labels, reduction="sum")
    half, half_head = hidden.detach().bfloat16(), head.detach().bfloat16()
    loss, _ = vocabulary_loss.cross_entropy(half, half_head, labels)
    assert loss.dtype == torch.float32 and abs(loss - exact) < 0.02 * exact
    assert vocabulary_loss.expected_embeddings(half, half_head, embedding.bfloat16()).dtype == torch.bfloat16


@pytest.mark.parametrize("which", ["cross entropy", "expected embeddings"])
def test_nothing_of_rows_times_vocabulary_is_kept(which, monkeypatch):
    """What autograd keeps between forward and backward, in bytes, is far below one array of logits."""
    monkeypatch.setitem(vocabulary_loss.CHUNK_BYTES, "cpu", 1 << 16)
    hidden, head, embedding = tensors(rows=512, vocab=2048, dtype=torch.float32)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor) or tensor, lambda tensor: tensor):
        if which == "cross entropy":
            vocabulary_loss.cross_entropy(hidden, head, torch.zeros(512, dtype=torch.long))
        else:
            vocabulary_loss.expected_embeddings(hidden, head, embedding)
    inputs = sum(tensor.nbytes for tensor in (hidden, head, embedding))
    assert 0 < sum(tensor.nbytes for tensor in kept) < inputs * 2 < 512 * 2048 * 4 / 4


@pytest.mark.parametrize("tied", [True, False])
def test_the_objective_is_the_models_own_loss(random_t5, padded, tied):
    """Hugging Face's mean loss times the number of labels, for T5 v1.0 (tied, scaled) and v1.1 heads."""
    model = random_t5(tied=tied)
    ids, mask = padded([[5, 9, 11, 1], [7, 1]])
    labels, _ = padded([[4, 8, 1], [6, 1]])
    labels[labels == 0] = vocabulary_loss.IGNORED
    loss, number = RecommenderObjective(model)(TextBatch(ids, mask, labels))
    theirs = model(input_ids=ids, attention_mask=mask, labels=labels).loss * 5
    assert number == 5
    torch.testing.assert_close(loss, theirs)
    names, parameters = zip(*model.named_parameters(), strict=True)
    ours = torch.autograd.grad(loss, parameters, allow_unused=True)
    for name, our, their in zip(names, ours, torch.autograd.grad(theirs, parameters, allow_unused=True), strict=True):
        torch.testing.assert_close(our, their, msg=name, rtol=1e-4, atol=1e-5)
