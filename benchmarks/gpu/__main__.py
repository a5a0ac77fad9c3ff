"""One GPU: training steps, ranked lists and IDs a second, each beside Hugging Face on the same card, in one run.

Enters: a shard folder, and if given a T5 folder. Leaves: Markdown tables, printed and written to
docs/benchmarks/gpu.md. Must hold: both sides of a table have the same weights, samples and card; the device is waited
for before a clock is read.

    python -m benchmarks.gpu --shards SHARDS [--model T5] [SECTION ...]

Sections: train lists ids (all by default). It needs a GPU, for one to two minutes, and nothing but this environment.
"""

import argparse
import itertools
import platform
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.decoding.peer_tries import DictTrie
from benchmarks.gpu.train import model_of, steps_of, train, wait
from benchmarks.tables import table
from benchmarks.training.setting import Setting
from pretrain.config.ids import IdConfig
from pretrain.data.batches import text_batch
from pretrain.decoding.config import SearchConfig
from pretrain.decoding.constrained import beam_search
from pretrain.decoding.decoder import T5Decoder
from pretrain.decoding.trie import Trie
from pretrain.ids.job import make_book
from pretrain.model.t5 import on_device
from pretrain.runtime.progress import Silent
from pretrain.runtime.world import World, joined_world
from shards.tokenizer import EOS_ID

SECTIONS = ("train", "lists", "ids")
BEAM = 10


def lists(options: argparse.Namespace, setting: Setting, world: World) -> list[str]:
    decoder_model: Any = on_device(model_of(options, setting), world.device).eval()
    decoder_model.to(torch.bfloat16)
    decoder, ids = T5Decoder(decoder_model), [row.astype(np.int64) for row in setting.book.token_ids]
    trie, peer = Trie.build(ids, EOS_ID, decoder.vocab_size).to(world.device), DictTrie([row.tolist() for row in ids])
    batches = list(itertools.islice(steps_of(setting, world, options, 256), -(-options.users // 256)))
    prompts = [
        ids[mask > 0] for step in batches for ids, mask in zip(step[0].input_ids_BS, step[0].mask_BS, strict=True)
    ]
    prompts = sorted((prompt.numpy() for prompt in prompts[: options.users]), key=len)

    def search(size: int, static: bool | None) -> None:
        for first in range(0, len(prompts), size):
            chosen = prompts[first : first + size]
            batch = text_batch(chosen, [[]] * len(chosen), EOS_ID).to(world.device)
            state = decoder.start(decoder.encode(batch.input_ids_BS, batch.mask_BS), batch.mask_BS)
            beam_search(decoder, state, trie, SearchConfig(BEAM), static=static)

    def generate(count: int) -> None:
        batch = text_batch(prompts[:count], [[]] * count, EOS_ID).to(world.device)
        with torch.no_grad():
            decoder_model.generate(
                input_ids=batch.input_ids_BS, attention_mask=batch.mask_BS, num_beams=BEAM, num_return_sequences=BEAM,
                prefix_allowed_tokens_fn=peer, max_new_tokens=peer.depth, early_stopping=False, length_penalty=0.0,
                do_sample=False,
            )  # fmt: skip

    few = min(32, len(prompts))
    sides: dict[str, tuple[int, Callable[[], None]]] = {f"Hugging Face, {few} at once": (few, lambda: generate(few))}
    for size in (32, 64):
        for static in (True, False):
            what = "passes of one shape" if static else "live hypotheses alone"
            sides[f"ours, {size} at once, {what}"] = len(prompts), lambda size=size, static=static: search(size, static)
    rows, slowest = [], 0.0
    for name, (count, run) in sides.items():
        run()
        started = wait(world)
        run()
        speed = count / (wait(world) - started)
        slowest = slowest or speed
        rows.append([name, f"{speed:,.0f}", f"{speed / slowest:.1f}"])
        print(f"  {rows[-1]}", flush=True)
    return [
        "## Ranked lists", "",
        f"{len(ids):,} items, beam {BEAM}, {len(prompts):,} prompts of the stream, bf16, the second of two passes. "
        "Hugging Face's `generate` has a prefix function over a dictionary trie.", "",
        *table(["", "users/s", "times Hugging Face"], rows),
    ]  # fmt: skip


def ids(options: argparse.Namespace, setting: Setting, world: World) -> list[str]:
    items = setting.items.take(range(min(options.items, len(setting.items))))
    generator = on_device(model_of(options, setting), world.device)
    rows = []
    make_book(
        generator, setting.tokenizer, items.take(range(min(64, len(items)))), IdConfig(), world, Silent()
    )  # warms up
    for size in (32, 256):
        started = wait(world)
        book, _ = make_book(generator, setting.tokenizer, items, IdConfig(block_size=size), world, Silent())
        seconds = wait(world) - started
        rows.append([
            f"{size} items a call", f"{len(items):,}", f"{seconds:.1f}", f"{len(items) / seconds:.1f}",
            f"{len(set(book.texts)):,}",
        ])  # fmt: skip
        print(f"  {rows[-1]}", flush=True)
    return [
        "## Unique IDs by the generator", "", "Algorithm 1, retries included, float32.", "",
        *table(["", "items", "seconds", "items/s", "distinct IDs"], rows),
    ]  # fmt: skip


def header(options: argparse.Namespace, world: World) -> list[str]:
    parts_ = ["--shards SHARDS", *(["--model T5"] if options.model else []), *options.sections]
    libraries = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "deepspeed"))
    card = torch.cuda.get_device_name() if world.device.type == "cuda" else f"no GPU ({platform.machine()})"
    return [
        "# On one GPU", "",
        f"`python -m benchmarks.gpu {' '.join(parts_)}` on {card}, Python {platform.python_version()}, "
        f"{libraries}.", "",
    ]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sections", nargs="*", help=f"any of {', '.join(SECTIONS)}; none = all")
    parser.add_argument("--shards", required=True)
    parser.add_argument("--model", help="folder of a pretrained T5; none = random weights of that size")
    parser.add_argument("--batches", type=int, nargs="+", default=[64, 256], help="samples of a step")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--users", type=int, default=1024)
    parser.add_argument("--items", type=int, default=2048)
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks/gpu.md"))
    options = parser.parse_intermixed_args()
    unknown = set(options.sections) - set(SECTIONS)
    if unknown:
        parser.error(f"no section {', '.join(sorted(unknown))}; there are {', '.join(SECTIONS)}")
    makers = {"train": train, "lists": lists, "ids": ids}
    with joined_world() as world:
        setting, found = Setting.of(options), header(options, world)
        for section in options.sections or SECTIONS:
            written = makers[section](options, setting, world)
            print("\n".join(written), flush=True)
            found += written
            options.out.write_text("\n".join(found).rstrip() + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
