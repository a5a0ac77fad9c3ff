"""What README.md and docs/demo.md claim of the demo beyond one run of it: two seeds, one of them again, and one without
what can transfer. Four demos, a quarter of an hour of two cores: `make test-claims`, not in CI.
"""

import os
from pathlib import Path

import pytest
from demos import UNSEEN, hit_ratio, idgenrec, load, lower_bound

pytestmark = [pytest.mark.slow, pytest.mark.processes]
SEEDS = (0, 1)


def demo(out: Path, seed: int, transfer: bool = True) -> None:
    idgenrec("demo", "--seed", str(seed), "--transfer" if transfer else "--no-transfer", "--out", str(out))


@pytest.fixture(scope="module")
def demos(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[int, bool], Path]:
    """Folders of the demo by (seed, transfer). IDGENREC_DEMOS names a folder to keep them in; what is there is not run
    again."""
    kept = os.environ.get("IDGENREC_DEMOS")
    parent = Path(kept) if kept else tmp_path_factory.mktemp("demos")
    folders = {}
    for seed, transfer in (*((seed, True) for seed in SEEDS), (SEEDS[0], False)):
        out = parent / f"{'on' if transfer else 'off'}-{seed}"
        if not (out / "report" / "report.html").is_file():
            demo(out, seed, transfer)
        folders[seed, transfer] = out
    return folders


@pytest.mark.parametrize("task", UNSEEN)
@pytest.mark.parametrize("seed", SEEDS)
def test_trained_beats_popularity_and_random(demos: dict, seed: int, task: str) -> None:
    results = load(demos[seed, True])
    assert lower_bound(results, task, "idgenrec", "popularity") > 0
    assert lower_bound(results, task, "idgenrec", "random") > 0


@pytest.mark.parametrize("task", UNSEEN)
@pytest.mark.parametrize("seed", SEEDS)
def test_the_model_before_training_shows_no_such_thing(demos: dict, seed: int, task: str) -> None:
    assert lower_bound(load(demos[seed, True]), task, "untrained", "popularity") <= 0


@pytest.mark.parametrize("task", UNSEEN)
def test_nor_one_trained_where_nothing_can_transfer(demos: dict, task: str) -> None:
    assert lower_bound(load(demos[SEEDS[0], False]), task, "idgenrec", "popularity") <= 0


@pytest.mark.parametrize("task", UNSEEN)
@pytest.mark.parametrize("seed", SEEDS)
def test_popularity_is_a_real_baseline(demos: dict, seed: int, task: str) -> None:
    results = load(demos[seed, True])
    assert hit_ratio(results, task, "popularity") >= 2 * hit_ratio(results, task, "random")
    assert hit_ratio(results, task, "tfidf-last") > 0


def test_same_seed_same_numbers(demos: dict, tmp_path: Path) -> None:
    demo(tmp_path / "again", seed=SEEDS[0])
    first, second = load(demos[SEEDS[0], True]), load(tmp_path / "again")
    for part in ("tasks", "rows", "comparisons", "ids", "users"):
        assert first[part] == second[part], part
    assert first["training"]["losses"] == second["training"]["losses"]
