"""Export: plain transformers gives the checkpoint's logits; cards say what is known and their programs run."""

import contextlib
import dataclasses
import io
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from exports import PARTS, assert_same_logits, program_of
from safetensors.torch import load_file

from pretrain.config.run import ModelConfig, ScheduleConfig
from pretrain.export import example_programs, hugging_face
from pretrain.export.card_facts import PhaseDone
from pretrain.export.model_card import model_card
from pretrain.ids.book import Book
from pretrain.ids.drafts import write_drafts
from pretrain.model.t5 import build_model, content_hash, load_model
from pretrain.ranking.generate import GenerativeRecommender
from pretrain.runtime.world import World
from pretrain.training import checkpoint
from shards.manifest import file_sha256

ALONE = World(0, 1, torch.device("cpu"))


@pytest.fixture(scope="module")
def exported(trained_run, tmp_path_factory):
    """(checkpoint, exported folder) of the whole tiny run."""
    config, run = trained_run
    out = tmp_path_factory.mktemp("export") / "deep" / "out"
    return hugging_face.export(Path(run), out, "float32", config.shards), out


def test_the_bytes_are_the_checkpoints(exported, trained_run, tokenizer):
    source, out = exported
    assert source == checkpoint.best(Path(trained_run[1]))
    assert (out / "book.arrow").read_bytes() == (source / "book.arrow").read_bytes()
    for part in PARTS:
        weights = out / part / "model.safetensors"
        assert weights.read_bytes() == (source / part / "model.safetensors").read_bytes()
        assert content_hash(load_model(str(out / part), tokenizer)) == content_hash(
            load_model(str(source / part), tokenizer)
        )
        assert f"| `{part}/model.safetensors` | `{file_sha256(weights)}` |" in (out / "README.md").read_text()
        assert f"| `model.safetensors` | `{file_sha256(weights)}` |" in (out / part / "README.md").read_text()
        assert {file.stat().st_mode & 0o777 for file in (out / part).iterdir()} == {
            (out / "README.md").stat().st_mode & 0o777
        }
    assert sorted(os.listdir(out)) == ["README.md", "book.arrow", "generator", "recommender", "settings.json"]
    assert os.listdir(out.parent) == ["out"], "nothing is left beside"
    config = checkpoint.verify(source)["config"]
    assert json.loads((out / "settings.json").read_text()) == {
        name: config[name] for name in ("ids", "prompt", "search")
    }
    checkpoint.verify(source)


def test_plain_transformers_gives_the_same_logits(exported, untied_run, tokenizer, tmp_path):
    source = hugging_face.export(Path(untied_run[1]), tmp_path / "untied", "float32", None)
    for part in PARTS:
        weights = load_file(tmp_path / "untied" / part / "model.safetensors")
        assert not torch.equal(weights["lm_head.weight"], weights["shared.weight"])
    pairs = [(exported[0] / part, exported[1] / part) for part in PARTS]
    pairs += [(source / part, tmp_path / "untied" / part) for part in PARTS]
    assert assert_same_logits(sys.executable, pairs, tokenizer, tmp_path).startswith("5.")


def test_bf16_is_rounded_and_says_so(exported, tokenizer, tmp_path):
    source, whole = exported
    hugging_face.export(source, tmp_path / "out", "bf16", None)
    for part in PARTS:
        weights, before = (load_file(folder / part / "model.safetensors") for folder in (tmp_path / "out", source))
        assert weights.keys() == before.keys()
        assert all(torch.equal(weights[name], before[name].bfloat16()) for name in weights)
        assert any(not torch.equal(weights[name].float(), before[name]) for name in weights)
        assert json.loads((tmp_path / "out" / part / "config.json").read_text())["dtype"] == "bfloat16"
        assert "The weights are bfloat16" in (tmp_path / "out" / part / "README.md").read_text()
    assert (tmp_path / "out" / "book.arrow").read_bytes() == (whole / "book.arrow").read_bytes()
    assert "The weights are bfloat16" in (tmp_path / "out" / "README.md").read_text()
    assert "bfloat16" not in (whole / "README.md").read_text()


def test_the_cards_front_matter_is_the_hubs(exported):
    from huggingface_hub import ModelCard

    for folder in ("", *PARTS):
        found = ModelCard((exported[1] / folder / "README.md").read_text()).data.to_dict()
        assert (found["library_name"], found["pipeline_tag"]) == ("transformers", "text2text-generation")
        assert found["license"] == "unknown" and {"idgenrec", "recommender-system"} <= set(found["tags"])


def test_the_card_says_what_is_known(exported, trained_run, manifest, tokenizer, tmp_path):
    config, run = trained_run
    source, out = exported
    card, state = (out / "README.md").read_text(), checkpoint.verify(source)
    book = Book.load(source / "book.arrow", tokenizer)
    for member in manifest.train_members:
        counts = f"{member.num_users:,} | {member.num_items:,} | {member.num_interactions:,}"
        assert f"| {member.name} | plain | {counts} |" in card
    assert all(f"| {name} | {value:.4f} |" in card for name, value in state["validation"].items())
    assert f"{len(book)} items" in card and f"{book.summary()['mean_tokens']:.2f} tokens long" in card
    assert f"Seed: {config.seed}." in card and f"recommender phases: {config.recommender_lr}." in card
    assert "Not stated by the files" in card and "licence of these weights is unknown" in card
    assert book.generator_hash in card and "The exported generator wrote it." in card
    figures = [json.loads(line) for line in (Path(run) / "metrics.jsonl").read_text().splitlines()]
    ended = [line for line in figures if "teaching/share_of_weights_moved" in line]
    assert f"| teaching | {ended[0]['step']:,} | {ended[0]['teaching/share_of_weights_moved']:.2%} |" in card
    for secret in (str(out), str(source), str(run), os.path.expanduser("~") + "/"):
        assert secret not in card
    # A checkpoint alone, without its run and its shards, says less and not something else.
    shutil.copytree(source, tmp_path / "moved")
    hugging_face.export(tmp_path / "moved", tmp_path / "out", "float32", None)
    card = (tmp_path / "out" / "README.md").read_text()
    assert all(f"| {member.name} | {member.num_items:,} |" in card for member in manifest.train_members)
    assert "Users, interactions and sources are not in the checkpoint" in card
    assert "steps of each phase are not known" in card and "terms of the data are unknown" in card


def test_the_card_says_what_the_recommender_reads(exported, tmp_path, monkeypatch):
    """The whole card with a configuration that reads texts: in the words and in the program."""
    seen = []
    monkeypatch.setattr(hugging_face, "model_card", lambda facts: (seen.append(facts), "")[1])
    hugging_face.export(exported[0], tmp_path / "out", "float32", None)
    [facts] = seen
    reading = facts.config["prompt"] | {"history": "texts", "item_tokens": 7}
    card = model_card(dataclasses.replace(facts, config=facts.config | {"prompt": reading}))
    assert "reads the items' texts of a history" in card and "ids_of(told)[:7]" in program_of(card)
    assert "reads the textual IDs of a history" in model_card(facts)


def test_the_programs_of_the_cards_run(exported, trained_run, tokenizer, items):
    """In a process of their own, in the exported folder; they write what the ID job and the ranking write."""
    config, _ = trained_run
    source, out = exported
    said = {}
    together = "import os\n"  # one process: it imports transformers once
    for folder in ("", *PARTS):
        program = program_of((out / folder / "README.md").read_text())
        assert not re.search(r"(from|import) (pretrain|shards|zeroshot|launchers)\b", program)
        together += f"os.chdir({str(out / folder)!r})\nprint('in', {folder!r})\nexec({program!r}, {{}})\n"
    words = [sys.executable, "-P", "-c", together]
    found = subprocess.run(words, cwd=out, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    for line in found.stdout.splitlines():
        if line.startswith("in "):
            lines = said.setdefault(line[3:], [])
        else:
            lines.append(line)
    book = Book.load(source / "book.arrow", tokenizer)
    ids = [row_ids for name, row_ids in zip(book.items, book.token_ids, strict=True) if name.startswith("Garden/")]
    model = load_model(str(source / "recommender"), tokenizer)
    ours = GenerativeRecommender("ours", model, tokenizer, ids, config.prompt, config.search)
    assert_listed("\n".join(said[""][1:]), ours, book, range(len(ids)))
    assert len(set(said[""][1:])) == 5
    assert said["generator"] == said[""][:1] and said["generator"][0].startswith("ID: ")
    assert said["recommender"][0].startswith("next: ") and len(said["recommender"]) == 1
    # The drafts of real items, by the same program with another text.
    sample = items.take(np.arange(0, len(items), 6))
    generator = load_model(str(source / "generator"), tokenizer)
    drafts = write_drafts(generator, tokenizer, sample, config.ids, ALONE)
    program = program_of((out / "generator" / "README.md").read_text())
    assert example_programs.EXAMPLE_TEXT in program
    for text, draft in zip(sample.texts, drafts, strict=True):
        written = io.StringIO()
        with contextlib.chdir(out / "generator"), contextlib.redirect_stdout(written):
            exec(program.replace(example_programs.EXAMPLE_TEXT, text), {})
        assert written.getvalue() == f"ID: {tokenizer.decode(draft.tolist())}\n"


def assert_listed(printed, ours, book, rows):
    """What a card's program has printed is the list of `ours` for the history of the first three of these rows of the
    book; scores to 0.002, as the program computes rows in another shape."""
    ranking = ours.rank([np.arange(3)], ("all",))["all"]
    lines = [re.fullmatch(r"(next: .*) \((\S+)\)", line) for line in printed.splitlines()]
    assert [line and line[1] for line in lines] == [
        f"next: {book.items[rows[row]]}: {book.texts[rows[row]]}" for row in ranking.items_NK[0, :5]
    ]
    scores_K = [float(line[2]) for line in lines if line]
    np.testing.assert_allclose(scores_K, ranking.scores_NK[0, :5], rtol=0, atol=2e-3)


@pytest.mark.parametrize("user_id", ["with-items", "alone"])
def test_the_programs_name_the_user_where_the_run_did(exported, trained_run, tokenizer, items, user_id):
    config, (source, out) = trained_run[0], exported
    book = Book.load(source / "book.arrow", tokenizer)
    rows = [row for row, name in enumerate(book.items) if name.startswith("Garden/")]
    ids, prompt = [book.token_ids[row] for row in rows], dataclasses.replace(config.prompt, user_id=user_id)
    program = example_programs.both(config.ids.item_text_tokens, prompt, "Garden", 5)
    name, said = book.texts[rows[5]], io.StringIO()  # this little generator may have no word for the card's example
    with contextlib.chdir(out), contextlib.redirect_stdout(said):
        exec(program.replace('print("ID:", written)', f"written = {name!r}"), {})
    models = [load_model(str(source / part), tokenizer) for part in PARTS]
    ours = GenerativeRecommender(
        "ours", models[0], tokenizer, ids, prompt, config.search, items=items.take(np.array(rows)), generator=models[1]
    )
    assert ours.user_ids is not None
    ours.user_ids.write = lambda histories: [ids[5]] * len(histories)  # type: ignore[method-assign]
    assert_listed(said.getvalue(), ours, book, rows)
    alone, said = example_programs.recommender_alone(prompt, book.texts[:3]), io.StringIO()
    assert f'"user " + "{book.texts[0]}" + " : "' in alone
    with contextlib.chdir(out / "recommender"), contextlib.redirect_stdout(said):
        exec(alone, {})
    assert said.getvalue().startswith("next: ")


@pytest.mark.parametrize("user_id", ["none", "with-items"])
def test_the_programs_read_texts_where_the_run_did(exported, trained_run, tokenizer, items, user_id):
    """The card's three texts, cut inside a word, are read as the ranking reads them."""
    config, (source, out) = trained_run[0], exported
    book = Book.load(source / "book.arrow", tokenizer)
    rows = [row for row, name in enumerate(book.items) if name.startswith("Garden/")]
    prompt = dataclasses.replace(config.prompt, history="texts", item_tokens=7, user_id=user_id)
    name, said = book.texts[rows[5]], io.StringIO()
    program = example_programs.both(config.ids.item_text_tokens, prompt, "Garden", 5)
    with contextlib.chdir(out), contextlib.redirect_stdout(said):
        exec(program.replace('print("ID:", written)', f"written = {name!r}"), {})
    ids = [book.token_ids[row] for row in rows]
    tokens = [
        np.array(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in example_programs.EXAMPLE_TEXTS
    ]
    told = items.take(np.array(rows))
    told = dataclasses.replace(
        told,
        token_ids=np.concatenate([*tokens, *(told.tokens(row) for row in range(3, len(rows)))]).astype(np.int32),
        offsets=np.cumsum([0, *map(len, tokens), *(len(told.tokens(row)) for row in range(3, len(rows)))]),
    )
    models = [load_model(str(source / part), tokenizer) for part in PARTS]
    ours = GenerativeRecommender(
        "ours", models[0], tokenizer, ids, prompt, config.search, items=told, generator=models[1]
    )
    if ours.user_ids is not None:
        ours.user_ids.write = lambda histories: [ids[5]] * len(histories)  # type: ignore[method-assign]
    assert_listed(said.getvalue(), ours, book, rows)
    alone, said = example_programs.recommender_alone(prompt, book.texts[:3]), io.StringIO()
    with contextlib.chdir(out / "recommender"), contextlib.redirect_stdout(said):
        exec(alone, {})
    assert said.getvalue().startswith("next: ")


def test_a_run_can_start_from_it(exported, tokenizer):
    source, out = exported
    for part in PARTS:
        started = build_model(ModelConfig(start_from=str(out / part)), tokenizer, 0)
        assert content_hash(started) == content_hash(load_model(str(source / part), tokenizer))


def test_what_cannot_be_exported(exported, trained_run, run_ranks, train_config, tmp_path):
    source, out = exported
    with pytest.raises(ValueError, match="not an empty folder; give another --out"):
        hugging_face.export(source, out, "float32", None)
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="give another --out"):
        hugging_face.export(source, tmp_path / "file", "float32", None)
    with pytest.raises(ValueError, match="neither a checkpoint nor a run folder"):
        hugging_face.export(tmp_path, tmp_path / "out", "float32", None)
    shards = tmp_path / "shards"
    shards.mkdir()
    values = json.loads((Path(trained_run[0].shards) / "manifest.json").read_text()) | {"seed": 99}
    (shards / "manifest.json").write_text(json.dumps(values))
    with pytest.raises(ValueError, match="was not trained on .*manifests differ"):
        hugging_face.export(source, tmp_path / "out", "float32", str(shards))
    assert not (tmp_path / "out").exists()

    def teach(world, config):
        from pretrain.runtime.progress import Silent
        from pretrain.training.train import train

        return str(train(config, world, Silent()))

    schedule = ScheduleConfig(teaching_epochs=0.5, warmup_epochs=0, generator_epochs=0, recommender_epochs=0)
    [taught] = run_ranks(teach, 1, train_config("taught", schedule=schedule))
    with pytest.raises(ValueError, match="has no ID book yet"):
        hugging_face.export(Path(taught), tmp_path / "out", "float32", None)
    assert sorted(os.listdir(tmp_path)) == ["file", "shards"]


@pytest.mark.parametrize("name", ["recommender/model.safetensors", "generator/tokenizer.json", "book.arrow"])
def test_a_damaged_checkpoint_is_not_read(exported, tmp_path, monkeypatch, name):
    shutil.copytree(exported[0], tmp_path / "copy")
    path = tmp_path / "copy" / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)

    def loaded(*values):
        raise AssertionError("read before its hash was checked")

    for reader in ("load_tokenizer", "load_model"):
        monkeypatch.setattr(hugging_face, reader, loaded)
    with pytest.raises(ValueError, match=path.name):
        hugging_face.export(tmp_path / "copy", tmp_path / "out", "float32", None)
    assert os.listdir(tmp_path) == ["copy"]


def test_whole_or_not_at_all(exported, tmp_path, monkeypatch):
    (tmp_path / ".out.writing").mkdir()
    (tmp_path / ".out.writing" / "left by a killed export").write_text("")
    (tmp_path / "out").mkdir()

    def full(facts):
        raise OSError("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(hugging_face, "model_card", full)
        with pytest.raises(OSError, match="no space left"):
            hugging_face.export(exported[0], tmp_path / "out", "float32", None)
    assert os.listdir(tmp_path) == ["out"] and not os.listdir(tmp_path / "out")
    hugging_face.export(exported[0], tmp_path / "out", "float32", None)
    assert os.listdir(tmp_path) == ["out"] and len(os.listdir(tmp_path / "out")) == 5


def test_phases_that_had_ended():
    lines = [
        {"step": 4, "group": "teaching", "teaching/loss": 3.0},
        {"step": 9, "group": "teaching", "teaching/share_of_weights_moved": 0.5},
        {"step": 9, "group": "teaching", "teaching/share_of_weights_moved": 0.75},
        {"step": 12, "group": "ids", "ids/waves": 1},
        {"step": 20, "group": "recommender", "recommender/share_of_weights_moved": 1.0},
        {"step": 30, "group": "generator", "generator/share_of_weights_moved": 0.25},
    ]
    assert hugging_face.phases_done(lines, 29) == [PhaseDone("teaching", 9, 0.75), PhaseDone("recommender", 11, 1.0)]
    assert hugging_face.phases_done(lines, 30)[-1] == PhaseDone("generator", 10, 0.25)
    assert hugging_face.phases_done([], 5) == []
