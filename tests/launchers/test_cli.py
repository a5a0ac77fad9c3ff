"""The command line: help for all, and one line for a mistake."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from launchers import cli

ROOT = Path(cli.__file__).resolve().parent.parent
COMMANDS = (
    "demo", "shard", "pretrain", "ids", "book", "interpolate", "export", "zeroshot", "report", "track", "compare",
    "recommend", "launch", "jobs", "cancel", "logs", "doctor",
)  # fmt: skip


def test_python_m_help():
    code = "import runpy, sys; sys.argv = ['idgenrec', '--help']\n"
    code += "runpy.run_module('launchers.cli', run_name='__main__')\n"
    code += "print('HEAVY', sorted({'torch', 'transformers', 'deepspeed', 'mlflow', 'polars'} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert all(command in found.stdout for command in COMMANDS)
    assert "HEAVY []" in found.stdout, "help does not wait for heavy libraries"


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_each_command(idgenrec, command):
    status, out, err = idgenrec(command, "--help")
    assert status == 0 and err == ""
    assert f"usage: idgenrec {command}" in out and "--help" in out


@pytest.mark.parametrize("command", ["build", "add", "download", "inspect"])
def test_help_of_each_shard_command(idgenrec, command):
    status, out, _ = idgenrec("shard", command, "--help")
    assert status == 0 and f"usage: idgenrec shard {command}" in out
    assert f"Example: idgenrec shard {command}" in out.replace("\n", " ")


def test_shards_are_built_added_to_and_inspected(idgenrec, tmp_path):
    from shards.readers.marketplace import MarketplaceSizes, write_marketplace

    sizes = MarketplaceSizes(users_per_category=20, items_per_category=24, test_users=8, test_items=24)
    write_marketplace(tmp_path / "raw", seed=1, sizes=sizes)
    raw, shards = tmp_path / "raw", tmp_path / "shards"
    status, out, err = idgenrec(
        "shard", "build", "--train", raw / "Garden", "--test", raw / "Gifts", "--out", shards, "--vocab-size", 420
    )
    assert status == 0 and "Garden / Gifts: 0 items in both; 0 users in both" in out + err
    assert (shards / "README.md").read_text().startswith("# Shards for idgenrec")
    status, out, err = idgenrec("shard", "add", "--to", shards, "--train", raw / "Kitchen", "--test", raw / "Places")
    assert status == 0 and "Kitchen / Places" in out + err
    status, out, _ = idgenrec("shard", "inspect", "--shards", shards, "--verify")
    assert status == 0 and "every file is whole" in out
    assert all(name in out for name in ("Garden", "Kitchen", "Gifts", "Places", "Fusion"))
    tar = next((shards / "Kitchen").glob("*.tar"))
    tar.write_bytes(tar.read_bytes()[:-1])
    assert_one_error(idgenrec("shard", "inspect", "--shards", shards, "--verify"), tar.name)


def error_lines(err):
    return [line for line in err.splitlines() if line.startswith("error:")]


def assert_one_error(found, *words):
    status, _, err = found
    assert status == 2
    assert len(error_lines(err)) == 1 and "Traceback" not in err, err
    assert all(str(word) in error_lines(err)[0] for word in words), err


def test_pretrain_without_shards(idgenrec, tmp_path):
    folder = tmp_path / "no-shards"
    found = idgenrec("pretrain", "--shards", folder, "--out", tmp_path / "run")
    assert_one_error(found, folder / "manifest.json", "missing")
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_zeroshot_on_an_unknown_data_set(idgenrec, trained_run, tmp_path):
    config, out = trained_run
    words = ["--checkpoint", out, "--shards", config.shards, "--out", tmp_path / "report", "--tasks", "Nowhere"]
    assert_one_error(idgenrec("zeroshot", *words), "Nowhere")
    assert not (tmp_path / "report" / "report.html").exists()


def test_zeroshot_among_candidates(idgenrec, trained_run, tmp_path):
    import polars as pl

    from shards.manifest import Manifest
    from shards.tables import load_items

    config, out = trained_run
    name = Manifest.load(config.shards).test_members[0].name
    items = load_items(config.shards, Manifest.load(config.shards), name).items
    candidates = tmp_path / "candidates.txt"
    candidates.write_text("\n".join(items[:12]))
    words = ["--checkpoint", out, "--shards", config.shards, "--out", tmp_path / "report", "--tasks", name]
    status, _, err = idgenrec("zeroshot", *words, "--max-users", 8, "--candidates", candidates, "--search.beam", 12)
    assert status == 0, err
    assert json.loads((tmp_path / "report" / "results.json").read_text())["tasks"][name]["candidates"] == 12
    ranks = pl.read_parquet(tmp_path / "report" / "ranks.parquet").filter(pl.col("protocol") == "all")
    assert set(ranks["recommender"]) >= {"idgenrec", "popularity", "tfidf-last"}
    found = ranks["rank"].to_numpy()
    assert np.isinf(found).any() and (found[np.isfinite(found)] <= 12).all()
    assert "12 are ranked" in (tmp_path / "report" / "report.html").read_text()
    assert_one_error(idgenrec("zeroshot", *words, "--candidates", tmp_path / "nothing"), "no file of candidates")


@pytest.mark.processes
def test_a_book_is_made_looked_into_and_extended(idgenrec, small_model, tokenizer, shard_folder, tmp_path):
    """What a person does with one catalogue: make its book on two processes, ask it, grow it, compare."""
    from pretrain.ids.book import Book
    from pretrain.model.t5 import save_model

    save_model(small_model(2), tokenizer, tmp_path / "generator")
    words = ["--shards", shard_folder, "--ids.tier-tokens", 4, "--ids.penalty-max", 0.2, "--ids.block-size", 8]
    making = ["ids", "--generator", tmp_path / "generator", *words, "--processes", 2]
    status, out, err = idgenrec(*making, "--catalogue", "Garden", "--out", tmp_path / "garden.arrow")
    assert status == 0, err
    for said in ("items/s", "0 active", "collisions", "paper 11.20%", "paper 3.72%", "idle", "tokens of an ID"):
        assert said in out, said
    assert not list(tmp_path.glob(".*progress")), "what was kept for a restart is gone"
    garden = Book.load(tmp_path / "garden.arrow", tokenizer)
    ask = ["book", "--book", tmp_path / "garden.arrow", "--shards", shard_folder]
    status, out, _ = idgenrec(*ask)
    assert status == 0 and garden.describe() in out and "field names that leaked" in out
    status, out, _ = idgenrec(*ask, "--id", f"  {garden.texts[3].upper()} ")
    assert status == 0 and out.startswith(f"{garden.items[3]}: {garden.texts[3]} (")
    status, out, _ = idgenrec(*ask, "--item", garden.items[5])
    assert status == 0 and garden.texts[5] in out
    assert_one_error(idgenrec(*ask, "--id", "nobody has this"), "no item of the book has the ID 'nobody has this'")
    assert_one_error(idgenrec(*ask, "--item", "x"), "no item 'x'", garden.items[0])
    grown, whole = tmp_path / "both.arrow", tmp_path / "whole.arrow"
    status, out, err = idgenrec(*making, "--extend", tmp_path / "garden.arrow", "--out", grown)
    assert status == 0, err
    assert f"{len(garden)} items of the extended book" in out
    both = Book.load(grown, tokenizer)
    assert both.texts[: len(garden)] == garden.texts and len(both) == 2 * len(garden)
    assert idgenrec(*making, "--out", whole)[0] == 0
    assert grown.read_bytes() == whole.read_bytes(), "growing gives what building anew gives"
    compared = ["book", "--book", grown, "--shards", shard_folder, "--against", tmp_path / "garden.arrow"]
    status, out, _ = idgenrec(*compared)
    assert status == 0 and f"0.00% of the IDs in both changed; {len(garden)} items added, 0 removed" in out
    assert_one_error(idgenrec(*making, "--out", grown), "exists", "another --out")
    other = [*making, "--ids.groups", 2, "--extend", tmp_path / "garden.arrow", "--out", tmp_path / "no.arrow"]
    assert_one_error(idgenrec(*other), "made with other options")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (
            ("pretrain", "--shards", "s", "--out", "o", "--batch-size", "7", "--processes", "2"),
            ("batch_size 7", "2 ranks"),
        ),
        (("pretrain", "--shards", "s", "--out", "o", "--search.beam", "0"), ("beam is 0",)),
        (("ids", "--generator", "g", "--shards", "s", "--out", "o", "--processes", "0"), ("processes is 0",)),
        (("ids", "--generator", "g", "--shards", "s", "--out", "o", "--ids.groups", "0"), ("groups is 0",)),
        (("ids", "--generator", "g", "--shards", "s", "--out", "o", "--ids.penalty-step", "0"), ("penalty_step",)),
        (("report", "--results", "nowhere"), ("nowhere/ranks.parquet", "missing")),
        (("compare", "nowhere", "elsewhere", "--out", "out"), ("nowhere/results.json", "no results")),
        (("compare", "nowhere", "nowhere", "--out", "out"), ("named twice",)),
        (("shard", "build", "--train", "nowhere/Games", "--test", "nowhere/Toys", "--out", "out"), ("nowhere/Games",)),
        (("demo", "--out", "."), (". exists",)),
    ],
)
def test_a_mistake_is_one_line(idgenrec, monkeypatch, tmp_path, words, expected):
    monkeypatch.chdir(tmp_path)
    assert_one_error(idgenrec(*words), *expected)


def test_the_status_of_a_failed_rank_is_passed_on(idgenrec, monkeypatch):
    from launchers.jobs import local

    def launch(task, config, processes):
        raise local.RankFailed(1, 9)

    monkeypatch.setattr(local, "launch", launch)
    status, _, err = idgenrec("ids", "--generator", "g", "--shards", "s", "--out", "o")
    assert status == 9 and error_lines(err) == ["error: rank 1 ended with status 9"]


def test_the_ranks_own_words_are_not_repeated(idgenrec, monkeypatch):
    from launchers.jobs import local

    def launch(task, config, processes):
        print("error: what the rank says", file=sys.stderr)
        raise local.RankFailed(0, 2)

    monkeypatch.setattr(local, "launch", launch)
    assert_one_error(idgenrec("ids", "--generator", "g", "--shards", "s", "--out", "o"), "what the rank says")


def test_ctrl_c_is_130_and_says_what_to_do(idgenrec, monkeypatch, tmp_path):
    from launchers.jobs import local
    from shards.readers import marketplace

    def launch(task, config, processes):
        raise KeyboardInterrupt

    monkeypatch.setattr(local, "launch", launch)
    monkeypatch.setattr(marketplace, "write_marketplace", launch)
    status, _, err = idgenrec("ids", "--generator", "g", "--shards", "s", "--out", "o")
    assert status == 130 and "the same command takes the run up again" in err and "Traceback" not in err
    status, _, err = idgenrec("demo", "--out", tmp_path / "demo")
    assert status == 130 and err.splitlines()[-1] == "interrupted; the same command begins anew"


IN_A_FINALIZER = """
import signal
from launchers import cli

class Closing:
    def __del__(self):
        signal.raise_signal(signal.SIGINT)

def perform(words):
    Closing()
    while True:  # a signal right before a wait would not end the wait
        pass

cli.perform = perform
cli.main()
"""


def test_ctrl_c_in_a_finalizer_is_not_lost():
    """Python prints and drops what is raised there."""
    done = subprocess.run([sys.executable, "-c", IN_A_FINALIZER], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (130, "interrupted; the same command begins anew\n")


def test_a_fault_of_ours_is_not_hidden(idgenrec, monkeypatch):
    from launchers.jobs import local

    def launch(task, config, processes):
        raise RuntimeError("a bug")

    monkeypatch.setattr(local, "launch", launch)
    with pytest.raises(RuntimeError, match="a bug"):
        idgenrec("ids", "--generator", "g", "--shards", "s", "--out", "o")
