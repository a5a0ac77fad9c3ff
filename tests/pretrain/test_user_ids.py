"""Users' IDs: what the generator writes greedily of a history's texts, canonical, and never of anything else."""

import numpy as np
import pytest
import torch

from pretrain.config.prompt import PromptConfig
from pretrain.data.batches import BatchMaker
from pretrain.data.prompts import PromptBuilder
from pretrain.data.user_ids import UserIds
from pretrain.decoding.config import SearchConfig
from pretrain.ids.book import canonical
from pretrain.ids.writer import vocabulary_masks
from pretrain.ranking.generate import GenerativeRecommender
from shards.records import Sample

EOS, NOTHING = 1, np.zeros(0, dtype=np.int32)


@pytest.fixture(scope="module")
def users_of(small_model, tokenizer, items):
    def make(seed=7, rows_per_call=4, **prompt):
        return UserIds(small_model(seed), tokenizer, items, PromptConfig(user_id="with-items", **prompt), rows_per_call)

    return make


@pytest.fixture(scope="module")
def histories(items):
    draw = np.random.default_rng(1)
    return [draw.integers(0, len(items), size=1 + number % 6).astype(np.int32) for number in range(11)]


def test_ids_are_written_greedily_word_by_word_from_the_texts_of_the_history(
    users_of, small_model, tokenizer, histories
):
    """Against the plainest loop: one history, the whole model for every token."""
    users, model = users_of(rows_per_call=1, user_tokens=6), small_model(7).eval()
    word_start_V, barred_V = vocabulary_masks(tokenizer, model)
    written = users.write(histories)
    for history, found in zip(histories, written, strict=True):
        text, tokens = torch.tensor([users.text_of(history)]), [0]
        while len(tokens) < 8 and tokens[-1] != EOS:
            with torch.no_grad():
                logits_V = model(input_ids=text, decoder_input_ids=torch.tensor([tokens])).logits[0, -1]
            logits_V[barred_V] = -torch.inf
            logits_V[EOS] = -torch.inf if len(tokens) == 1 else logits_V[EOS]
            tokens.append(int(logits_V.argmax()))
        tokens = tokens[1:]
        if tokens[-1] == EOS:
            tokens = tokens[:-1]
        else:  # the last token tells where the last whole word ends
            tokens = tokens[: max((at for at, token in enumerate(tokens) if word_start_V[token]), default=0)]
        [expected] = canonical(tokenizer, [tokenizer.decode(tokens)])[1]
        assert found.tolist() == list(expected)
    assert any(len(found) for found in written)


def test_the_generator_reads_the_newest_texts_whole(users_of, items, tokenizer):
    users, history = users_of(item_tokens=5, max_history=3, max_tokens=80), np.arange(6, dtype=np.int32)
    semicolon = tokenizer(";", add_special_tokens=False)["input_ids"]
    texts = [items.tokens(row)[:5].tolist() for row in history]
    assert users.text_of(history) == [*texts[3], *semicolon, *texts[4], *semicolon, *texts[5], EOS]
    short = users_of(item_tokens=30, max_tokens=50).text_of(history)
    assert short == [*items.tokens(5)[:30].tolist(), EOS], "what has no room goes whole"


def test_an_id_is_canonical_bounded_and_empty_for_nobody(users_of, tokenizer, histories):
    users = users_of(user_tokens=5)
    found = users.write([*histories[:3], NOTHING, *histories[3:]])
    assert len(found[3]) == 0 and sum(len(ids) > 0 for ids in found) > 5
    for ids in found:
        assert len(ids) <= 5 and not set(ids.tolist()) & {0, EOS, 2}
    ember = tokenizer("ember ember ember", add_special_tokens=False)["input_ids"]
    assert len(ember) > 5 and len(ember) % 3 == 0
    whole = users._bounded(ember).tolist()
    assert (
        whole == ember[: len(ember) // 3 * (5 // (len(ember) // 3))] and users._bounded(ember[:5]).tolist() == ember[:5]
    )
    again = users.write([*histories[:3], NOTHING, *histories[3:]])
    assert all(map(np.array_equal, found, again))
    assert users_of(8).identity() != users.identity() == users_of(user_tokens=5).identity()


@pytest.mark.parametrize("template", range(10))
def test_the_users_id_stands_first_in_every_prompt(tokenizer, template):
    history, user = [np.array([40, 41]), np.array([42])], np.array([50, 51])
    builder = PromptBuilder(tokenizer, PromptConfig(user_id="with-items"))
    plain, named = builder.build(history, template), builder.build(history, template, user)
    before, after = (tokenizer(words, add_special_tokens=False)["input_ids"] for words in ("user", ":"))
    assert named.tokens_S.tolist() == [*before, 50, 51, *after, *plain.tokens_S.tolist()]
    assert named.item_S.tolist() == [-1] * (len(before) + 2 + len(after)) + plain.item_S.tolist()
    assert builder.build(history, template, NOTHING).tokens_S.tolist() == plain.tokens_S.tolist()
    alone = PromptBuilder(tokenizer, PromptConfig(user_id="alone")).build(history, template, user)
    nothing = builder.build([], template)
    assert alone.tokens_S.tolist() == [*before, 50, 51, *after, *nothing.tokens_S.tolist()]
    assert set(alone.item_S.tolist()) == {-1}


def test_a_prompt_without_room_for_the_user_is_refused(tokenizer):
    with pytest.raises(ValueError, match="prompt.max_tokens is 60; the templates alone need"):
        PromptBuilder(tokenizer, PromptConfig(max_tokens=60, user_id="with-items", user_tokens=50))
    with pytest.raises(ValueError, match=r"prompt\.user_tokens is 0"):
        PromptConfig(user_tokens=0)


@pytest.mark.parametrize("kind", ["recommender_batch", "generator_batch"])
def test_batches_name_the_user_by_what_was_bought_before_the_target(
    users_of, tokenizer, items, book_of, histories, kind
):
    """Fault 1 of the reference: a user's ID that has seen the target."""
    users, prompt = users_of(), PromptConfig(user_id="with-items")
    maker = BatchMaker(PromptBuilder(tokenizer, prompt), book_of(), items, 20, 0, user_ids=users.write)
    samples = [
        Sample(f"Garden/{number:09d}", len(history), history, 3 + number, number)
        for number, history in enumerate(histories)
    ]
    batch = getattr(maker, kind)([*samples, None], 0)
    inputs = getattr(batch, "prompt", batch)
    for row, user in enumerate(users.write(histories)):
        before = maker.prompts.user[0]
        tokens = inputs.input_ids_BS[row][inputs.mask_BS[row].bool()].tolist()
        assert not len(user) or tokens[: len(before) + len(user)] == [*before, *user.tolist()]
        if kind == "generator_batch":  # soft IDs still stand where the items' IDs do
            slots_S, width = batch.slot_BS[row].tolist(), batch.id_labels_IT.shape[1]
            for token, slot in zip(tokens, slots_S, strict=False):
                assert slot < 0 or batch.id_labels_IT[slot // width, slot % width] == token
            assert any(slot >= 0 for slot in slots_S)


def test_lists_are_searched_with_users_named_and_the_prior_with_nobody(
    small_model, tokenizer, items, book_of, histories
):
    ids, search = book_of().token_ids, SearchConfig(8, prior_weight=0.3)
    named_by = PromptConfig(user_id="with-items")

    def make(generator, prompt=named_by):
        return GenerativeRecommender(
            "tiny", small_model(3), tokenizer, ids, prompt, search, 4, items=items, generator=generator
        )

    named = make(small_model(7))
    users = UserIds(small_model(7), tokenizer, items, named_by, 4).write(histories)
    for tokens, user, history in zip(named.inputs(histories), users, histories, strict=True):
        expected = named.prompts.build([ids[row] for row in history], 0, user)
        assert tokens.tolist() == expected.tokens_S.tolist()
    calls: list[int] = []
    assert named.user_ids is not None
    write = named.user_ids.write

    def counted(histories):
        calls.append(len(histories))
        return write(histories)

    named.user_ids.write = counted  # type: ignore[method-assign]
    named.rank(histories[:4])
    named.rank(histories[:3], ("new",))
    assert calls == [4, 3], "both protocols name the same users"
    plain = make(None, PromptConfig())
    assert named.trie.weight_X is not None and plain.trie.weight_X is not None
    assert torch.equal(named.trie.weight_X, plain.trie.weight_X), "nobody has no ID"
    lists = [model.rank(histories, ("all",))["all"].scores_NK for model in (named, make(small_model(8)), plain)]
    assert not np.allclose(lists[0], lists[1]) and not np.allclose(lists[0], lists[2])
    assert len({named.identity(), make(small_model(8)).identity(), plain.identity()}) == 3
    with pytest.raises(AssertionError, match="written by the generator"):
        make(None)
