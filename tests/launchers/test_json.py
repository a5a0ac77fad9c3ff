"""`idgenrec --json COMMAND`: whatever a command prints, each line of standard output is one object."""

import ast
import json
from pathlib import Path

import pytest

from launchers.line import console

ROOT = Path(console.__file__).resolve().parent
RUN = "--shards SHARDS --out new --recommender.d-model 16 --generator.d-model 16"
IDS = "--ids.groups 3 --ids.tier-tokens 4 --ids.max-tiers 2 --ids.penalty-max 0.2"
TWO = "--train RAW/Garden --test RAW/Gifts"
SHORT = "--schedule.warmup-epochs 0.1 --schedule.generator-epochs 0.1 --schedule.recommender-epochs 0.1"
CHEAP = {
    "--version": {"result"},
    f"shard build {TWO} --out new --vocab-size 420": {"line", "what", "seconds_left", "memory_gb"},
    "shard inspect --shards SHARDS": {"result"},
    "shard inspect --shards SHARDS --verify": {"result", "what"},
    f"pretrain {RUN} --plan --device-tflops 1": {"result"},
    f"launch slurm --dry-run -- pretrain {RUN}": {"result"},
    f"launch local --dry-run -- pretrain {RUN}": {"result"},
    f"launch write --job job.json -- pretrain {RUN} --tracking-uri http://me:secret@host": {"result"},
    "report --results JUDGED/0": {"result", "file", "what", "seconds_left", "memory_gb"},
    "compare JUDGED/0 JUDGED/1 --out new": {"result", "file", "what", "seconds_left", "memory_gb"},
    "book --book BOOK --shards SHARDS": {"result"},
    "book --book BOOK --shards SHARDS --against BOOK": {"result"},
    "book --book BOOK --shards SHARDS --item Garden/ITEM": {"result"},
}
WITH_RANKS = {
    "doctor --shards SHARDS --run runs": {"result", "level", "what", "cure"},
    "export --checkpoint RUN --out new --shards SHARDS": {"what", "result", "file", "bytes", "checkpoint"},
    "track sync RUN": {"result", "folder", "lines", "run"},
    "recommend RUN --items items.jsonl --histories histories.jsonl --top 1": {"user", "items"},
    "recommend RUN --items items.jsonl --histories histories.jsonl --top 1 --out new": {"line", "result", "file"},
    f"ids --generator GENERATOR --shards SHARDS --catalogue Gifts --out new {IDS}": {"line", "what"},
    f"pretrain {RUN} {SHORT} {IDS}": {"line", "what"},
    "zeroshot --checkpoint RUN --shards SHARDS --out new": {"line", "what", "result", "file"},
}


@pytest.fixture(scope="session")
def given(shard_folder, book_of, items, tmp_path_factory):
    """What the words in capitals stand for: shards and their raw data, a book, two reports."""
    import made_up

    from zeroshot.judge.ranks import save_ranks
    from zeroshot.report.results import save

    root = tmp_path_factory.mktemp("given")
    few = {"idgenrec": 0.5, "popularity": 0.15}
    for seed in range(2):
        (root / str(seed)).mkdir()
        ranks = made_up.made_up_ranks(("Beauty",), 60, few, seed=5)
        kinds = {name: made_up.KINDS[name] for name in few}
        save(made_up.made_up_results(ranks, kinds, origin=made_up.provenance(seed)), root / str(seed) / "results.json")
        save_ranks(ranks, root / str(seed) / "ranks.parquet")
    book_of().save(root / "book.arrow")
    return {
        "SHARDS": shard_folder, "RAW": shard_folder.parent / "raw", "JUDGED": root, "BOOK": root / "book.arrow",
        "Garden/ITEM": items.items[0],
    }  # fmt: skip


@pytest.fixture
def objects(idgenrec, monkeypatch, tmp_path):
    """`objects(words, given)`: what a command says, each line of it read as JSON."""
    monkeypatch.setenv(console.OUTPUT, "")
    monkeypatch.chdir(tmp_path)

    def run(words, given):
        named = [next((word.replace(k, str(v)) for k, v in given.items() if k in word), word) for word in words.split()]
        status, out, err = idgenrec("--json", *named)
        assert status in ((0, 1) if words.startswith("doctor") else (0,)), err  # an sbatch without a SLURM is an error
        found = [json.loads(line) for line in out.splitlines()]
        assert found and all(isinstance(one, dict) for one in found)
        return found

    return run


@pytest.mark.parametrize("words", CHEAP)
def test_each_line_is_an_object(objects, given, words):
    said = objects(words, given)
    assert CHEAP[words] <= set().union(*said)
    assert "secret" not in json.dumps(said)


@pytest.mark.parametrize("words", WITH_RANKS)
def test_each_line_is_an_object_where_ranks_are_needed(objects, given, trained_run, tmp_path, words):
    from pretrain.training import checkpoint

    (tmp_path / "items.jsonl").write_text('{"item": "b1", "title": "Red desk lamp"}\n')
    (tmp_path / "histories.jsonl").write_text('{"user": "anna", "history": ["b1"]}\n')
    run = Path(trained_run[1])
    said = objects(words, {"RUN": run, "GENERATOR": checkpoint.resolve(run) / "generator"} | given)
    assert WITH_RANKS[words] <= set().union(*said)


def test_a_configuration_is_one_document(idgenrec, monkeypatch):
    monkeypatch.setenv(console.OUTPUT, "")
    status, out, _ = idgenrec("--json", "pretrain", "--shards", "s", "--out", "o", "--print-config")
    assert status == 0 and json.loads(out)["shards"] == "s"


def test_no_command_prints_past_the_console():
    """Help, completion and a printed configuration do: they are no lines of a command at work."""
    allowed = {"console.py": 5, "cli.py": 2, "round_trip.py": 1}
    for path in ROOT.glob("*.py"):
        calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
        prints = [
            call
            for call in calls
            if isinstance(call.func, ast.Name)
            and call.func.id == "print"
            and not any(keyword.arg == "file" for keyword in call.keywords)
        ]
        assert len(prints) == allowed.get(path.name, 0), f"{path.name} prints; Console().line or result instead"
