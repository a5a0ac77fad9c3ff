"""What must be the same however a run was disturbed, and which checkpoint must be its best.

Enters: checkpoints. Leaves: values to compare. Must hold: nothing here asks the product which checkpoint is the best.
"""

import json
from pathlib import Path

from safetensors.torch import load_file

from pretrain.training import checkpoint


def content(folder):
    """All that a checkpoint says of its step, whoever wrote it: state, files by hash, optimizer state by tensor."""
    state = checkpoint.verify(folder)
    files = json.loads((folder / checkpoint.FILES).read_text())
    moments = {
        (Path(name).parent.name, key): tensor.numpy().tobytes()
        for name in files
        if name.startswith("engines/")
        for key, tensor in load_file(folder / name).items()
    }
    named = {name: value for name, value in state.items() if name not in ("run_id", "world_size", "left_out")}
    rest = {name: digest for name, digest in files.items() if not name.startswith(("engines/", "state.json"))}
    return named, rest, moments


def best_of(expected, newest):
    """What the rule of one standard error takes of the states that were validated, up to a step. expected: contents of
    every step's checkpoint, by name."""
    top, least, chosen = -1.0, 0.0, newest
    for name, (state, _, _) in sorted(expected.items()):
        figures = state["validation"]
        if name <= newest and figures:
            if figures["NDCG@10"] > top:
                top, least = figures["NDCG@10"], figures["NDCG@10"] - figures["NDCG@10_stderr"]
            chosen = name if figures["NDCG@10"] >= least else chosen
    return chosen
