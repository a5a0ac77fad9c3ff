"""`idgenrec zeroshot` and its audit: honest shards end with status 0, items that were trained on with status 3."""

import json
from pathlib import Path

import polars as pl
import pytest

from shards.build.build import build
from shards.config import BuildConfig
from zeroshot.protocol.config import TRAINING_FREE
from zeroshot.report import results
from zeroshot.tasks.suite import SAMPLE_SEED


def verdicts(out: Path, task: str) -> dict[str, str]:
    audit = results.load(out / "results.json")["audit"]
    assert all(set(one) == {"task", "check", "verdict", "words"} and one["words"] for one in audit)
    return {one["check"]: one["verdict"] for one in audit if one["task"] == task}


@pytest.mark.parametrize("processes", [1, 2])
def test_an_honest_judgement_of_two_orders_and_a_sample(idgenrec, trained_run, tmp_path, processes):
    config, run = trained_run
    out = tmp_path / "report"
    words = ["--checkpoint", run, "--shards", config.shards, "--out", out, "--search.beam", 10]
    status, said, err = idgenrec(
        "zeroshot", *words, "--tasks", "Gifts", "Gifts@released", "--sample", 4, "--processes", processes
    )
    assert status == 0 and "audit failed" not in err, err
    assert "Gifts, IDs" in said and "Gifts@released, IDs" not in said, "one catalogue, one book"
    found = results.load(out / "results.json")
    ranks = pl.read_parquet(out / "ranks.parquet")
    for task, order in (("Gifts", "chronological"), ("Gifts@released", "released")):
        facts = found["tasks"][task]
        assert (facts["order"], facts["dataset"], facts["version"]) == (order, "Gifts", 1)
        assert (facts["sample"]["users"], facts["sample"]["seed"]) == (4, SAMPLE_SEED) and facts["users_judged"] == 4
        assert facts["num_users"] == 6 and facts["counts_match"] is None
        assert verdicts(out, task)["order"] == ("note" if order == "released" else "passed")
        judged = ranks.filter((pl.col("task") == task) & (pl.col("protocol") == "all"))
        sizes = dict(judged.group_by("recommender").len().iter_rows())
        assert sizes.pop("idgenrec") == sizes.pop("untrained") == 4
        assert set(sizes) == set(TRAINING_FREE) and set(sizes.values()) == {6}, "classic baselines judge everyone"
        for name in ("idgenrec", "untrained", *TRAINING_FREE):
            assert verdicts(out, task)[f"inputs of {name}"] == "passed"
    checks = verdicts(out, "Gifts")
    assert checks["history"] == checks["filter, models"] == checks["filter, baselines"] == "passed"
    assert checks["items in pretraining"] == "note", "no item, but titles of generated items are equal by chance"
    assert checks["users in pretraining"] == "passed"
    assert checks["later events"] == "unknown"
    assert found["tasks"]["Gifts"]["data_sha256"] != found["tasks"]["Gifts@released"]["data_sha256"]
    assert len(list(out.glob("book-*.arrow"))) == 1


def test_items_that_were_trained_on_end_in_status_3_with_all_results(idgenrec, trained_run, tmp_path):
    config, run = trained_run
    raw = Path(config.shards).parent / "raw"
    build(BuildConfig(test=(str(raw / "Garden"),), out=str(tmp_path / "seen"), tokenizer=f"{config.shards}/tokenizer"))
    words = ["--checkpoint", run, "--out", tmp_path / "report", "--search.beam", 10, "--max-users", 3]
    status, said, err = idgenrec("zeroshot", *words, "--shards", tmp_path / "seen")
    assert status == 3 and "Traceback" not in err
    line = "audit failed: Garden, items in pretraining: trained on and judged: 23 items of Garden; 0 items of Kitchen"
    assert line in err and "AUDIT FAILED" in said and "HR@10" in said
    checks = verdicts(tmp_path / "report", "Garden")
    assert checks["items in pretraining"] == "failed" and checks["users in pretraining"] == "unknown"
    assert (tmp_path / "report" / "report.html").is_file() and (tmp_path / "report" / "ranks.parquet").is_file()
    assert json.loads((tmp_path / "report" / "results.json").read_text())["rows"]
    # With the shards of the training at hand, users are looked up too.
    found = idgenrec("zeroshot", *words, "--shards", tmp_path / "seen", "--pretraining-shards", config.shards)
    assert found[0] == 3
    assert verdicts(tmp_path / "report", "Garden")["users in pretraining"] == "note"
    status, _, err = idgenrec(
        "zeroshot", *words, "--shards", tmp_path / "seen", "--pretraining-shards", tmp_path / "seen"
    )
    assert status == 2 and "was not trained on" in err
    status, _, err = idgenrec("zeroshot", *words, "--shards", tmp_path / "seen", "--sample", 2)
    assert status == 2 and "exclude each other" in err
