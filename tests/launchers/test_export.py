"""`idgenrec export`: from a run to folders that the other commands take."""

from pathlib import Path

from pretrain.ids.book import Book
from pretrain.training import checkpoint


def test_what_is_exported_writes_the_ids_of_another_catalogue(idgenrec, trained_run, tokenizer, tmp_path):
    config, run = trained_run
    out, source = tmp_path / "out", checkpoint.resolve(Path(run))
    status, said, err = idgenrec("export", "--checkpoint", run, "--out", out, "--shards", config.shards)
    assert (status, err) == (0, "")
    lines = [line for line in said.splitlines() if not line.startswith("  export: ")]
    assert "  export: 4 of 4 steps" in said
    assert lines[0] == f"{source} -> {out}"
    assert f"  recommender/model.safetensors  {(out / 'recommender/model.safetensors').stat().st_size:,} bytes" in lines
    books = {}
    for generator in (source / "generator", out / "generator"):
        file = tmp_path / f"{len(books)}.arrow"
        words = ["ids", "--generator", generator, "--shards", config.shards, "--catalogue", "Gifts", "--out", file]
        words += ["--ids.tier-tokens", 4, "--ids.penalty-max", 0.2, "--ids.max-tiers", 2, "--ids.groups", 3]
        status, _, err = idgenrec(*words)
        assert status == 0, err
        books[generator] = file.read_bytes()
    assert books[source / "generator"] == books[out / "generator"]
    exported = Book.load(tmp_path / "1.arrow", tokenizer)
    assert exported.generator_hash == Book.load(out / "book.arrow", tokenizer).generator_hash and len(exported)


def test_a_run_starts_from_what_was_exported(idgenrec, trained_run, tmp_path):
    config, run = trained_run
    out = tmp_path / "out"
    assert idgenrec("export", "--checkpoint", run, "--out", out)[0] == 0
    words = ["pretrain", "--shards", config.shards, "--out", tmp_path / "run"]
    words += ["--recommender.start-from", out / "recommender", "--generator.start-from", out / "generator"]
    words += ["--schedule.warmup-epochs", 0, "--schedule.generator-epochs", 0, "--schedule.recommender-epochs", 0.05]
    words += ["--ids.tier-tokens", 4, "--ids.penalty-max", 0.2, "--ids.max-tiers", 2, "--ids.groups", 3]
    words += ["--ids.item-text-tokens", 32, "--schedule.validation-users", 4]
    status, _, err = idgenrec(*words)
    assert status == 0, err
    [found] = checkpoint.checkpoints_of(tmp_path / "run")
    # The generator was not trained further: it wrote the same book again.
    assert (found / "book.arrow").read_bytes() == (out / "book.arrow").read_bytes()


def test_a_mistake_is_one_line(idgenrec, trained_run, tmp_path):
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").write_text("")
    for words, expected in (
        (("--checkpoint", trained_run[1], "--out", tmp_path / "taken"), "not an empty folder; give another --out"),
        (("--checkpoint", tmp_path / "nothing", "--out", tmp_path / "out"), "neither a checkpoint nor a run folder"),
        (("--checkpoint", trained_run[1], "--out", tmp_path / "out", "--shards", tmp_path), "manifest.json"),
    ):
        status, _, err = idgenrec("export", *words)
        assert status == 2 and err.startswith("error: ") and expected in err and len(err.splitlines()) == 1, err
