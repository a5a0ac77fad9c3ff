"""The in-context ranker as the judge meets it: trained on the Fusion once, blind to what is held out."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rings import RING, walkers

from pretrain.ranking.ranker import RankerConfig, fit_ranker, training_lists
from shards.tables import load_holdout
from zeroshot import baselines
from zeroshot.audit.leakage import leakage_check
from zeroshot.baselines import in_context
from zeroshot.baselines.text_popularity import repeat_share
from zeroshot.judge.judge import judge, judge_protocols
from zeroshot.protocol.recommender import PROTOCOLS

SMALL = RankerConfig(lists=60, width=8, models=2, epochs=3)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def built(shard_folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch):
    """`built(task)`: the ranker for a task, a small one whose weights are kept."""
    monkeypatch.setattr(in_context, "RankerConfig", lambda: SMALL)
    context = baselines.BaselineContext(str(shard_folder), cache=cache)
    return lambda task: baselines.build(("ranker",), task, context)[0]


def test_it_is_trained_once_and_no_test_item_is_read(
    built, ring_task, cache: Path, shard_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With test items that no item table has, the lists would point nowhere."""

    def without_tests(folder, member):
        holdout = load_holdout(folder, member)
        return replace(holdout, test=np.full_like(holdout.test, 10**9))

    task = ring_task()
    first = built(task).rank(task.histories[:20], ("new",))["new"]
    (kept,) = cache.glob("ranker-*.safetensors")
    monkeypatch.setattr(in_context, "load_holdout", without_tests)
    bytes_before = kept.read_bytes()
    kept.unlink()
    again = built(task).rank(task.histories[:20], ("new",))["new"]
    assert np.array_equal(first.scores_NK, again.scores_NK)
    assert kept.read_bytes() == bytes_before

    def forbidden(*arguments):
        raise AssertionError("the weights are in the cache")

    monkeypatch.setattr(in_context, "fusion_lists", forbidden)
    built(task).rank(task.histories[:1], ("new",))


def test_probabilities_of_repeats_and_of_the_rest(built, ring_task) -> None:
    task = ring_task()
    rankings = built(task).rank([np.array([3, 5, 3])], PROTOCOLS)
    new, both = (
        dict(zip(r.items_NK[0], np.exp(r.scores_NK[0]), strict=True)) for r in map(rankings.get, ("new", "all"))
    )
    share = repeat_share(task.training_histories)
    assert not {3, 5} & new.keys() and sum(new.values()) == pytest.approx(1)
    assert both[3] == pytest.approx(share * (1 + 0.49) / (1 + 0.7 + 0.49)) and sum(both.values()) == pytest.approx(1)
    assert all(both[item] == pytest.approx((1 - share) * probability) for item, probability in new.items())


def test_blocks_and_order_of_users_change_no_rank(built, ring_task) -> None:
    task, recommender = ring_task(), built(ring_task())
    one, other = (judge_protocols(task, recommender, block) for block in (7, 64))
    for protocol in PROTOCOLS:
        assert np.array_equal(one[protocol].ranks_N, other[protocol].ranks_N)
        assert np.array_equal(one[protocol].top_NK, other[protocol].top_NK)
    order = np.random.default_rng(0).permutation(len(task.users))
    shuffled = judge_protocols(task.of(order), recommender)
    assert np.array_equal(shuffled["new"].ranks_N, one["new"].ranks_N[order])


def test_counts_of_what_is_held_out_are_found(built, ring_task) -> None:
    task = ring_task()
    assert leakage_check(task, built(task), built).verdict == "passed"

    def of_histories(other):
        return built(replace(other, training_histories=other.histories))

    check = leakage_check(task, of_histories(task), of_histories)
    assert check.verdict == "failed" and "validation items" in check.words


def test_what_was_learned_on_one_ring_finds_the_way_round_another(built, ring_task) -> None:
    """Counts of the other ring say who comes next there; how to read them was learned on the first."""
    task = ring_task()
    first = walkers(120, seed=5)
    assert first.validation is not None
    texts = [f"title: pearl {row % 7} {row // 7}" for row in range(RING)]
    config = replace(SMALL, epochs=15, learning_rate=1e-2)
    recommender = built(task)
    lists = training_lists(texts, first.training_histories, first.validation, config, 0, "First")
    recommender.ranker = fit_ranker(lists, config, 0).double()
    found = {
        one.name: float((judge(task, one, "new").ranks_N <= 5).mean())
        for one in (recommender, baselines.Popularity(task.training_histories, RING))
    }
    assert found["ranker"] > 2 * found["popularity"]
