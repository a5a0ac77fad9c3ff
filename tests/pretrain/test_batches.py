"""Batches: IDs of the book given now, the target in the labels alone, templates by counters, padding without loss."""

import dataclasses

import numpy as np
import pytest
import torch

from pretrain.config.prompt import PromptConfig
from pretrain.data.batches import IGNORED, BatchMaker, TextBatch, pad_rows, text_batch
from pretrain.data.prompts import PromptBuilder
from pretrain.model.t5 import frozen_copy
from pretrain.training.objectives import GeneratorObjective, RecommenderObjective
from shards.records import Sample

EOS = 1


@pytest.fixture(scope="module")
def maker_of(tokenizer, items):
    def make(book, seed=0, history_dropout=0.0, **prompt):
        return BatchMaker(PromptBuilder(tokenizer, PromptConfig(**prompt)), book, items, 20, seed, history_dropout)

    return make


@pytest.fixture(scope="module")
def maker(maker_of, book_of):
    return maker_of(book_of())


@pytest.fixture(scope="module")
def samples(items):
    draw = np.random.default_rng(2)
    made = []
    for number in range(7):
        rows = draw.integers(0, len(items), size=3 + number).astype(np.int32)
        made.append(Sample(f"Garden/{number:09d}", len(rows) - 1, rows[:-1], int(rows[-1]), number))
    return made


def row_of(batch, index):
    """Input tokens of one row, without padding."""
    return batch.input_ids_BS[index][batch.mask_BS[index].bool()].tolist()


def test_labels_are_the_targets_book_tokens_and_eos(maker, samples):
    batch = maker.recommender_batch([*samples, None], epoch=0)
    for sample, labels in zip(samples, batch.labels_BT.tolist(), strict=False):
        ids = maker.book.token_ids[sample.target].tolist()
        assert labels == [*ids, EOS] + [IGNORED] * (len(labels) - len(ids) - 1)
    assert set(batch.labels_BT[-1].tolist()) == {IGNORED}, "a filler has no target"
    expected = sum(len(maker.book.token_ids[sample.target]) + 1 for sample in samples)
    assert batch.num_targets == expected == int((batch.labels_BT != IGNORED).sum())
    assert batch.input_ids_BS.shape[1] % 8 == batch.labels_BT.shape[1] % 8 == 0
    assert maker.generator_batch([*samples, None], epoch=0).num_targets == expected


@pytest.mark.parametrize("kind", ["recommender_batch", "generator_batch"])
def test_no_input_knows_its_target(maker, samples, items, kind):
    """Fault 1: with other targets every input stays as it is."""
    others = [dataclasses.replace(sample, target=(sample.target + 5) % len(items)) for sample in samples]
    one, two = getattr(maker, kind)(samples, 3), getattr(maker, kind)(others, 3)
    prompts = (one.prompt, two.prompt) if kind == "generator_batch" else (one, two)
    assert torch.equal(prompts[0].input_ids_BS, prompts[1].input_ids_BS)
    assert torch.equal(prompts[0].mask_BS, prompts[1].mask_BS)
    assert not torch.equal(prompts[0].labels_BT, prompts[1].labels_BT)
    if kind == "generator_batch":
        for name in ("item_ids_IU", "item_mask_IU", "id_labels_IT", "slot_BS"):
            assert torch.equal(getattr(one, name), getattr(two, name)), name


def test_a_share_of_the_histories_is_left_out_by_sample_and_epoch(maker_of, book_of, samples):
    whole, some = maker_of(book_of()), maker_of(book_of(), history_dropout=0.3)
    many = [dataclasses.replace(samples[-1], key=f"Garden/{number:09d}") for number in range(400)]
    nothing = {
        tuple(whole.prompts.build([], template).tokens_S.tolist()) for template in range(len(whole.prompts.segments))
    }

    def left_out(epoch, order):
        batch = some.recommender_batch([many[number] for number in order], epoch)
        plain = whole.recommender_batch([many[number] for number in order], epoch)
        assert torch.equal(batch.labels_BT, plain.labels_BT) and torch.equal(batch.keys_B, plain.keys_B)
        found = set()
        for place, number in enumerate(order):
            if row_of(batch, place) != row_of(plain, place):
                assert tuple(row_of(batch, place)) in nothing
                found.add(number)
        return found

    numbers = list(range(400))
    first = left_out(1, numbers)
    assert 0.2 < len(first) / 400 < 0.4
    assert left_out(1, numbers[::-1]) == first != left_out(2, numbers), "other ones in another epoch"
    old, new = (maker.generator_batch(many[:50], 1).prompt.input_ids_BS for maker in (whole, some))
    assert torch.equal(old, new), "a generator learns from histories"


def test_the_template_is_a_function_of_seed_epoch_and_sample(maker, maker_of, samples):
    together = maker.recommender_batch(samples, epoch=1)
    order = [4, 0, 6, 2]
    part = maker.recommender_batch([samples[n] for n in order] + [None], epoch=1)
    for place, number in enumerate(order):
        alone = maker.recommender_batch([samples[number]], epoch=1)
        assert row_of(together, number) == row_of(part, place) == row_of(alone, 0)

    def templates(maker, epoch):
        return [maker._template(sample, epoch) for sample in samples]

    chosen = [templates(maker, epoch) for epoch in range(30)]
    assert {template for row in chosen for template in row} == set(range(10))
    assert chosen[0] != chosen[1] and chosen[0] != templates(maker_of(maker.book, seed=9), 0)
    moved = dataclasses.replace(samples[0], slot=99)
    assert all(maker._template(moved, epoch) == chosen[epoch][0] for epoch in range(30)), "not of the slot"
    longer = dataclasses.replace(samples[0], prefix_end=samples[0].prefix_end + 1)
    assert any(maker._template(longer, epoch) != chosen[epoch][0] for epoch in range(30))
    for row, (sample, template) in enumerate(zip(samples, templates(maker, 1), strict=True)):
        history = [maker.book.token_ids[item] for item in sample.history]
        assert row_of(together, row) == maker.prompts.build(history, template).tokens_S.tolist()


def test_slots_point_at_the_id_token_that_stands_there(maker_of, book_of, samples):
    maker = maker_of(book_of(), max_tokens=48, max_history=5)
    batch = maker.generator_batch([samples[5], None, *samples[:3], samples[6]], epoch=2)
    assert batch.slot_BS.shape == batch.prompt.input_ids_BS.shape
    flat = batch.id_labels_IT.flatten()
    at = batch.slot_BS >= 0
    assert torch.equal(flat[batch.slot_BS[at]], batch.prompt.input_ids_BS[at]), "the very token of the prompt"
    assert bool((batch.prompt.mask_BS[at] == 1).all()) and not at[1].any()
    for row, sample in ((0, samples[5]), (2, samples[0]), (5, samples[6])):
        history = [maker.book.token_ids[item] for item in sample.history]
        prompt = maker.prompts.build(history, maker._template(sample, 2))
        assert at[row].sum() == (prompt.item_S >= 0).sum(), "every ID token is replaced"


def test_items_are_encoded_once_each_and_only_those_that_stand_in_a_prompt(maker_of, book_of, samples, items):
    maker = maker_of(book_of(), max_history=2)
    chosen = [samples[3], samples[3], samples[6]]
    batch = maker.generator_batch(chosen, epoch=0)
    rows = sorted({int(row) for sample in chosen for row in sample.history[-2:]})
    assert len(batch.item_ids_IU) == len(rows)
    rows = sorted(rows, key=lambda row: min(len(items.tokens(row)) + 1, maker.item_text_tokens))
    for index, row in enumerate(rows):
        text = batch.item_ids_IU[index][batch.item_mask_IU[index].bool()].tolist()
        assert text == [*items.tokens(row)[:19].tolist(), EOS], "the text is cut at 20 tokens, EOS included"
        ids = batch.id_labels_IT[index]
        assert ids[ids != IGNORED].tolist() == maker.book.token_ids[row].tolist()
    assert batch.item_ids_IU.shape[1] % 8 == 0


def test_parts_hold_every_item_with_all_of_its_text(maker_of, book_of, items):
    maker = maker_of(book_of(), max_history=30)
    everything = np.arange(len(items), dtype=np.int32)
    samples = [Sample("Garden/000000001", 20, part[:-1], int(part[-1]), 0) for part in np.array_split(everything, 2)]
    batch = maker.generator_batch(samples * 6, epoch=0)
    lengths = batch.item_mask_IU.sum(1).tolist()
    assert lengths == sorted(lengths) and len(batch.parts) == 3
    assert [at for at, _, _ in batch.parts] == [0, *(end for _, end, _ in batch.parts[:-1])]
    assert batch.parts[-1][1] == len(lengths)
    for at, end, width in batch.parts:
        assert width % 8 == 0 and lengths[end - 1] <= width < lengths[end - 1] + 8 and end > at


def test_as_many_parts_on_every_rank(maker_of, book_of):
    """ZeRO stage 3 gathers weights in every call: the number of calls must not depend on which items a rank has."""
    maker = maker_of(book_of())
    one = Sample("Garden/000000001", 3, np.array([4], dtype=np.int32), 5, 0)
    for samples in ([one] * 12, [None] * 12, [one] + [None] * 11):
        batch = maker.generator_batch(samples, epoch=0)
        assert len(batch.parts) == 3 and all(end > first for first, end, _ in batch.parts)
        written = (batch.id_labels_IT != IGNORED).any(1)
        assert int(written.sum()) == (samples[0] is not None), "what fills up has no ID"
        for place in batch.slot_BS[batch.slot_BS >= 0].tolist():
            assert written[place // batch.id_labels_IT.shape[1]]


def test_a_new_book_is_in_the_next_batch(maker_of, book_of, samples, items):
    """Fault 7: nothing of the old book is left, in prompts, labels and soft ID slots."""
    old, new = book_of(), book_of([f"frost {row}" for row in range(len(items))])
    before, after = maker_of(old).generator_batch(samples, 0), maker_of(new).generator_batch(samples, 0)
    assert not torch.equal(before.id_labels_IT, after.id_labels_IT)
    written = {tuple(ids.tolist()) for ids in new.token_ids}
    for ids in after.id_labels_IT:
        assert tuple(ids[ids != IGNORED].tolist()) in written
    for labels in after.prompt.labels_BT:
        assert tuple(labels[labels != IGNORED].tolist()[:-1]) in written
    at = after.slot_BS >= 0
    assert torch.equal(after.id_labels_IT.flatten()[after.slot_BS[at]], after.prompt.input_ids_BS[at])


def pad(batch, width, length):
    """The batch with more columns of padding."""
    inputs = torch.nn.functional.pad(batch.input_ids_BS, (0, width))
    mask = torch.nn.functional.pad(batch.mask_BS, (0, width))
    return TextBatch(inputs, mask, torch.nn.functional.pad(batch.labels_BT, (0, length), value=IGNORED))


def test_padding_and_fillers_carry_no_loss(maker, samples, small_model):
    """Fault 6."""
    objective = RecommenderObjective(small_model(1))
    batch = maker.recommender_batch(samples, 0)
    loss, count = objective(batch)
    filled = maker.recommender_batch([None, *samples, None], 0)
    for other in (pad(batch, 16, 0), pad(batch, 0, 24), pad(batch, 8, 8), filled):
        again, same = objective(other)
        assert same == count == batch.num_targets
        torch.testing.assert_close(again, loss, rtol=1e-5, atol=0)
    alone = sum(objective(maker.recommender_batch([sample], 0))[0] for sample in samples)
    torch.testing.assert_close(alone, loss, rtol=1e-5, atol=0)
    nothing, zero = objective(maker.recommender_batch([None, None], 0))
    assert nothing == 0 and zero == 0


def test_a_generator_batch_of_fillers_is_worth_nothing(maker, samples, small_model):
    objective = GeneratorObjective(small_model(1), frozen_copy(small_model(2)))
    nothing, zero = objective(maker.generator_batch([None, None], 0))
    assert nothing.item() == 0 and zero.item() == 0
    nothing.backward()
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in objective.parameters())
    with torch.no_grad():
        loss, count = objective(maker.generator_batch(samples, 0))
        again, same = objective(maker.generator_batch([None, *samples], 0))
    assert same == count > 0
    torch.testing.assert_close(again, loss, rtol=1e-5, atol=0)


def test_histories_of_texts_hold_the_items_texts_and_targets_stay_ids(maker_of, book_of, samples, items, tokenizer):
    maker = maker_of(book_of(), history="texts", item_tokens=6, max_tokens=64)
    batch, with_ids = maker.recommender_batch(samples, epoch=1), maker_of(book_of()).recommender_batch(samples, epoch=1)
    assert torch.equal(batch.labels_BT, with_ids.labels_BT)
    some_cut = False
    for row, sample in enumerate(samples):
        before, after = maker.prompts.segments[maker._template(sample, 1)]
        texts = [items.tokens(item)[:6].tolist() for item in sample.history]
        room = 64 - len(before) - len(after) - 1
        while sum(map(len, texts)) + (len(texts) - 1) * len(maker.prompts.separator) > room:
            texts, some_cut = texts[1:], True
        told = [token for text in texts for token in (*maker.prompts.separator, *text)][len(maker.prompts.separator) :]
        assert row_of(batch, row) == [*before, *told, *after, EOS] and len(texts) > 0
    assert some_cut, "whole oldest items are dropped"
    other = maker_of(book_of([f"frost {row}" for row in range(len(items))]), history="texts", item_tokens=6)
    assert row_of(other.recommender_batch(samples[:1], 1), 0) == row_of(batch, 0), "no ID stands in a prompt"
    with pytest.raises(AssertionError, match="soft IDs"):
        maker.generator_batch(samples, epoch=1)


def test_pad_rows_and_text_batch():
    assert pad_rows([[1, 2], []], -1, 4).tolist() == [[1, 2, -1, -1], [-1] * 4]
    assert pad_rows([[]], 0).shape == (1, 8) and pad_rows([[1] * 9], 0).shape == (1, 16)
    batch = text_batch([[7, EOS], []], [[3, 4], []], EOS)
    assert batch.input_ids_BS[:, :2].tolist() == [[7, EOS], [0, 0]]
    assert batch.mask_BS.sum(1).tolist() == [2, 1], "a filler keeps one position, or attention would be NaN"
    assert batch.labels_BT.tolist() == [[3, 4, EOS] + [IGNORED] * 5, [IGNORED] * 8]
    assert batch.keys_B is None and batch.to(torch.device("cpu")).keys_B is None
    keyed = text_batch([[7, EOS], []], [[3], []], EOS, [-(1 << 63), 5]).to(torch.device("cpu"))
    assert keyed.keys_B is not None and keyed.keys_B.tolist() == [-(1 << 63), 5]
