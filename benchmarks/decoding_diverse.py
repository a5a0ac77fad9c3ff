"""Diverse beam search in blocks of items beside Hugging Face's own, one item at a time, as the reference does it."""

import json
import subprocess
import tempfile
from pathlib import Path

import torch

from benchmarks.decoding import Setting, in_turns, table
from pretrain.decoding.decoder import T5Decoder
from pretrain.decoding.diverse import DiverseConfig, diverse_search
from shards.tokenizer import EOS_ID

GROUPS, PENALTY, LONGEST, PEER_ITEMS = 10, 0.1, 9, 6
PEER = Path(__file__).resolve().parents[1] / "tests" / "peers" / "hugging_face.py"


def diverse(setting: Setting) -> list[str]:
    """Items per second of first attempts and of retries, for which the encoder's output is at hand."""
    python = setting.options.peers / "bin" / "python"
    if not python.is_file():
        raise SystemExit(f"{python} is missing: run `make test-peers` once, or name the environment with --peers")
    rows = []
    for name, model in setting.models.items():
        decoder = T5Decoder(model)
        config = DiverseConfig(GROUPS, 1, LONGEST, EOS_ID, torch.tensor([0]))
        with tempfile.TemporaryDirectory() as folder:
            model.save_pretrained(folder)
            peer_seconds: list[float] = []

            def hugging_face(folder: str = folder, seconds: list[float] = peer_seconds) -> None:
                seconds.append(ask(python, Path(folder), setting))

            input_ids_BS, mask_BS = setting.input_ids_BS, setting.mask_BS
            encoded_BSE = decoder.encode(input_ids_BS, mask_BS)
            sides = {}
            for block in (1, 16, 32):
                ids, mask, encoded = input_ids_BS[:block], mask_BS[:block], encoded_BSE[:block]
                penalty_B = torch.full((block,), PENALTY)

                def retry(encoded=encoded, mask=mask, penalty_B=penalty_B) -> None:
                    diverse_search(decoder, decoder.start(encoded, mask), penalty_B, config)

                def attempt(ids=ids, mask=mask, penalty_B=penalty_B) -> None:
                    diverse_search(decoder, decoder.start(decoder.encode(ids, mask), mask), penalty_B, config)

                sides |= {f"attempt{block}": attempt, f"retry{block}": retry}
            seconds = in_turns(setting.options.repeats, peer=hugging_face, **sides)
        theirs = sorted(peer_seconds[1:])[len(peer_seconds[1:]) // 2]
        rows.append(
            [f"Hugging Face 4.56, one item at a time ({name})", f"{theirs * 1e3:.0f}", f"{1 / theirs:.1f}", "1.0"]
        )
        for side in sides:
            kind, block = ("retry", side[5:]) if side.startswith("retry") else ("first attempt", side[7:])
            mine = seconds[side] / int(block)
            rows.append([
                f"ours, blocks of {block}, {kind} ({name})", f"{mine * 1e3:.0f}", f"{1 / mine:.1f}", f"{theirs / mine:.1f}"
            ])  # fmt: skip
    return [
        "## Diverse beam search", "",
        f"{GROUPS} groups, penalty {PENALTY}, IDs of 1 to {LONGEST} tokens, texts of {setting.input_ids_BS.shape[1]} tokens. "
        "A retry of the other side costs what its first attempt costs. It stops by `early_stopping=True`; its time is that "
        "of `generate` alone, in a process of its own.", "",
        *table(["", "ms an item", "items/s", "times"], rows),
    ]  # fmt: skip


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
        seconds = sorted(found["seconds"] for found in json.loads(answer.read_text())["answers"])
    return seconds[len(seconds) // 2]
