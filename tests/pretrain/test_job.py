"""The ID job: Algorithm 1 over ranks, whatever the texts and the generator are like."""

import dataclasses

import numpy as np
import pytest
import torch

from pretrain.config.ids import IdConfig
from pretrain.decoding.diverse import Diverse
from pretrain.ids import blocks, writer
from pretrain.ids.assign import candidate_of, sequential
from pretrain.ids.blocks import attempt_of
from pretrain.ids.book import canonical
from pretrain.ids.job import make_book
from pretrain.ids.writer import Writer, cut_to_word, vocabulary_masks
from pretrain.model.t5 import content_hash
from pretrain.runtime.world import World
from shards.tokenizer import fingerprint

ALONE = World(0, 1, torch.device("cpu"))
SMALL = IdConfig(groups=3, penalty_max=0.2, tier_tokens=3, max_tiers=2, item_text_tokens=24, block_size=4)


@pytest.fixture
def scripted(monkeypatch, tokenizer, table, small_model):
    """`scripted(lists, texts)`: the book made from these candidate texts per row, in place of what a generator writes.

    Every attempt of a row brings the next part of its list: (attempt number) -> candidates.
    """

    def run(lists, config=SMALL, texts=None, **more):
        encoded = [[list(map(candidate_of, canonical(tokenizer, part)[1])) for part in parts] for parts in lists]

        def written(writer, block):
            tries = [(int(row), writer.attempts(int(row))) for row in block.rows_B if row >= 0]
            return [(row, list(encoded[row][n]) if n < len(encoded[row]) else []) for row, n in tries]

        monkeypatch.setattr(Writer, "write", written)
        items = table(texts or [f"title: thing {row}" for row in range(len(lists))])
        return make_book(small_model(0), tokenizer, items, config, ALONE, **more)

    return run


def spread(model):
    """A random generator whose output depends more on the item: some collisions, some items for every tier."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "EncDecAttention" in name:
                parameter *= 2.0
    return model


def check(book, items, tokenizer):
    book.verify(tokenizer)
    assert book.items == items.items and len(book) == len(items)
    keys = {tuple(ids.tolist()) for ids in book.token_ids}
    assert len(keys) == len(items), "unique"
    assert all(len(key) and tokenizer.unk_token_id not in key and tokenizer.eos_token_id not in key for key in keys)
    texts, again = canonical(tokenizer, tokenizer.batch_decode([ids.tolist() for ids in book.token_ids]))
    assert texts == book.texts and [tuple(ids.tolist()) for ids in book.token_ids] == again, "round trip"


def test_a_real_generators_book_is_sound(small_model, tokenizer, items):
    generator = spread(small_model(2)).train()
    book, report = make_book(generator, tokenizer, items, dataclasses.replace(SMALL, block_size=16), ALONE)
    check(book, items, tokenizer)
    assert (book.attempt == 0).any() and (book.tier > 0).any() and not book.suffixed.all()
    assert generator.training, "the generator is left as it was"
    assert report.decodes_by_rank[0] >= len(items) and report.waves >= 1
    shortest = [SMALL.tier_range(int(tier))[0] for tier in book.tier]
    longest = [SMALL.tier_range(int(tier))[1] for tier in book.tier]
    for ids, low, high, suffixed in zip(book.token_ids, shortest, longest, book.suffixed, strict=True):
        assert suffixed or low <= len(ids) <= high + 1  # spelling the words canonically can move the count a little


def test_fifty_times_the_same_text(small_model, tokenizer, table):
    items = table(["title: ember oak planter; brand: norvik"] * 50)
    book, _ = make_book(spread(small_model(2)), tokenizer, items, dataclasses.replace(SMALL, block_size=25), ALONE)
    check(book, items, tokenizer)
    assert not book.suffixed[0] and book.suffixed[-1]
    base = book.texts[0]
    numbers = [text for text, suffixed in zip(book.texts, book.suffixed, strict=True) if suffixed]
    assert numbers == [f"{base} {number}" for number in range(2, 2 + len(numbers))], "by row, from 2 on"


def test_an_item_without_text(small_model, tokenizer, table):
    items = table(["", "title: oak", ""])
    assert len(items.tokens(0)) == 0
    book, _ = make_book(small_model(1), tokenizer, items, SMALL, ALONE)
    check(book, items, tokenizer)


def test_a_generator_that_only_ends(monkeypatch, small_model, tokenizer, table):
    """Nothing but EOS in any tier: the suffixed forms of the item's first words, or of "item" where it has none."""

    def only_eos(decoder, state, penalty_B, config):
        shape = (len(penalty_B), config.groups, 1, config.longest + 1)
        return Diverse(torch.full(shape, config.eos), torch.zeros(shape[:3]))

    monkeypatch.setattr(writer, "diverse_search", only_eos)
    items = table(["title: ember oak", "", "title: ember oak", "", "日本"])
    book, report = make_book(small_model(0), tokenizer, items, SMALL, ALONE)
    check(book, items, tokenizer)
    assert book.texts == ["title ember oak 2", "item 2", "title ember oak 3", "item 3", "item 4"]
    assert book.suffixed.all() and report.waves == SMALL.max_tiers * SMALL.num_penalties + 1


@pytest.mark.slow
def test_a_thousand_times_the_same_text(scripted):
    """One text, one list: the first takes the first candidate, the others what is left, then numbers, without end."""
    book, report = scripted([[["oak"], ["oak moss", "moss"]]] * 1000)
    assert book.texts[:3] == ["oak", "oak moss", "moss"]
    assert book.texts[3:] == [f"oak {number}" for number in range(2, 999)]
    assert book.attempt[:4].tolist() == [0, 1, 1, SMALL.num_attempts]
    assert report.waves < SMALL.num_attempts * 250 + 20 and report.collisions > 400_000


def test_a_generator_that_always_says_the_same(monkeypatch, small_model, tokenizer, table, items):
    """One ID for everything, whatever is read and whatever the penalty: all but the first get a number."""
    (same,) = canonical(tokenizer, ["ember oak"])[1]

    def always(decoder, state, penalty_B, config):
        shape = (len(penalty_B), config.groups, 1, config.longest + 1)
        tokens = torch.full(shape, config.eos)
        tokens[..., : len(same)] = torch.tensor(same)
        return Diverse(tokens, torch.zeros(shape[:3]))

    monkeypatch.setattr(writer, "diverse_search", always)
    config = dataclasses.replace(SMALL, tier_tokens=len(same) + 1)
    book, report = make_book(small_model(0), tokenizer, items, config, ALONE)
    check(book, items, tokenizer)
    assert book.texts == ["ember oak", *(f"ember oak {number}" for number in range(2, len(items) + 1))]
    assert sum(report.decodes_by_rank) == 1 + (len(items) - 1) * config.num_attempts
    assert book.suffixed[1:].all() and (book.attempt[1:] == config.num_attempts).all()


def test_a_text_of_one_token(small_model, tokenizer, table):
    items = table(["oak", "moss", "a"])
    assert min(len(items.tokens(row)) for row in range(3)) == 1
    book, _ = make_book(small_model(1), tokenizer, items, SMALL, ALONE)
    check(book, items, tokenizer)


def test_numbers_follow_the_first_words_also_beyond_one_attempt(scripted, monkeypatch):
    """Where nothing was written, later suffixes do not grow on the first ones ("oak 2 2")."""
    monkeypatch.setattr(blocks, "SUFFIXES_PER_ATTEMPT", 2)
    monkeypatch.setattr(writer, "SUFFIXES_PER_ATTEMPT", 2)
    book, _ = scripted([[]] * 7, texts=["oak"] * 7)
    assert book.texts == [f"oak {number}" for number in range(2, 9)]


def test_a_tokenizer_without_digits_is_refused(scripted, monkeypatch, tokenizer):
    """One clear line instead of a loop without end."""
    unknown = [(tokenizer.unk_token_id,)] * 64
    monkeypatch.setattr(writer, "canonical", lambda _, texts: (texts, unknown))
    with pytest.raises(ValueError, match=r"item i1 needs a number in its ID \('oak 2'\).*no pieces for digits"):
        scripted([[["oak"]], [["oak"]]])


def test_an_empty_catalogue(small_model, tokenizer, table):
    book, report = make_book(small_model(1), tokenizer, table([]), SMALL, ALONE)
    assert len(book) == 0 and report.waves == 0


def test_extending_a_book_gives_what_building_it_anew_gives(small_model, tokenizer, items, tmp_path):
    """Old items keep their IDs; appended ones get those of a new book of everything, and hear who was before them."""
    config = dataclasses.replace(SMALL, block_size=8)
    generator = spread(small_model(2))
    whole, _ = make_book(generator, tokenizer, items, config, ALONE)
    old_items = items.take(range(30))
    old, _ = make_book(generator, tokenizer, old_items, config, ALONE)
    extended, report = make_book(generator, tokenizer, items, config, ALONE, old=old)
    whole.save(tmp_path / "whole")
    extended.save(tmp_path / "extended")
    assert (tmp_path / "whole").read_bytes() == (tmp_path / "extended").read_bytes()
    assert extended.texts[:30] == old.texts and sum(report.decodes_by_rank) < 3 * (len(items) - 30) * 2
    assert report.blocked and report.blocked == sorted(report.blocked, key=lambda entry: items.items.index(entry[0]))
    id_of = dict(zip(extended.items, extended.texts, strict=True))
    for item, wanted, holder in report.blocked:
        assert items.items.index(item) >= 30 and id_of[holder] == wanted and id_of[item] != wanted
        assert items.items.index(holder) < items.items.index(item)
    assert any(items.items.index(holder) < 30 for _, _, holder in report.blocked), "an old item was before a new one"


def test_new_items_in_the_middle_come_after_the_old_ones(scripted, small_model, tokenizer, book_of):
    """New items between old ones: whoever has an ID keeps it, and whoever left the catalogue still bars it."""
    old = dataclasses.replace(
        book_of(["oak", "moss", "ivy"], names=["i1", "i3", "gone"]),
        generator_hash=content_hash(small_model(0)), tokenizer_fingerprint=fingerprint(tokenizer),
        options=SMALL.options(),
    )  # fmt: skip
    book, report = scripted([[["oak", "fern"]], [["never"]], [["moss", "ivy", "frost"]], [["never"]]], old=old)
    assert book.texts == ["fern", "oak", "frost", "moss"]
    assert report.blocked == [("i0", "oak", "i1"), ("i2", "ivy", "gone"), ("i2", "moss", "i3")]
    assert report.decodes_by_rank == [2]


def test_what_cannot_be_extended(small_model, tokenizer, table):
    items = table(["title: oak"])
    old, _ = make_book(small_model(1), tokenizer, items, SMALL, ALONE)
    with pytest.raises(ValueError, match="made with another generator .*; give the same, or make a new book"):
        make_book(small_model(2), tokenizer, items, SMALL, ALONE, old=old)
    with pytest.raises(ValueError, match="made with other options"):
        make_book(small_model(1), tokenizer, items, dataclasses.replace(SMALL, groups=2), ALONE, old=old)
    free = dataclasses.replace(SMALL, blocks_per_wave=1, encoder_cache_gb=0.0)
    same, report = make_book(small_model(1), tokenizer, items, free, ALONE, old=old)
    assert same.texts == old.texts and report.decodes_by_rank == [0]


def test_earlier_rows_win_whatever_the_wave(scripted):
    book, report = scripted(
        [
            [["oak"]],
            [["oak", "moss"]],
            [["moss", "fern"]],
            [["fern"], ["frost"]],
            [["frost", "ice"]],
            [["oak"], ["moss"], ["fern"], ["ember"]],
        ]
    )
    # Row 3 comes to "frost" in the second wave, after row 4 took it, and still has the right to it.
    assert book.texts == ["oak", "moss", "fern", "frost", "ice", "ember"]
    assert book.attempt.tolist() == [0, 0, 0, 1, 0, 3] and book.tier.tolist() == [0, 0, 0, 0, 0, 1]
    assert not book.suffixed.any() and report.waves == 4 and report.collisions > 0


def test_a_suffix_that_is_another_items_id(scripted, tokenizer):
    book, _ = scripted([[["oak"]], [["oak"]], [["oak 2"]], [["oak 3", "ivy"]]])
    # The suffixed form is a candidate like any other, so the earlier row takes it.
    assert book.texts == ["oak", "oak 2", "oak 2 2", "oak 3"]
    assert book.suffixed.tolist() == [False, True, True, False]
    lists = [["oak"], ["oak", "oak 2"], ["oak 2", "oak 2 2"], ["oak 3", "ivy"]]
    expected = sequential([list(map(candidate_of, canonical(tokenizer, texts)[1])) for texts in lists])
    assert [texts[choice] for texts, choice in zip(lists, expected, strict=True) if choice is not None] == book.texts


def test_more_items_than_one_wave_of_suffixes(scripted, monkeypatch):
    monkeypatch.setattr(blocks, "SUFFIXES_PER_ATTEMPT", 3)
    monkeypatch.setattr(writer, "SUFFIXES_PER_ATTEMPT", 3)
    book, _ = scripted([[["oak"]]] * 9)
    assert book.texts == ["oak", *(f"oak {number}" for number in range(2, 10))]


def test_the_order_of_attempts():
    config = IdConfig()
    tried = [attempt_of(index, config) for index in range(32)]
    assert config.num_penalties == 10
    assert [attempt.penalty for attempt in tried[:10]] == [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]
    assert [attempt.penalty for attempt in tried[10:20]] == [attempt.penalty for attempt in tried[:10]], "lambda resets"
    assert [attempt.tier for attempt in tried[:30]] == [0] * 10 + [1] * 10 + [2] * 10
    assert [attempt.first_suffix for attempt in tried[:30]] == [None] * 30
    assert [attempt.first_suffix for attempt in tried[30:]] == [2, 2 + blocks.SUFFIXES_PER_ATTEMPT]
    assert [config.tier_range(tier) for tier in range(3)] == [(1, 9), (10, 19), (20, 29)]
    reference = IdConfig(groups=10, penalty_start=1.0, penalty_step=1.0, penalty_max=9.0)
    assert [attempt_of(index, reference).penalty for index in range(9)] == [float(n) for n in range(1, 10)]


@pytest.mark.parametrize(
    ("step", "tried"),
    [(0.35, [0.1, 0.45, 0.8, 1.0]), (0.4, [0.1, 0.5, 0.9, 1.0]), (0.3, [0.1, 0.4, 0.7, 1.0]), (5, [0.1, 1.0])],
)
def test_no_penalty_is_above_the_largest_and_that_one_is_tried(step, tried):
    config = IdConfig(penalty_step=step)
    count = config.num_penalties
    assert [attempt_of(index, config).penalty for index in range(2 * count)] == tried * 2
    assert attempt_of(count, config).tier == 1
    assert IdConfig(penalty_start=0.5, penalty_max=0.5).num_penalties == 1


def test_cut_to_word():
    eos, starts = 1, np.array([False, True, True, False, True])  # 1 is EOS, 2 and 4 start a word, 3 goes on with one
    assert cut_to_word(np.array([2, 3, 1, 1, 1]), eos, starts) == [2, 3]
    assert cut_to_word(np.array([2, 3, 4, 3, 1]), eos, starts) == [2, 3, 4, 3], "EOS as the last prediction: all stays"
    assert cut_to_word(np.array([2, 3, 4, 3, 3]), eos, starts) == [2, 3], "a word that does not end is dropped"
    assert cut_to_word(np.array([2, 3, 4, 3, 2]), eos, starts) == [2, 3, 4, 3], "the next piece starts a word"
    assert cut_to_word(np.array([2, 3, 3, 3, 3]), eos, starts) == []
    assert cut_to_word(np.array([3, 3, 3]), eos, starts) == []
    assert cut_to_word(np.array([1, 2, 3]), eos, starts) == []


def test_only_pieces_of_words_may_be_taken(small_model, tokenizer):
    generator = small_model(0)
    word_start, forbidden = vocabulary_masks(tokenizer, generator)
    pieces = tokenizer.get_vocab()
    assert len(word_start) == len(forbidden) == generator.config.vocab_size > len(tokenizer)
    assert not forbidden[1] and word_start[1]
    assert forbidden[0] and forbidden[2] and forbidden[pieces["<extra_id_0>"]] and forbidden[len(tokenizer) :].all()
    plain = [index for piece, index in pieces.items() if index not in tokenizer.all_special_ids]
    assert not forbidden[plain].any() and word_start[plain].any() and not word_start[plain].all()
