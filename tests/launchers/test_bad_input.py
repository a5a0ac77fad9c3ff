"""Bad input through the real command line: one line that says what to change, exit status 2, nothing half-written.

A row of the table is what a person gave and what is said to it. Ranks run in this process, so that a row takes a
moment. A full disk, missing permissions and Ctrl-C are in tests/system.
"""

import json
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

USERS = "u1 a b c d\nu2 b c d a\nu3 c d a b\nu4 d a b c\nu5 a c b d\n"
ITEMS = "a title: red lamp\nb title: blue chair\nc title: green table\nd title: white shelf\n"


@dataclass(frozen=True)
class Row:
    """What a person gives, and the words that the line must have. `files` are made first, in an empty folder."""

    words: str
    said: tuple[str, ...]
    files: dict[str, str | bytes]

    def __str__(self) -> str:
        return self.words


def row(words: str, *said: str, **files: str | bytes) -> Row:
    return Row(words, said, {name.replace("__", "/").replace("_dot_", "."): text for name, text in files.items()})


def raw(users: str | bytes = USERS, items: str | bytes = ITEMS) -> dict[str, Any]:
    """A data set in the plain layout."""
    return {"Games__user_sequence_dot_txt": users, "Games__item_plain_text_dot_txt": items}


def histories(items: str | bytes, users: str | bytes = '{"user": "anna", "history": ["b1"]}') -> dict[str, Any]:
    return {"i_dot_jsonl": items, "h_dot_jsonl": users}


ONE = '{"item": "b1", "title": "Red desk lamp"}\n'
BUILD = "shard build --train Games --out new --vocab-size 120"
RECOMMEND = "recommend RUN --items i.jsonl --histories h.jsonl --out new"
IDS = "ids --shards SHARDS --out new.arrow --catalogue Garden"
ZEROSHOT = "zeroshot --checkpoint RUN --shards SHARDS --out new"

TABLE: dict[str, list[Row]] = {
    "a folder that is not there": [
        row("shard build --train nowhere/Games --out new", "nowhere/Games is not a folder"),
        row("shard add --to nowhere --train Games", "nowhere/manifest.json", "missing", **raw()),
        row("shard inspect --shards nowhere", "nowhere/manifest.json", "missing"),
        row("pretrain --shards nowhere --out new", "nowhere/manifest.json", "missing"),
        row("pretrain --shards SHARDS --out new --recommender.start-from ./nowhere", "./nowhere", "no such folder"),
        row(f"{IDS} --generator ./nowhere", "./nowhere", "cannot load a T5"),
        row("ids --generator GENERATOR --shards nowhere --out new", "nowhere/", "missing"),
        row("zeroshot --checkpoint nowhere --shards SHARDS --out new", "nowhere is neither a checkpoint nor a run"),
        row("zeroshot --checkpoint RUN --shards nowhere --out new", "nowhere/manifest.json", "missing"),
        row("export --checkpoint nowhere --out new", "nowhere"),
        row("recommend nowhere --items i.jsonl --histories h.jsonl --top 1 --out new", "nowhere", **histories(ONE)),
        row("recommend RUN --items i.jsonl --histories h.jsonl --out new", "i.jsonl", "no file"),
        row("report --results nowhere", "nowhere/ranks.parquet", "missing"),
        row("compare nowhere elsewhere --out new", "nowhere/results.json", "no results"),
        row("book --book nowhere --shards SHARDS", "nowhere"),
        row("track sync nowhere", "nowhere", "tracking.json"),
    ],
    "a file where a folder is meant, and the other way round": [
        row("shard build --train Games/user_sequence.txt --out new", "user_sequence.txt is a file", **raw()),
        row("shard build --train . --out new", "holds folders alone", "name each data set: Games", **raw()),
        row("shard inspect --shards Games", "Games/manifest.json is missing", "name a shard folder", **raw()),
    ],
    "one folder for two things": [
        row("pretrain --shards SHARDS --out SHARDS", "is the shard folder", "a folder of its own"),
        row("zeroshot --checkpoint RUN --shards SHARDS --out SHARDS", "--out", "a folder of its own"),
    ],
    "a number that cannot be": [
        row("pretrain --shards SHARDS --out new --recommender-lr -1", "recommender_lr is -1.0"),
        row("pretrain --shards SHARDS --out new --generator-lr nan", "generator_lr is nan"),
        row("pretrain --shards SHARDS --out new --warmup-share 5", "warmup_share is 5.0", "between 0 and 1"),
        row("pretrain --shards SHARDS --out new --seed -1", "seed is -1"),
        row("demo --processes 0 --out new", "processes is 0"),
        row("shard build --train Games --out new --vocab-size 20", "vocab_size is 20", "need 98", **raw()),
    ],
    "words in the wrong place": [
        row("help", "unknown command help", "did you mean --help?"),
        row("build --train Games --out new", "unknown command build", "did you mean shard build?"),
        row("shard inspect SHARDS", "unknown word", "needs --shards"),
        row("report there", "unknown word there; ", "needs --results", there__file="x"),
        row("pretrain --json --shards SHARDS --out new", "idgenrec --json pretrain ..."),
        row("launch local pretrain --shards SHARDS --out new", "stands behind --", "launch local -- pretrain ..."),
        row("launch pretrain --shards SHARDS --out new", "launch local -- pretrain ..."),
        row("cancel", "name the run folders", "idgenrec cancel runs/first"),
    ],
    "sequences with unknown items": [
        row(BUILD, "Games", "item 'z'", **raw(users=USERS + "u6 a b z c\n")),
        row(RECOMMEND + " --top 1", "h.jsonl, line 1", "'z'", **histories(ONE, '{"user": "a", "history": ["z"]}')),
    ],
    "an empty item text": [
        row(BUILD, "item_plain_text.txt:2", "item 'b' has no text", **raw(items="a title: lamp\nb \n")),
        row(RECOMMEND, "i.jsonl, line 1", "has no text", **histories('{"item": "b1", "title": " "}')),
    ],
    "duplicates": [
        row(BUILD, "user_sequence.txt:6", "user 'u1' occurs a second time", **raw(users=USERS + "u1 a b c d\n")),
        row(BUILD, "item_plain_text.txt:5", "item 'a' occurs a second time", **raw(items=ITEMS + "a title: lamp\n")),
        row(RECOMMEND, "i.jsonl, line 2", "'b1' is there twice", **histories(ONE * 2)),
    ],
    "a catalogue of one item": [
        row(BUILD, "item_plain_text.txt", "1 item", **raw("u1 a a a a\n", "a title: lamp\n")),
        row(RECOMMEND, "--top is 10", "1 items", **histories(ONE)),
    ],
    "a checkpoint from another vocabulary": [
        row("zeroshot --checkpoint RUN --shards OTHER --out new", "another tokenizer", "--tokenizer"),
        row("pretrain --shards OTHER --out new --recommender.start-from GENERATOR", "another tokenizer", "--tokenizer"),
        row("ids --generator GENERATOR --shards OTHER --out new --catalogue Garden", "another tokenizer"),
        row("book --book BOOK --shards OTHER", "tokenizer"),
    ],
    "k larger than the catalogue": [
        row(RECOMMEND + " --top 2", "--top is 2", "1 items", **histories(ONE)),
        row(f"{ZEROSHOT} --search.beam 9", "lists of 9 items", "HR@10"),
        row(f"{ZEROSHOT} --candidates few.txt", "Gifts has 10 items to rank", "--tasks", few_dot_txt="FEW"),
        row(f"{ZEROSHOT} --tracking-uri localhost:5000", "localhost:5000", "write http://localhost:5000"),
        row("pretrain --shards SHARDS --out new --tracking-uri ./mlruns", "./mlruns", "write sqlite:///"),
        row(f"{IDS} --generator GENERATOR --ids.groups 4000", "groups is 4000", "pieces"),
    ],
    "a file that is not UTF-8": [
        row(BUILD, "user_sequence.txt:1", "not UTF-8", **raw(users=b"u\xe4 a b c d\n")),
        row(BUILD, "item_plain_text.txt:1", "not UTF-8", **raw(items=b"a title: K\xe4se\n")),
        row(RECOMMEND, "i.jsonl, line 1", "UTF-8", **histories(b'{"item": "b1", "title": "K\xe4se"}')),
        row(f"{ZEROSHOT} --candidates c.txt", "c.txt", "UTF-8", c_dot_txt=b"K\xe4se\n"),
        row(f"{ZEROSHOT} --tasks t.toml", "t.toml", "utf-8", t_dot_toml=b'name = "K\xe4se"\n'),
        row("pretrain --config c.json --shards s --out new", "c.json", "UTF-8", c_dot_json=b'{"out": "K\xe4se"}'),
    ],
    "a key that does not exist": [
        row("pretrain --config c.json --shards s --out new", "batch_size", c_dot_json='{"batch_sise": 1}'),
        row("pretrain --shards s --out new --batch-sise 1", "--batch-sise", "--batch-size"),
    ],
    "an output that exists": [
        row("shard build --train Games --out Games", "Games exists", **raw()),
        row("ids --generator GENERATOR --shards SHARDS --out b.arrow", "b.arrow exists", "--out", b_dot_arrow="x"),
        row("export --checkpoint RUN --out there", "there", there__file="x"),
        row("demo --out there", "there exists", there__file="x"),
        row("pretrain --shards SHARDS --out RUN --batch-size 8", "batch_size"),
        row("launch write --job j.json -- pretrain --shards SHARDS --out new", "j.json exists", j_dot_json="{}"),
        row(f"{RECOMMEND} --top 1 --out there", "there is a folder", there__file="x", **histories(ONE)),
    ],
    "a port in use": [
        row("pretrain --shards SHARDS --out new PORT", "127.0.0.1:PORT", "MASTER_PORT"),
    ],
}  # fmt: skip


@pytest.fixture(scope="session")
def given(trained_run, shard_folder, tmp_path_factory):
    """A run, its shards, and shards with another vocabulary."""
    from pretrain.training import checkpoint
    from shards.build.build import build
    from shards.config import BuildConfig

    other = tmp_path_factory.mktemp("other") / "shards"
    raw_folder = shard_folder.parent / "raw"
    build(BuildConfig(str(other), (str(raw_folder / "Garden"),), (str(raw_folder / "Gifts"),), vocab_size=300))
    best = checkpoint.best(Path(trained_run[1]))
    assert best is not None
    return {
        "RUN": trained_run[1], "SHARDS": str(shard_folder), "OTHER": str(other), "GENERATOR": str(best / "generator"),
        "BOOK": str(best / "book.arrow"),
    }  # fmt: skip


@pytest.fixture
def ranks_here(monkeypatch):
    """A job's only rank runs in this process."""
    from launchers.jobs import local, rank

    def launch(task: str, config: dict[str, Any], processes: int) -> None:
        assert processes == 1
        try:
            rank.ending(lambda: rank.perform(task, json.loads(json.dumps(config))))
        except SystemExit as end:
            raise local.RankFailed(0, int(end.code or 0)) from end

    for name, value in (("RANK", "0"), ("WORLD_SIZE", "1"), ("LOCAL_RANK", "0"), ("MASTER_ADDR", "127.0.0.1")):
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("MASTER_PORT", raising=False)
    monkeypatch.setattr(local, "launch", launch)


def listing(folder: Path) -> dict[str, int]:
    """Every file with its size. What a build keeps beside its output is none: the next build goes on with it, or throws
    it away where the input has changed."""
    found = (path for path in sorted(folder.rglob("*")) if ".new.building" not in path.parts)
    return {str(path): path.stat().st_size if path.is_file() else -1 for path in found}


@pytest.mark.parametrize(("kind", "one"), [(kind, one) for kind, rows in TABLE.items() for one in rows], ids=str)
def test_bad_input_is_one_line(
    idgenrec: Callable, given: dict[str, str], ranks_here: None, monkeypatch: Any, tmp_path: Path, kind: str, one: Row
) -> None:
    monkeypatch.chdir(tmp_path)
    values = SimpleNamespace(**given)
    for name, text in one.files.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        if text == "FEW":
            from shards.manifest import Manifest
            from shards.tables import load_items

            gifts = load_items(values.SHARDS, Manifest.load(values.SHARDS), "Gifts").items
            text = "\n".join(gifts[:10])
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    words = [given.get(word, word) for word in one.words.split()]
    said = list(one.said)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        if "PORT" in words:
            words.remove("PORT")
            port = str(taken.getsockname()[1])
            monkeypatch.setenv("MASTER_PORT", port)
            said = [part.replace(":PORT", f":{port}") for part in said]
        before = listing(tmp_path), listing(Path(values.RUN))
        status, _, err = idgenrec(*words)
    errors = [line for line in err.splitlines() if line.startswith("error: ")]
    assert status == 2 and len(errors) == 1 and "Traceback" not in err, f"{kind}: {status}\n{err}"
    assert not [part for part in said if part not in errors[0]], errors[0]
    assert (listing(tmp_path), listing(Path(values.RUN))) == before, "something half-written is left"
