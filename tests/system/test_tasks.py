"""The six tasks on real data: published counts and hashes, the released order, the published sample, honest audits.

Of Music no full sequences are at hand: it is built from hand-made raw files of the 2014 format, and says that its
counts are not the published ones.
"""

import gzip
import os
import subprocess
import sys
from pathlib import Path

import pytest
from miniatures import amazon_2014

from shards import registry
from shards.build.build import build
from shards.config import BuildConfig
from shards.manifest import Manifest
from shards.tokenizer import load_tokenizer
from zeroshot import baselines
from zeroshot.audit.data_checks import data_checks
from zeroshot.audit.exposure import exposure_checks, find_pretraining
from zeroshot.audit.findings import failed
from zeroshot.audit.leakage import leakage_check
from zeroshot.report import results
from zeroshot.tasks.fingerprints import users_sha256
from zeroshot.tasks.suite import SAMPLE_USERS, SUITE, resolve
from zeroshot.tasks.task import Task, load_task, task_facts

REPOSITORY = Path(__file__).resolve().parents[2]
REAL = ("Sports", "Beauty", "Toys", "Instruments", "Yelp")
# Of the 2,000 users that models judge with `--sample 2000`, as docs/zeroshot.md prints them.
SAMPLES = {
    "Sports": "23d4cf74ab5fb10b1d9353bf2dc4fa77ac38b3d2a588dfdcf6b92df8edadb7c8",
    "Beauty": "107cb494b8712ea73f62a3d9b6903568ca52b0cf59a0fea30ef7c81174d0bac6",
    "Toys": "a89c510a17a2c56f2d72e96dcd3d0eac874d87c0b646b679a65bc49543e6d38b",
    "Yelp": "541109805915794488b3ca4e4dae26244f08fc7224bb5a9cff21b4518ec9afd5",
}


@pytest.fixture(scope="module")
def shards(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The five sets, and Games to look for their items in."""
    out = tmp_path_factory.mktemp("tasks") / "shards"
    tests = tuple(str(shared / "data" / name) for name in REAL)
    games = (str(shared / "data" / "Games"),)
    build(BuildConfig(train=games, test=tests, out=str(out), tokenizer=str(shared / "t5"), max_users=200))
    return out


def task_of(shards: Path, name: str, sample: int | None = None) -> Task:
    [spec] = resolve((name,), Manifest.load(shards))
    return load_task(shards, spec, sample=sample)


def sequences_of(shared: Path, name: str) -> dict[str, list[str]]:
    with gzip.open(shared / "data" / name / "user_sequence.txt.gz", "rt", encoding="utf-8") as source:
        return {user: items for user, *items in map(str.split, source)}


def told(task: Task) -> dict[str, list[str]]:
    """Items by user, the target last."""
    raw = [item.removeprefix(f"{task.what.dataset}/") for item in task.items]
    users = zip(task.users, task.histories, task.targets, strict=True)
    return {user: [raw[row] for row in (*history, target)] for user, history, target in users}


@pytest.mark.parametrize("name", REAL)
def test_the_real_sets_are_the_published_ones(shared: Path, shards: Path, name: str) -> None:
    task = task_of(shards, name, SAMPLE_USERS)
    facts = task_facts(task)
    assert facts["counts_match"] is True and facts["sequences_match"] is True
    assert facts["hashes"]["interactions"] == SUITE[name].interactions_sha256
    assert told(task) == sequences_of(shared, name)
    if name == "Instruments":
        assert task.sampled is None, "1,429 users are fewer than the sample"
    else:
        assert (len(task.for_models.users), users_sha256(task.for_models.users)) == (2_000, SAMPLES[name])


@pytest.mark.parametrize("name", ["Toys", "Sports", "Yelp"])
def test_released_is_the_order_of_the_item_ids(shared: Path, shards: Path, name: str) -> None:
    task = task_of(shards, f"{name}@released")
    expected = {user: sorted(items) for user, items in sequences_of(shared, name).items()}
    assert told(task) == expected
    assert [len(rows) for rows in task.training_histories] == [len(items) - 2 for items in expected.values()]
    assert task_facts(task)["sequences_match"] is True


@pytest.mark.parametrize("name", [name for plain in REAL for name in (plain, f"{plain}@released")])
def test_the_audit_of_the_real_sets_is_green(shards: Path, name: str) -> None:
    task, manifest = task_of(shards, name), Manifest.load(shards)
    known = find_pretraining(Path("nowhere"), manifest.sha256(), [str(shards)], None)
    checks = data_checks(task, shards, manifest, load_tokenizer(shards / "tokenizer")) + exposure_checks(task, known)
    verdicts = {check.check: check.verdict for check in checks}
    for check in checks:
        print(check)
    assert not failed(checks)
    assert verdicts["published data"] == verdicts["history"] == verdicts["target in history"] == "passed"
    assert verdicts["order"] == ("note" if name.endswith("@released") else "passed")
    assert verdicts["items in pretraining"] in (("unknown",) if name.startswith("Yelp") else ("passed", "note"))


def test_baselines_of_a_real_set_depend_on_no_target(shards: Path) -> None:
    task = task_of(shards, "Instruments")
    context = baselines.BaselineContext()
    for baseline in baselines.build(baselines.TRAINING_FREE, task, context):
        check = leakage_check(
            task, baseline, lambda other, name=baseline.name: baselines.build((name,), other, context)[0]
        )
        assert check.verdict == "passed", check


def test_music_of_hand_made_raw_files_runs_and_says_what_it_is(trained_run, shards: Path, tmp_path: Path) -> None:
    config, run = trained_run
    with pytest.raises(ValueError, match="task Music needs the test set Music, but the shard folder has Sports"):
        resolve(("Music",), Manifest.load(shards))
    folder = amazon_2014(tmp_path / "raw", registry.row("2014", "Music"), users=40, items=24)
    assert {path.name for path in folder.iterdir()} == {"reviews_Digital_Music_5.json.gz", "meta_Digital_Music.json.gz"}
    build(BuildConfig(test=(str(folder),), out=str(tmp_path / "music"), tokenizer=f"{config.shards}/tokenizer"))
    words = ("--checkpoint", run, "--shards", tmp_path / "music", "--out", tmp_path / "report", "--tasks", "Music")
    ended = subprocess.run(
        [sys.executable, "-m", "launchers.cli", "zeroshot", *map(str, words), "--sample", "10", "--search.beam", "10"],
        cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(REPOSITORY)}, capture_output=True, text=True,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr[-3000:]
    assert "NOT the published counts, 5,541, 3,568 and 64,706 (paper Table 3)" in ended.stdout
    found = results.load(tmp_path / "report" / "results.json")
    facts = found["tasks"]["Music"]
    assert (facts["counts_match"], facts["sequences_match"], facts["users_judged"]) == (False, None, 10)
    assert {row["num_users"] for row in found["rows"]} == {10, 40}
