"""Candidate lists are pure: the same bits whoever else is in the call, read again or kept, first attempt or later."""

import dataclasses
import itertools

import numpy as np
import pytest
import torch

from benchmarks.ids import ties
from pretrain.config.ids import IdConfig
from pretrain.ids.blocks import Block, deal, lay_out, next_blocks, rows_of_call
from pretrain.ids.writer import Writer

CONFIG = IdConfig(groups=3, tier_tokens=4, max_tiers=2, item_text_tokens=80, block_size=8)


@pytest.fixture(scope="module")
def generator(tokenizer):
    """Two layers, 32 wide, and a head with opinions, so that rounding has something to do."""
    from pretrain.config.run import ModelConfig
    from pretrain.model.t5 import build_model

    model = build_model(ModelConfig(d_model=32, d_ff=64, num_layers=2, num_heads=2), tokenizer, 3)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "Attention" in name:
                parameter *= 2.0
    return model


@pytest.fixture(scope="module")
def catalogue(table, items):
    """96 items of three widths: texts of the marketplace, cut, whole and twice."""
    texts = [text * (1 + row % 3) if row % 4 else text[:30] for row, text in enumerate(items.texts[:46] + items.texts)]
    return table(texts)


@pytest.fixture
def writer_of(generator, tokenizer, catalogue):
    def make(attempt=0, items=catalogue, **changes):
        config = dataclasses.replace(CONFIG, **changes)
        return Writer(generator, tokenizer, items, lay_out(items, config), config, lambda _: attempt)

    return make


def scores(writer, block):
    """Row -> bits of tokens and scores."""
    found = writer.search(block)
    return {
        int(row): (found.tokens_BGKT[i].numpy().tobytes(), found.scores_BGK[i].numpy().tobytes())
        for i, row in enumerate(block.rows_B)
        if row >= 0
    }


@pytest.mark.slow
@pytest.mark.parametrize("attempt", [0, 1, 12])
def test_whoever_else_is_in_the_call(writer_of, catalogue, attempt):
    """All items together, each alone, and random company with items of other blocks at their own rows."""
    writer = writer_of(attempt)
    calls = next_blocks(range(len(catalogue)), lambda _: attempt, writer.layout, CONFIG)
    assert len({block.width for block in calls}) == 3
    together = {row: bits for block in calls for row, bits in scores(writer, block).items()}
    assert len(together) == len(catalogue)
    draw = np.random.default_rng(0)
    for block in calls:
        size = len(block.rows_B)
        for slot in draw.permutation(np.flatnonzero(block.rows_B >= 0))[:3]:
            alone = np.where(np.arange(size) == slot, block.rows_B, -1)
            mixed = block.rows_B.copy()
            for other in range(size):
                same_slot = [b.rows_B[other] for b in calls if b.width == block.width]
                mixed[other] = draw.choice([*same_slot, -1]) if other != slot else mixed[slot]
            for rows_B in (alone, mixed):
                writer.keep_only([])
                found = scores(writer, Block(rows_B, block.width, block.tier))
                assert all(together[row] == bits for row, bits in found.items())


def test_kept_or_read_again(writer_of):
    """The encoder's output of an item is the same whether it was kept from the first call or is made for the retry."""
    first, later = writer_of(0), writer_of(1)
    blocks = next_blocks(range(len(first.items)), lambda _: 1, first.layout, CONFIG)
    read_again = {}
    for block in blocks:
        later.keep_only([])
        read_again |= scores(later, block)
    for block in next_blocks(range(len(first.items)), lambda _: 0, first.layout, CONFIG):
        first.write(block)
    later.encoded, later.cache_bytes = first.encoded, first.cache_bytes
    assert len(first.encoded) == len(first.items) and first.cache_bytes > 0
    kept = {row: bits for block in blocks for row, bits in scores(later, block).items()}
    assert kept == read_again
    later.keep_only([3, 5])
    assert set(later.encoded) == {3, 5} and later.cache_bytes == sum(states.nbytes for states in later.encoded.values())


def test_what_is_kept_stays_below_its_limit(writer_of):
    writer = writer_of(encoder_cache_gb=2e-5)
    for block in next_blocks(range(len(writer.items)), lambda _: 0, writer.layout, CONFIG):
        writer.write(block)
    assert 0 < writer.cache_bytes <= 2e4 and 0 < len(writer.encoded) < len(writer.items)
    assert writer.cache_bytes == sum(states.nbytes for states in writer.encoded.values())


def test_items_added_at_the_end_change_no_call(catalogue):
    shorter = catalogue.take(range(70))
    whole, part = lay_out(catalogue, CONFIG), lay_out(shorter, CONFIG)
    assert np.array_equal(whole.place_N[:70], part.place_N) and np.array_equal(whole.width_N[:70], part.width_N)


def test_every_item_is_in_one_call_at_its_own_row(catalogue):
    layout = lay_out(catalogue, CONFIG)
    assert set(layout.width_N.tolist()) == {32, 64, 96} and (layout.width_N % 32 == 0).all()
    rows = [row for row in range(len(catalogue)) if row % 5]
    for attempt in (0, 1, 15):
        calls = next_blocks(rows, dict.fromkeys(rows, attempt).__getitem__, layout, CONFIG)
        size = rows_of_call(attempt, CONFIG)
        assert sorted(int(row) for block in calls for row in block.rows_B if row >= 0) == rows
        for block in calls:
            assert len(block.rows_B) == size and block.tier == attempt // CONFIG.num_penalties
            for slot, row in enumerate(block.rows_B.tolist()):
                assert row < 0 or (layout.place_N[row] % size == slot and layout.width_N[row] == block.width)
    everyone = next_blocks(range(len(catalogue)), lambda _: 0, layout, CONFIG)
    assert [block.width for block in everyone] == sorted((block.width for block in everyone), reverse=True)
    assert sum((block.rows_B < 0).any() for block in everyone) <= 3, "first calls are full but for the last of a width"


def test_first_attempts_come_before_later_ones_and_suffixes_need_no_call(catalogue):
    layout = lay_out(catalogue, CONFIG)
    tries = {0: 0, 1: 3, 2: 14, 3: 0, 4: CONFIG.num_attempts}
    calls = next_blocks(tries, tries.__getitem__, layout, CONFIG)
    order = [(int(row), block.tier) for block in calls for row in block.rows_B if row >= 0]
    assert {row for row, _ in order[:2]} == {0, 3} and order[2:] == [(1, 0), (2, 1)]


def test_ranks_get_whole_blocks_of_like_width(catalogue):
    layout, rows = lay_out(catalogue, CONFIG), np.arange(len(catalogue))
    for ranks in (1, 2, 3, 8, 40):
        home_N = deal(layout, rows, ranks, CONFIG)
        keys = list(zip(layout.width_N.tolist(), (layout.place_N // CONFIG.block_size).tolist(), strict=True))
        homes = {key: {int(home_N[row]) for row in rows if keys[row] == key} for key in keys}
        assert all(len(home) == 1 for home in homes.values()), "a block has one home"
        counts = np.bincount([home for (home,) in homes.values()], minlength=ranks)
        assert counts.max() - counts.min() <= 1
        widths = [sum(width for (width, _), (home,) in homes.items() if home == rank) for rank in range(ranks)]
        assert max(widths) - min(widths) <= 96
    some = deal(layout, rows[::2], 2, CONFIG)
    assert (some[1::2] == -1).all() and set(some[::2].tolist()) == {0, 1}
    assert deal(layout, rows[:0], 2, CONFIG).tolist() == [-1] * len(catalogue)


def test_one_at_a_time_differs_by_ties_only(generator, tokenizer, catalogue):
    single = dataclasses.replace(CONFIG, block_size=1)
    calls = list(ties.compare(generator, tokenizer, catalogue, CONFIG, single, range(len(catalogue))))
    assert sum(num_items for num_items, _ in calls) == len(catalogue)
    gaps = [value for _, found in calls for value in found]
    assert all(value < ties.TIE for value in gaps) and len(gaps) <= 5


def test_the_gap_of_what_is_no_tie(generator, tokenizer, catalogue):
    """The measure itself: where another token was taken on purpose, it is as wide as the scores are apart."""
    items = catalogue.take(range(8))
    layout = lay_out(items, CONFIG)
    writer = Writer(generator, tokenizer, items, layout, CONFIG, lambda _: 0)
    found = ties.sequences(writer, range(8), layout, CONFIG)
    other = found[2].copy()
    group, step = 1, 1
    other[group, step] = next(t for t in itertools.count(5) if t != other[group, step])
    assert ties.gap(generator, catalogue.tokens(2), found[2], other, 0.1) > ties.TIE
