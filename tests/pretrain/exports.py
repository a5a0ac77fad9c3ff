"""What the tests of the export share: models asked by another Python, programs taken out of a card."""

import json
import re
import subprocess
from pathlib import Path

import numpy as np
import torch

from pretrain.model.t5 import load_model

PLAIN = Path(__file__).parent.parent / "peers" / "plain_logits.py"
INPUT_IDS, DECODER_IDS = [5, 60, 7, 122, 9, 1], [0, 9, 41, 17]
TEXT = "title: red desk lamp; brand: ACME  2; categories: home, lighting"
PARTS = ("recommender", "generator")


@torch.no_grad()
def our_logits(folder, tokenizer):
    """Logits of a checkpoint's model by this project's own loading."""
    model = load_model(str(folder), tokenizer)
    return model(input_ids=torch.tensor([INPUT_IDS]), decoder_input_ids=torch.tensor([DECODER_IDS])).logits[0].numpy()


def assert_same_logits(python, pairs, tokenizer, folder):
    """`pairs`: (model folder of a checkpoint, exported folder). Returns the version of transformers that was asked."""
    answer = folder / "answer.json"
    words = [python, PLAIN, answer, json.dumps(INPUT_IDS), json.dumps(DECODER_IDS), *(pair[1] for pair in pairs)]
    # Away from the worktree and without its path, so that nothing of ours can be imported.
    subprocess.run([*map(str, words)], check=True, cwd=folder)
    found = json.loads(answer.read_text())
    for (ours, exported), theirs in zip(pairs, found["logits"], strict=True):
        expected = our_logits(ours, tokenizer)
        assert np.abs(expected).max() > 0.01
        np.testing.assert_allclose(np.array(theirs), expected, atol=1e-5, rtol=0, err_msg=str(exported))
    assert found["ids"] == [tokenizer(TEXT)["input_ids"]] * len(pairs)
    return found["transformers"]


def program_of(card):
    """The one Python program of a card's Markdown."""
    [program] = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    return program
