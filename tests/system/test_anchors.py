"""The baselines give the measured numbers of ANCHORS.md on the real data, to the fourth digit."""

import gzip
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pretrain.ranking.metrics import summary
from shards.tables import Holdout
from zeroshot import baselines
from zeroshot.judge.judge import judge, judge_protocols
from zeroshot.tasks.task import Task, task_from_holdout

# HR@10, NDCG@10 as ANCHORS.md prints them.
ANCHORS = {
    ("popularity", "all"): {
        "Beauty": (0.0106, 0.0051),
        "Toys": (0.0089, 0.0049),
        "Yelp": (0.0100, 0.0051),
        "Sports": (0.0090, 0.0051),
        "Instruments": (0.0714, 0.0357),
    },
    ("repeat", "all"): {
        "Beauty": (0.0, 0.0),
        "Toys": (0.0, 0.0),
        "Yelp": (0.0620, 0.0414),
        "Sports": (0.0, 0.0),
        "Instruments": (0.0, 0.0),
    },
    ("tfidf-last", "all"): {
        "Beauty": (0.0656, 0.0305),
        "Toys": (0.0763, 0.0342),
        "Yelp": (0.0277, 0.0231),
        "Sports": (0.0295, 0.0130),
        "Instruments": (0.0455, 0.0185),
    },
    ("tfidf-last", "new"): {
        "Beauty": (0.0707, 0.0435),
        "Toys": (0.0829, 0.0482),
        "Yelp": (0.0062, 0.0036),
        "Sports": (0.0309, 0.0173),
        "Instruments": (0.0490, 0.0235),
    },
    ("tfidf-decayed", "all"): {
        "Beauty": (0.0630, 0.0269),
        "Toys": (0.0693, 0.0292),
        "Yelp": (0.0383, 0.0281),
        "Sports": (0.0269, 0.0108),
        "Instruments": (0.0336, 0.0116),
    },
    ("tfidf-decayed", "new"): {
        "Beauty": (0.0751, 0.0446),
        "Toys": (0.0812, 0.0461),
        "Yelp": (0.0061, 0.0033),
        "Sports": (0.0348, 0.0187),
        "Instruments": (0.0504, 0.0241),
    },
    # First-order Markov, supervised.
    ("neighbours", "all"): {
        "Beauty": (0.0672, 0.0421),
        "Toys": (0.0743, 0.0475),
        "Yelp": (0.0309, 0.0185),
        "Sports": (0.0378, 0.0234),
        "Instruments": (0.0882, 0.0510),
    },
    ("neighbours", "new"): {
        "Beauty": (0.0688, 0.0448),
        "Toys": (0.0749, 0.0496),
        "Yelp": (0.0229, 0.0123),
        "Sports": (0.0383, 0.0240),
        "Instruments": (0.0917, 0.0533),
    },
}
NEW_TARGETS_DECAYED_YELP = (0.0065, 0.0036)


def lines(path: Path) -> list[str]:
    with gzip.open(path, "rt", encoding="utf-8") as source:
        return source.read().splitlines()


def read_task(folder: Path) -> Task:
    name = folder.name
    texts = dict(line.split(" ", 1) for line in lines(folder / "item_plain_text.txt.gz"))
    row_of = {item: row for row, item in enumerate(texts)}
    users = [line.split() for line in lines(folder / "user_sequence.txt.gz")]
    holdout = Holdout(
        records=[f"{name}/{number:09d}" for number in range(len(users))],
        users=[user for user, *_ in users],
        histories=[np.array([row_of[item] for item in sequence[:-2]], dtype=np.int32) for _, *sequence in users],
        valid=np.array([row_of[sequence[-2]] for sequence in users], dtype=np.int32),
        test=np.array([row_of[sequence[-1]] for sequence in users], dtype=np.int32),
    )
    return task_from_holdout(name, list(texts), list(texts.values()), holdout)


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.slow) for name in ("Beauty", "Toys", "Yelp", "Sports")] + ["Instruments"],
)
def test_baselines_reproduce_the_anchors(shared: Path, name: str) -> None:
    task = read_task(shared / "data" / name)
    wrong: list[str] = []
    measured_ones = [known for known in baselines.TRAINING_FREE if known in {of for of, _ in ANCHORS}]
    assert len(measured_ones) == 5
    for recommender in baselines.build(measured_ones, task, baselines.BaselineContext()):
        for protocol, judged in judge_protocols(task, recommender).items():
            ranks_N = judged.ranks_N
            measured = summary(ranks_N)
            found = (measured["HR@10"], measured["NDCG@10"])
            print(name, recommender.name, protocol, *(f"{value:.4f}" for value in found))
            compare(
                wrong, f"{recommender.name} {protocol}", found, ANCHORS.get((recommender.name, protocol), {}).get(name)
            )
            if (name, recommender.name, protocol) == ("Yelp", "tfidf-decayed", "new"):
                newly = summary(ranks_N[task.target_is_new])
                compare(wrong, "new targets", (newly["HR@10"], newly["NDCG@10"]), NEW_TARGETS_DECAYED_YELP)
    if name == "Yelp":
        assert int((~task.target_is_new).sum()) == 2027
    assert not wrong, wrong


# HR@10 of the next item in order of ASINs: as released (every history sorted by ASIN), and in order of time.
ITEM_ORDER = {"Toys": (0.0729, 0.0360), "Sports": (0.0223, 0.0085)}


@pytest.mark.parametrize("name", sorted(ITEM_ORDER))
def test_item_order_shows_what_the_released_sets_give_away(shared: Path, name: str) -> None:
    task = read_task(shared / "data" / name)
    recommender = baselines.ItemOrder(task.items)
    in_time = summary(judge(task, recommender, "all").ranks_N)["HR@10"]
    of_place = np.argsort(recommender.place_I)
    wholes = [
        of_place[np.sort(recommender.place_I[[*history, target]])]
        for history, target in zip(task.histories, task.targets, strict=True)
    ]
    released = replace(task, histories=[w[:-1] for w in wholes], targets=np.array([w[-1] for w in wholes]))
    sorted_by_id = summary(judge(released, recommender, "all").ranks_N)["HR@10"]
    print(name, f"released {sorted_by_id:.4f}, in order of time {in_time:.4f}, chance {10 / len(task.items):.4f}")
    assert np.allclose((sorted_by_id, in_time), ITEM_ORDER[name], rtol=0, atol=0.5001e-4)
    assert sorted_by_id > 20 * 10 / len(task.items)


def compare(wrong: list[str], what: str, found: tuple[float, float], printed: tuple[float, float] | None) -> None:
    if printed is not None and not np.allclose(found, printed, rtol=0, atol=0.5001e-4):
        wrong.append(f"{what}: {found} instead of {printed}")
