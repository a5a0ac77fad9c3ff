"""Decoding beside its peers, in one run: users, the trie's step, ten million items, diverse search, a profile.

Enters: files of real IDs (recombined to catalogues of any size), a T5 tokenizer, and if given a T5 folder. Leaves:
Markdown tables, printed and written to docs/benchmarks/decoding.md. Must hold: both sides of a row have the same model,
threads, prompts and catalogue, and take turns, so that a busy machine hurts both.

    python -m benchmarks.decoding --ids FILE.txt.gz ... --tokenizer T5 [--model T5] [--peers .venv-peers] [SECTION ...]

Sections: users trie scale diverse profile (all by default). `diverse` needs the environment that `make test-peers`
makes: the newest transformers that still has diverse beam search.
"""

import argparse
import os
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor
from transformers.models.t5.configuration_t5 import T5Config
from transformers.models.t5.modeling_t5 import T5ForConditionalGeneration

from benchmarks.catalogues import RealIds
from pretrain.config.prompt import PromptConfig
from pretrain.data.batches import text_batch
from pretrain.data.prompts import PromptBuilder
from shards.tokenizer import EOS_ID, load_tokenizer

SECTIONS = ("users", "trie", "scale", "diverse", "profile")
CATALOGUE, PROMPT_TOKENS, BEAM = 233_323, 128, 20


@dataclass(frozen=True)
class Setting:
    """What every section shares: real IDs, the catalogue of the paper's Fusion size, models by name, prompts."""

    real: RealIds
    ids: pa.LargeListArray
    models: dict[str, T5ForConditionalGeneration]
    input_ids_BS: Tensor
    mask_BS: Tensor
    tokenizer: Any
    options: argparse.Namespace


def t5_small() -> T5ForConditionalGeneration:
    """The shape of T5-small with seeded random weights: 60.5 million parameters, a tied head of 32,128 rows."""
    torch.manual_seed(0)
    shape: dict[str, Any] = {
        "vocab_size": 32128, "d_model": 512, "d_kv": 64, "d_ff": 2048, "num_layers": 6, "num_heads": 8,
        "dropout_rate": 0.0, "decoder_start_token_id": 0, "pad_token_id": 0, "eos_token_id": EOS_ID,
    }  # fmt: skip
    return T5ForConditionalGeneration(T5Config(**shape)).eval()


def prepare(options: argparse.Namespace) -> Setting:
    tokenizer = load_tokenizer(options.tokenizer)
    real = RealIds(options.ids, tokenizer)
    ids = real.recombine(options.items)
    models = {"T5-small's shape, random weights": t5_small()}
    if options.model:
        model = T5ForConditionalGeneration.from_pretrained(options.model, dtype=torch.float32).eval()
        models[f"pretrained, {sum(p.numel() for p in model.parameters()) / 1e6:.0f} million"] = model
    prompts = PromptBuilder(tokenizer, PromptConfig(max_history=30, max_tokens=PROMPT_TOKENS))
    draw = np.random.default_rng(1)
    histories = [ids.take(pa.array(draw.integers(0, len(ids), 30))).to_pylist() for _ in range(options.users)]
    built = [prompts.build([np.array(item) for item in history], 0).tokens_S for history in histories]
    batch = text_batch(built, [[]] * len(built), prompts.eos)
    return Setting(real, ids, models, batch.input_ids_BS, batch.mask_BS, tokenizer, options)


def in_turns(repeats: int, **sides: Callable[[], Any]) -> dict[str, float]:
    """Median seconds of each side over `repeats` rounds, after one round that does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(repeats + 1):
        for name, run in sides.items():
            started = time.perf_counter()
            run()
            if turn:
                seconds[name].append(time.perf_counter() - started)
    return {name: statistics.median(values) for name, values in seconds.items()}


def table(columns: list[str], rows: list[list[str]]) -> list[str]:
    """A Markdown table, numbers to the right."""
    marks = ["---", *["---:"] * (len(columns) - 1)]
    return ["| " + " | ".join(cells) + " |" for cells in (columns, marks, *rows)] + [""]


def header(options: argparse.Namespace) -> list[str]:
    parts = ["--ids IDS...", "--tokenizer T5", *(["--model T5"] if options.model else []), *options.sections]
    libraries = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "numpy"))
    return [
        "# Decoding", "",
        f"`python -m benchmarks.decoding {' '.join(parts)}` on {options.threads} cores ({platform.machine()}, load "
        f"{os.getloadavg()[0]:.1f} when it began), Python {platform.python_version()}, {libraries}. float32. Times are "
        f"medians of {options.repeats} rounds in which both sides take turns.", "",
    ]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sections", nargs="*", help=f"any of {', '.join(SECTIONS)}; none = all")
    parser.add_argument("--ids", type=Path, nargs="+", required=True, help="files of real IDs: item word word ...")
    parser.add_argument("--tokenizer", required=True, help="folder of a T5 tokenizer")
    parser.add_argument("--model", help="folder of a pretrained T5, as a second model")
    parser.add_argument("--peers", type=Path, default=Path(".venv-peers"), help="environment of the older transformers")
    parser.add_argument("--items", type=int, default=CATALOGUE)
    parser.add_argument("--users", type=int, default=32)
    parser.add_argument("--largest", type=int, default=10_000_000, help="catalogue that `scale` ends with")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks/decoding.md"))
    options = parser.parse_intermixed_args()
    unknown = set(options.sections) - set(SECTIONS)
    if unknown:
        parser.error(f"no section {', '.join(sorted(unknown))}; there are {', '.join(SECTIONS)}")
    torch.set_num_threads(options.threads)
    from benchmarks import decoding_diverse, decoding_trie, decoding_users

    makers = {
        "users": decoding_users.users, "trie": decoding_trie.step, "scale": decoding_trie.scale,
        "diverse": decoding_diverse.diverse, "profile": decoding_users.profile,
    }  # fmt: skip
    setting, lines = prepare(options), header(options)
    for section in options.sections or SECTIONS:
        found = makers[section](setting)
        print("\n".join(found), flush=True)
        lines += found
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
