"""An exported model gives the same logits and token ids under an older transformers, with a tied head or its own."""

import os
import subprocess
from pathlib import Path

import pytest
from exports import PARTS, assert_same_logits, program_of
from safetensors.torch import load_file

from pretrain.export.hugging_face import export


@pytest.fixture(scope="module")
def python():
    found = (
        Path(os.environ.get("IDGENREC_PEERS", Path(__file__).parent.parent.parent / ".venv-peers")) / "bin" / "python"
    )
    assert found.is_file(), f"{found} is missing: run `make test-peers`"
    return found.absolute()


def test_transformers_4_gives_the_same(python, trained_run, untied_run, tokenizer, tmp_path):
    pairs = []
    for name, (_, run) in {"tied": trained_run, "untied": untied_run}.items():
        source = export(Path(run), tmp_path / name, "float32", None)
        pairs += [(source / part, tmp_path / name / part) for part in PARTS]
    heads = [load_file(folder / "model.safetensors").get("lm_head.weight") for _, folder in pairs]
    assert [head is None for head in heads] == [True, True, False, False]
    assert assert_same_logits(python, pairs, tokenizer, tmp_path).startswith("4.56")


def test_the_programs_of_the_cards_run_there_too(python, trained_run, tmp_path):
    _, run = trained_run
    export(Path(run), tmp_path / "out", "float32", None)
    for part in PARTS:
        folder = tmp_path / "out" / part
        words = [python, "-P", "-c", program_of((folder / "README.md").read_text())]
        found = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=True)
        assert found.stdout.startswith({"recommender": "next: ", "generator": "ID: "}[part])
