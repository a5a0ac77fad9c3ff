"""Blocks of users: the same whoever asks, kept whole or not at all, smaller where the memory ends."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from pretrain.config.prompt import PromptConfig
from pretrain.decoding.config import SearchConfig
from pretrain.ranking.generate import GenerativeRecommender
from pretrain.ranking.metrics import summary
from pretrain.runtime.world import World
from zeroshot.judge.judge import judge, judge_blocks
from zeroshot.judge.task_evaluator import judge_shared
from zeroshot.judge.user_blocks import Blocks, BlockStore, identity_of
from zeroshot.protocol.recommender import PROTOCOLS, ProtocolName, Resumable
from zeroshot.tasks.task import Task

NUM_USERS = 53


@pytest.fixture(scope="module")
def task(items):
    draw = np.random.default_rng(11)
    histories = [draw.integers(0, len(items), draw.integers(1, 16)) for _ in range(NUM_USERS)]
    histories[7] = histories[3].copy()  # two users with one history
    return Task(
        name="Toy",
        users=[f"u{number}" for number in range(NUM_USERS)],
        texts=items.texts,
        items=items.items,
        histories=histories,
        targets=draw.integers(0, len(items), NUM_USERS),
        training_histories=[history[:-1] for history in histories],
    )


@pytest.fixture(scope="module")
def model(small_model, tokenizer, book_of):
    def make(batch_size=4, seed=3, beam=10, ids=None, **more):
        ids = book_of().token_ids if ids is None else ids
        return GenerativeRecommender(
            "tiny", small_model(seed), tokenizer, ids, more.pop("prompt", PromptConfig()), SearchConfig(beam),
            batch_size, **more,
        )  # fmt: skip

    return make


def same(one, two):
    return all(np.array_equal(getattr(one, name), getattr(two, name)) for name in ("ranks_N", "top_NK", "scores_NK"))


def shuffled(task, seed):
    order = np.random.default_rng(seed).permutation(len(task.users))
    moved = replace(
        task,
        users=[task.users[row] for row in order],
        histories=[task.histories[row] for row in order],
        targets=task.targets[order],
    )
    return order, moved


@pytest.mark.parametrize("protocol", ["all", "new"])
def test_order_of_users_and_blocks_change_no_bit(task, model, protocol):
    recommender = model()
    found = judge(task, recommender, protocol, block=8)
    assert np.isfinite(found.ranks_N).any() and np.isinf(found.ranks_N).any()
    for block in (4, 20, 64):
        assert same(judge(task, recommender, protocol, block=block), found), block
    for seed in range(3):
        order, moved = shuffled(task, seed)
        assert same(judge(moved, recommender, protocol, block=8), found.take(order))


@pytest.mark.parametrize("ranks", [1, 2, 3, 7])
def test_the_number_of_ranks_changes_no_bit(task, model, ranks):
    recommender = model()
    blocks = Blocks.arrange(task, recommender, 8)
    parts = {}
    for rank in range(ranks):
        mine = range(rank, len(blocks), ranks)
        own = judge_blocks(task, model(), ("all",), blocks, mine)["all"]
        assert not set(own) & set(parts)
        parts |= own
    assert same(blocks.joined(parts), judge(task, recommender, "all", block=64))
    del parts[0]
    with pytest.raises(AssertionError, match="lost"):
        blocks.joined(parts)


def test_another_size_of_calls_moves_scores_by_rounding_and_no_rank(task, model):
    one = judge(task, model(batch_size=4), "all")
    for batch_size in (1, 3, 32):
        other = judge(task, model(batch_size=batch_size), "all")
        assert np.array_equal(one.ranks_N, other.ranks_N) and np.array_equal(one.top_NK, other.top_NK)
        np.testing.assert_allclose(other.scores_NK, one.scores_NK, atol=1e-5)
        assert summary(other.ranks_N) == summary(one.ranks_N)


def test_both_protocols_together_are_those_of_each_alone_and_inputs_are_read_once(task, model):
    recommender, world, seen = model(batch_size=32), World(0, 1, torch.device("cpu")), []
    encode = recommender.decoder.encode
    recommender.decoder.encode = lambda ids, mask: seen.append(len(ids)) or encode(ids, mask)
    said = []
    found = judge_shared(task, recommender, world, lambda done, total: said.append((done, total)))
    assert sorted(seen) == [NUM_USERS - 32, 32] and said[-1] == (2 * NUM_USERS, 2 * NUM_USERS)
    for protocol in ("all", "new"):
        assert same(found[protocol], judge(task, model(batch_size=32), protocol, block=32))


class Narrow:
    """A recommender that has memory for a few users at a time only, and keeps what it was asked."""

    name = "narrow"

    def __init__(self, inner, room, error):
        self.inner, self.room, self.error, self.asked = inner, room, error, []

    def rank(self, histories, protocols):
        if len(histories) > self.room:
            raise self.error
        self.asked += [history.tolist() for history in histories]
        return self.inner.rank(histories, protocols)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory: 9 bytes"),
    ],
)
def test_a_block_too_large_for_the_memory_is_asked_in_halves(task, model, error):
    notes, narrow = [], Narrow(model(batch_size=32), 3, error)
    blocks = Blocks.arrange(task, narrow, 16)
    found = blocks.joined(judge_blocks(task, narrow, ("all",), blocks, range(len(blocks)), note=notes.append)["all"])
    assert sorted(narrow.asked) == sorted(history.tolist() for history in task.histories), "each user once"
    whole = judge(task, narrow.inner, "all", block=16)
    assert np.array_equal(found.ranks_N, whole.ranks_N) and np.array_equal(found.top_NK, whole.top_NK)
    np.testing.assert_allclose(found.scores_NK, whole.scores_NK, atol=1e-5)
    assert any("16 users at once" in line for line in notes) and any("4 users at once" in line for line in notes)


def test_one_user_too_much_for_the_memory_is_named(task, model):
    with pytest.raises(ValueError, match=r"Toy: narrow runs out of memory for user u\d+ alone, .* search.beam"):
        judge(task, Narrow(model(), 0, MemoryError()), "all")
    with pytest.raises(RuntimeError, match="shape"):
        judge(task, Narrow(model(), 0, RuntimeError("a shape does not fit")), "all")


def test_kept_blocks_are_taken_over_and_damaged_ones_are_not(task, model, tmp_path):
    recommender = model()
    assert isinstance(recommender, Resumable)
    blocks = Blocks.arrange(task, recommender, 8)
    kept = BlockStore(tmp_path, identity_of(task, recommender.identity(), "all", blocks))
    first = judge_blocks(task, recommender, ("all",), blocks, [0, 2, 3], stores={"all": kept})["all"]
    assert sorted(file.name for file in kept.folder.iterdir()) == [f"block-{number:06d}" for number in (0, 2, 3)]
    damaged = kept.path(2).read_bytes()
    for broken in (damaged[:-1], damaged[:70] + bytes([damaged[70] ^ 1]) + damaged[71:], b""):
        kept.path(2).write_bytes(broken)
        assert kept.read(2) is None
    asked = Narrow(recommender, 64, MemoryError())
    again = judge_blocks(task, asked, ("all",), blocks, range(len(blocks)), stores={"all": kept})["all"]
    # Blocks 0 and 3 were there; 2 was damaged.
    assert len(asked.asked) == NUM_USERS - 16
    assert all(same(again[number], first[number]) for number in first)
    assert same(blocks.joined(again), judge(task, recommender, "all", block=8))
    assert kept.read(2) is not None and not list(kept.folder.glob(".*"))


def test_a_block_that_was_stored_under_one_protocol_is_judged_under_the_other_alone(task, model, tmp_path):
    recommender, asked = model(), []
    blocks = Blocks.arrange(task, recommender, 8)
    stores: dict[ProtocolName, BlockStore] = {
        protocol: BlockStore(tmp_path, identity_of(task, recommender.identity(), protocol, blocks))
        for protocol in PROTOCOLS
    }
    judge_blocks(task, recommender, ("all",), blocks, [0, 1], stores=stores)
    rank = recommender.rank
    recommender.rank = lambda histories, protocols: asked.append(list(protocols)) or rank(histories, protocols)
    found = judge_blocks(task, recommender, ("all", "new"), blocks, range(len(blocks)), stores=stores)
    assert asked == [["all", "new"]] * (len(blocks) - 2) + [["new"]] * 2
    for protocol in ("all", "new"):
        assert same(blocks.joined(found[protocol]), judge(task, model(), protocol, block=8))


def test_whatever_changes_has_another_identity(task, model, items, book_of):
    def of(task=task, size=8, protocol="all", **options):
        recommender = model(**options)
        return identity_of(task, recommender.identity(), protocol, Blocks.arrange(task, recommender, size))

    ids = book_of().token_ids
    swapped = [ids[1], ids[0], *ids[2:]]
    fewer = [history[1:] if len(history) > 1 else history for history in task.histories]
    texts = PromptConfig(history="texts", item_tokens=4)
    other_texts = replace(items, token_ids=items.token_ids[::-1].copy())
    torch.set_num_threads(1)
    found = {
        "as it is": of(),
        "block": of(size=4),
        "protocol": of(protocol="new"),
        "weights": of(seed=4),
        "beam": of(beam=11),
        "calls": of(batch_size=8),
        "IDs": of(ids=swapped),
        "prompt": of(prompt=PromptConfig(max_history=5)),
        "texts": of(prompt=texts, items=items),
        "other texts": of(prompt=texts, items=other_texts),
        "template": of(template=4),
        "candidates of the model": of(candidates=np.arange(20)),
        "candidates of the task": of(task=replace(task, candidates=np.arange(20))),
        "targets": of(task=replace(task, targets=(task.targets + 1) % len(items))),
        "histories": of(task=replace(task, histories=fewer)),
        "users": of(task=replace(task, users=[f"{user}'" for user in task.users])),
        "name": of(task=replace(task, name="Other")),
    }
    assert len(set(found.values())) == len(found)
    assert of() == found["as it is"] and of(task=shuffled(task, 1)[1]) == found["as it is"]
    try:
        torch.set_num_threads(2)
        assert of() != found["as it is"]
    finally:
        torch.set_num_threads(1)
