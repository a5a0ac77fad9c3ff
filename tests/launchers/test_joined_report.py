"""What the jobs of an array judged apart is one report, the one that a single job had written."""

import json

import pytest

from tests.zeroshot.made_up import made_up_ranks, made_up_results, provenance
from zeroshot.judge.ranks import load_ranks, save_ranks
from zeroshot.report import results
from zeroshot.report.results import join

TASKS = ("Beauty", "Yelp", "Toys")


def write(folder, ranks, origin=None):
    folder.mkdir(parents=True)
    results.save(made_up_results(ranks, origin=origin), folder / "results.json")
    save_ranks(ranks, folder / "ranks.parquet")
    return folder


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """A report of all three data sets, and one of each, which took 1, 2 and 3 seconds."""
    out, ranks = tmp_path_factory.mktemp("parts"), made_up_ranks(TASKS, num_users=80)
    whole = write(out / "whole", ranks, provenance() | {"wall_seconds": 6.0})
    apart = [
        write(out / task, ranks.filter(task=task), provenance() | {"wall_seconds": float(number)})
        for number, task in enumerate(TASKS, start=1)
    ]
    return whole, apart


def test_the_joined_report_is_that_of_one_job(parts):
    whole, apart = parts
    found, ranks = join(apart)
    assert json.loads(json.dumps(found)) == results.load(whole / "results.json")
    assert ranks.equals(load_ranks(whole / "ranks.parquet"))
    alone = {task: results.load(folder / "results.json") for task, folder in zip(TASKS, apart, strict=True)}
    corrected = [(entry["p_holm"], entry["task"]) for entry in found["comparisons"]]
    assert corrected != [(e["p_holm"], e["task"]) for part in alone.values() for e in part["comparisons"]]


def test_what_does_not_belong_together_is_not_joined(parts, tmp_path):
    whole, apart = parts
    with pytest.raises(ValueError, match="Beauty, Yelp, Toys: judged in more than one"):
        join([whole, *apart])
    other = write(tmp_path / "other", made_up_ranks(("Sports",), num_users=80), provenance(seed=1))
    with pytest.raises(ValueError, match="differ in config_sha256"):
        join([apart[0], other])


def test_the_command_writes_all_four_files(parts, tmp_path, idgenrec):
    _, apart = parts
    status, said, wrong = idgenrec("report", "--results", *apart, "--out", tmp_path / "joined")
    assert status == 0, wrong
    assert "report.html" in said
    names = sorted(path.name for path in (tmp_path / "joined").iterdir())
    assert names == ["ranks.parquet", "report.html", "report.md", "results.json"]
    assert all(task in (tmp_path / "joined" / "report.md").read_text() for task in TASKS)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("--results", "a", "b"), "give both, or one folder alone"),
        (("--results", "a", "--out", "b"), "give both, or one folder alone"),
        (("--results", "a", "b", "--out", "a"), "give the joined one a folder of its own"),
        (("--results",), "names no folder"),
    ],
)
def test_a_folder_too_few_or_too_many_is_refused(words, reason, idgenrec):
    status, _, wrong = idgenrec("report", *words)
    assert status == 2 and reason in wrong
