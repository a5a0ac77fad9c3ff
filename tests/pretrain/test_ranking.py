"""Ranked lists of histories: the target is no argument, blocks and order change nothing; users are shared out."""

import dataclasses

import numpy as np
import pytest

from pretrain.config.prompt import PromptConfig
from pretrain.decoding.config import SearchConfig
from pretrain.ranking.generate import GenerativeRecommender


@pytest.fixture(scope="module")
def recommender(small_model, tokenizer, book_of):
    def make(batch_size, beam=8, **more):
        ids = book_of().token_ids[:20]
        search = SearchConfig(beam, more.pop("list_length", None))
        return GenerativeRecommender("tiny", small_model(3), tokenizer, ids, PromptConfig(), search, batch_size, **more)

    return make


def test_lists_do_not_depend_on_blocks(recommender):
    draw = np.random.default_rng(0)
    histories = [draw.integers(0, 20, size=size) for size in (1, 9, 2, 5, 3, 12, 1)]
    one, two = (recommender(size).rank(histories, exclude_history=False) for size in (1, 4))
    np.testing.assert_allclose(one.scores_NK, two.scores_NK, atol=1e-4)
    assert np.mean(one.items_NK == two.items_NK) > 0.95
    backwards = recommender(4).rank(histories[::-1], exclude_history=False)
    np.testing.assert_allclose(backwards.scores_NK[::-1], one.scores_NK, atol=1e-4)
    assert len({tuple(row) for row in one.items_NK.tolist()}) > 1, "the lists depend on the history"


def test_the_history_can_be_left_out(recommender):
    histories = [np.array([3, 5, 3]), np.array([0]), np.arange(20)]
    lists = recommender(2, beam=20).rank(histories, exclude_history=True)
    for history, items in zip(histories, lists.items_NK, strict=True):
        listed = items[items >= 0]
        assert set(listed) == set(range(20)) - set(history.tolist())
    whole = recommender(2, beam=20).rank(histories, exclude_history=False)
    assert all(set(items) == set(range(20)) for items in whole.items_NK)


def test_who_never_repeats_has_the_same_lists_under_both_protocols(recommender):
    histories = [np.array([0, 3]), np.array([5]), np.array([1, 2, 7])]
    asked, never = recommender(2), recommender(2, never_repeat=True)
    new = asked.rank(histories, exclude_history=True)
    for exclude in (False, True, True, False):
        ranking = never.rank(histories, exclude_history=exclude)
        assert np.array_equal(ranking.items_NK, new.items_NK) and np.array_equal(ranking.scores_NK, new.scores_NK)
    other = never.rank(histories[:2], exclude_history=False)
    assert np.array_equal(other.items_NK, asked.rank(histories[:2], True).items_NK)
    assert never.identity() != asked.identity()


def test_lists_are_searched_once_for_both_protocols_and_anew_when_asked_again(recommender):
    histories, calls = [np.array([0, 3])], []
    never = recommender(2, never_repeat=True, progress=calls.append)
    for exclude in (False, True):
        never.rank(histories, exclude_history=exclude)
    assert len(calls) == 1
    never.rank(histories, exclude_history=False)
    assert len(calls) == 2


def test_a_shorter_list_is_the_beginning_of_a_longer_one(recommender):
    histories = [np.array([3, 5, 3]), np.array([0]), np.arange(20)]
    longer, shorter = (recommender(2, list_length=length).rank(histories, False) for length in (None, 3))
    assert shorter.items_NK.shape == (3, 3)
    np.testing.assert_allclose(shorter.scores_NK, longer.scores_NK[:, :3], atol=1e-5)


def by_item(lists):
    """Scores of full lists in the order of the items."""
    assert lists.items_NK is not None
    return np.take_along_axis(lists.scores_NK, np.argsort(lists.items_NK), 1)


class Favourite:
    """The first item of the history is worth much."""

    def __call__(self, histories):
        worth_NI = np.zeros((len(histories), 20), dtype=np.float32)
        worth_NI[np.arange(len(histories)), [history[0] for history in histories]] = 500.0
        return worth_NI

    def identity(self):
        return "favourite"


def test_a_share_of_the_prior_is_taken_off_and_worth_is_added(small_model, tokenizer, book_of, recommender):
    histories = [np.array([3, 5, 3]), np.array([0])]
    ids, last = book_of().token_ids[:20], np.array([19, 18])

    def scores(weight, **more):
        search = SearchConfig(20, prior_weight=weight)
        model = GenerativeRecommender("tiny", small_model(3), tokenizer, ids, PromptConfig(), search, **more)
        lists = model.rank(histories, exclude_history=False)
        return by_item(lists), model.identity()

    plain_NI, plain = scores(0.0)
    less_NI, less = scores(0.4)
    prior_I = GenerativeRecommender("tiny", small_model(3), tokenizer, ids, PromptConfig(), SearchConfig(20)).rank(
        [np.zeros(0, dtype=np.int64)], exclude_history=False
    )
    prior_I = by_item(prior_I)[0]
    np.testing.assert_allclose(less_NI, plain_NI - 0.4 * prior_I, atol=1e-4)
    assert np.ptp(prior_I) > 0.1, "the prior is not the same for all"
    worth_NI, worth = scores(0.4, worth=Favourite())
    np.testing.assert_allclose(worth_NI - less_NI, Favourite()(histories), atol=1e-3)
    assert len({plain, less, worth}) == 3, "each is another recommender to the blocks that are kept"
    narrow = recommender(2, beam=1, worth=Favourite()).rank([last, last[::-1]], exclude_history=False)
    assert narrow.items_NK[:, 0].tolist() == [19, 18]


def test_only_candidates_are_listed_and_they_compete_among_themselves(recommender):
    candidates = np.array([1, 4, 7, 15])
    histories = [np.array([4, 5, 3]), np.array([0])]
    lists = recommender(2, beam=6, candidates=candidates).rank(histories, exclude_history=False)
    assert all(set(row[:4]) == set(candidates) and set(row[4:]) == {-1} for row in lists.items_NK.tolist())
    without = recommender(2, beam=6, candidates=candidates).rank(histories, exclude_history=True)
    assert set(without.items_NK[0]) == {1, 7, 15, -1} and set(without.items_NK[1]) == {1, 4, 7, 15, -1}


def test_histories_of_texts_are_ranked_by_texts_and_lists_hold_items(small_model, tokenizer, book_of, items):
    ids, prompt = book_of().token_ids, PromptConfig(history="texts", item_tokens=4)
    histories = [np.array([3, 5, 3]), np.array([0]), np.arange(20)]

    def rank(token_ids, table):
        search = SearchConfig(len(ids))
        model = GenerativeRecommender("tiny", small_model(3), tokenizer, token_ids, prompt, search, items=table)
        inputs = [model.prompts.build([model.told[row] for row in history], 0).tokens_S for history in histories]
        lists = model.rank(histories, exclude_history=False)
        assert lists.items_NK is not None and (np.sort(lists.items_NK) == np.arange(len(ids))).all()
        return np.take_along_axis(lists.scores_NK, np.argsort(lists.items_NK), 1), inputs

    scores_NI, inputs = rank(ids, items)
    for history, tokens in zip(histories, inputs, strict=True):
        text = items.tokens(history[-1])[:4].tolist()
        assert any(tokens[at : at + len(text)].tolist() == text for at in range(len(tokens)))
    backwards_NI, same = rank(ids[::-1], items)
    assert all(np.array_equal(a, b) for a, b in zip(inputs, same, strict=True)), "prompts do not hold IDs"
    np.testing.assert_allclose(backwards_NI, scores_NI[:, ::-1], atol=1e-4)
    with pytest.raises(AssertionError, match="catalogue"):
        GenerativeRecommender("tiny", small_model(3), tokenizer, ids, prompt, SearchConfig(2))


def validate_on_ranks(world, config):
    from pathlib import Path

    import numpy as np

    import pretrain.training.validation as validation
    from pretrain.ids.book import Book, canonical
    from pretrain.model.t5 import build_model
    from shards.manifest import Manifest
    from shards.tables import load_items
    from shards.tokenizer import load_tokenizer

    validation.BLOCK = {"cpu": 2}
    ranked = []
    rank = validation.GenerativeRecommender.rank

    def listen(self, histories, exclude_history):
        ranked.extend((self.name, tuple(history.tolist())) for history in histories)
        return rank(self, histories, exclude_history)

    validation.GenerativeRecommender.rank = listen  # type: ignore[method-assign]
    manifest, tokenizer = Manifest.load(config.shards), load_tokenizer(Path(config.shards) / "tokenizer")
    items = load_items(config.shards, manifest)
    normal, encoded = canonical(tokenizer, [f"frost {row}" for row in range(len(items))])
    zeros = np.zeros(len(items), dtype=np.int32)
    book = Book(items.items, normal, [np.array(ids) for ids in encoded], zeros, zeros, zeros.astype(bool), "g", "t")
    model = build_model(config.recommender, tokenizer, 3)
    return validation.validate(model, tokenizer, book, manifest, config, world), ranked


def test_every_user_is_validated_once_whatever_the_ranks(run_ranks, train_config):
    config = dataclasses.replace(train_config("validated"), search=SearchConfig(beam=10, prior_weight=0.3))
    [(alone, users)] = run_ranks(validate_on_ranks, 1, config)
    shared = run_ranks(validate_on_ranks, 2, config)
    assert len(users) == 8 and {name for name, _ in users} == {"Garden", "Kitchen"}
    assert sorted(users) == sorted(user for _, mine in shared for user in mine), "each once (fault 8)"
    assert all(mine for _, mine in shared)
    for metrics, _ in shared:
        assert metrics == pytest.approx(alone)
    assert 0 < alone["HR@10"] <= 1
