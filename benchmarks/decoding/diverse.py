"""Diverse beam search in blocks of items beside Hugging Face's own, one item at a time, as the reference does it."""

import json
import statistics
import subprocess
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.decoding.setting import Setting, in_turns
from benchmarks.tables import table
from pretrain.decoding.decoder import T5Decoder
from pretrain.decoding.diverse import DiverseConfig, diverse_search
from shards.tokenizer import EOS_ID

GROUPS, PENALTY, LONGEST, PEER_ITEMS = 10, 0.1, 9, 6
BLOCKS = (1, 16, 32)
PEER = Path(__file__).resolve().parents[2] / "tests" / "peers" / "hugging_face.py"


def diverse(setting: Setting) -> list[str]:
    """Items per second of first attempts and of retries, for which the encoder's output is at hand."""
    python = setting.options.peers / "bin" / "python"
    if not python.is_file():
        raise SystemExit(f"{python} is missing: run `make test-peers` once, or name the environment with --peers")
    rows = []
    for name, model in setting.models.items():
        with tempfile.TemporaryDirectory() as folder:
            model.save_pretrained(folder)
            found, theirs = measure(setting, T5Decoder(model), lambda folder=folder: ask(python, Path(folder), setting))
        rows.append([f"Hugging Face 4.56, one item at a time ({name})", *speed(theirs), "1.0"])
        for title, seconds in found.items():
            rows.append([f"ours, {title} ({name})", *speed(seconds), f"{theirs / seconds:.1f}"])
    return [
        "## Diverse beam search", "",
        f"{GROUPS} groups, penalty {PENALTY}, IDs of 1 to {LONGEST} tokens, texts of {setting.input_ids_BS.shape[1]} "
        "tokens. A retry of the other side costs what its first attempt costs. It stops by `early_stopping=True`; its "
        "time is that of `generate` alone, in a process of its own.", "",
        *table(["", "ms an item", "items/s", "times"], rows),
    ]  # fmt: skip


def speed(seconds: float) -> list[str]:
    """Milliseconds an item, and items per second."""
    return [f"{seconds * 1e3:.0f}", f"{1 / seconds:.1f}"]


def measure(setting: Setting, decoder: T5Decoder, peer: Callable[[], float]) -> tuple[dict[str, float], float]:
    """Seconds an item of ours, by block size and attempt, and of the peer; all take turns."""
    config = DiverseConfig(GROUPS, 1, LONGEST, EOS_ID, torch.tensor([0]))
    encoded_BSE = decoder.encode(setting.input_ids_BS, setting.mask_BS)
    peer_seconds: list[float] = []

    def search(encoded: Tensor, mask: Tensor) -> None:
        diverse_search(decoder, decoder.start(encoded, mask), torch.full((len(mask),), PENALTY), config)

    def retry(block: int) -> None:
        search(encoded_BSE[:block], setting.mask_BS[:block])

    def attempt(block: int) -> None:
        mask_BS = setting.mask_BS[:block]
        search(decoder.encode(setting.input_ids_BS[:block], mask_BS), mask_BS)

    sides = {f"{kind}{block}": partial(run, block) for block in BLOCKS for kind, run in
             (("attempt", attempt), ("retry", retry))}  # fmt: skip
    seconds = in_turns(setting.options.repeats, peer=lambda: peer_seconds.append(peer()), **sides)
    found = {}
    for block in BLOCKS:
        found[f"blocks of {block}, first attempt"] = seconds[f"attempt{block}"] / block
        found[f"blocks of {block}, retry"] = seconds[f"retry{block}"] / block
    return found, statistics.median(peer_seconds[1:])


def ask(python: Path, model: Path, setting: Setting) -> float:
    """Median seconds that the peer takes for one item."""
    prompts = [ids[mask.bool()].tolist() for ids, mask in zip(setting.input_ids_BS, setting.mask_BS, strict=True)]
    case = {"groups": GROUPS, "beams": 1, "penalty": PENALTY, "shortest": 1, "longest": LONGEST, "barred": [0]}
    request = {
        "model": str(model), "threads": setting.options.threads,
        "cases": [case | {"prompt": prompt} for prompt in prompts[:PEER_ITEMS]],
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        question, answer = Path(folder) / "request.json", Path(folder) / "answer.json"
        question.write_text(json.dumps(request))
        subprocess.run([python, PEER, question, answer], check=True)
        return statistics.median(found["seconds"] for found in json.loads(answer.read_text())["answers"])
