"""The entry point of a rank, called by submitit as it would be on a cluster."""

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from patience import HANG

from pretrain.ids.book import Book
from pretrain.model.t5 import content_hash, load_model, save_model

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.processes
def test_submitit_runs_an_ids_job_on_two_ranks(small_model, tokenizer, shard_folder, tmp_path):
    import submitit

    save_model(small_model(2), tokenizer, tmp_path / "generator")
    config = {
        "generator": str(tmp_path / "generator"),
        "shards": str(shard_folder),
        "out": str(tmp_path / "books" / "gifts.arrow"),
        "catalogue": "Gifts",
        "ids": {"groups": 3, "penalty_max": 0.2, "tier_tokens": 4, "max_tiers": 2, "block_size": 8},
    }
    job_file = tmp_path / "job.json"
    job_file.write_text(json.dumps({"task": "ids", "config": config}))
    root, path = str(ROOT), str(job_file)

    def rank():  # a closure travels by value: the job needs no test module
        import os
        import sys

        import submitit

        sys.path.insert(0, root)
        submitit.helpers.TorchDistributedEnvironment().export(set_cuda_visible_devices=False)
        os.environ["MASTER_ADDR"] = "127.0.0.1"  # this machine's own name need not resolve

        from launchers.jobs.rank import main

        main(path)
        return int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])

    executor = submitit.LocalExecutor(folder=tmp_path / "logs")
    executor.update_parameters(tasks_per_node=2, timeout_min=round(HANG / 60))
    job = executor.submit(rank)
    assert job.results() == [(0, 2), (1, 2)]
    book = Book.load(tmp_path / "books" / "gifts.arrow", tokenizer)
    assert len(book) == 24 and all(item.startswith("Gifts/") for item in book.items)
    assert book.generator_hash == content_hash(load_model(config["generator"], tokenizer))
    log = Path(job.paths.folder)
    said = "".join(path.read_text() for path in sorted(log.glob("*_0_log.out")))
    silent = "".join(path.read_text() for path in sorted(log.glob("*_1_log.out")))
    assert "24 IDs" in said and "decodes, by rank" in said
    assert "24 IDs" not in silent, "only rank 0 speaks"


def test_an_unknown_task_and_an_unknown_key_are_refused(tmp_path, monkeypatch):
    from launchers.jobs import rank

    monkeypatch.setattr(rank, "_quiet", lambda: None)
    with pytest.raises(ValueError, match="unknown task 'dance'; known: pretrain, ids, zeroshot, shard"):
        rank.perform("dance", {})
    with pytest.raises(ValueError, match="unknown key 'generater' in IdsConfig; did you mean 'generator'"):
        rank.perform("ids", {"generater": "x"})


def test_a_mistake_is_one_line_and_status_2(tmp_path, monkeypatch, capsys):
    """Rank 0 speaks at once; the others wait, so that its failure stops them before they repeat it."""
    from launchers.jobs import rank

    job = tmp_path / "job.json"
    job.write_text(json.dumps({"task": "dance", "config": {}}))
    monkeypatch.setattr(rank, "_quiet", lambda: None)
    monkeypatch.setattr(rank.sys, "argv", ["rank", str(job)])
    waited = []
    monkeypatch.setattr(rank, "time", SimpleNamespace(sleep=waited.append))
    for number, pauses in (("0", 0), ("1", 1)):
        monkeypatch.setenv("RANK", number)
        with pytest.raises(SystemExit) as end:
            rank.cli()
        assert end.value.code == 2 and len(waited) == pauses
        assert capsys.readouterr().err == "error: unknown task 'dance'; known: pretrain, ids, zeroshot, shard\n"
    assert waited[0] >= 1


def test_a_mistake_that_all_ranks_know_is_said_by_rank_0(monkeypatch, capsys):
    """However long rank 0 takes to close its tracker: the end of another would stop it before it has spoken."""
    from launchers.jobs import rank
    from pretrain.runtime.world import Agreed
    from pretrain.tracking.tracker import PATIENCE

    def mistake():
        raise Agreed("the disk is full")

    waited = []
    monkeypatch.setattr(rank, "time", SimpleNamespace(sleep=waited.append))
    for number, said in (("0", "error: the disk is full\n"), ("1", "")):
        monkeypatch.setenv("RANK", number)
        with pytest.raises(SystemExit) as end:
            rank.ending(mistake)
        assert end.value.code == 2 and capsys.readouterr().err == said
    assert len(waited) == 1 and waited[0] > PATIENCE


@pytest.mark.slow
@pytest.mark.processes
def test_a_rank_leaves_nothing_behind_that_a_library_complains_of():
    """Objects are kept from collections while a rank works; libraries look for theirs when the process ends."""
    program = (
        "import duckdb\nfrom pretrain.runtime.world import joined_world\nwith joined_world():\n    raise SystemExit(2)"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", "")
