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
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.decoding import table
from benchmarks.peer_tries import DictTrie
from benchmarks.training import Setting
from launchers.recipes import SMALL_SHAPE
from pretrain import parts
from pretrain.batches import BatchMaker, TextBatch, text_batch
from pretrain.config import EngineConfig, ModelConfig, PretrainConfig
from pretrain.decoding.config import SearchConfig
from pretrain.decoding.constrained import beam_search
from pretrain.decoding.decoder import T5Decoder
from pretrain.decoding.trie import Trie
from pretrain.engine import Engine
from pretrain.feed import interaction_steps
from pretrain.flops import batch_flops
from pretrain.ids.config import IdConfig
from pretrain.ids.job import make_book
from pretrain.models import build_model, on_device
from pretrain.objectives import RecommenderObjective
from pretrain.prompts import PromptBuilder
from pretrain.reporter import Silent
from pretrain.watch import known_peak
from pretrain.world import World, joined_world
from shards.stream import Stream
from shards.tokenizer import EOS_ID

SECTIONS = ("train", "lists", "ids")
RATE, BEAM = 1e-4, 10


def wait(world: World) -> float:
    """The time, once the device has done what it was asked."""
    if world.device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def model_of(options: argparse.Namespace, setting: Setting) -> Any:
    start = ModelConfig(start_from=options.model) if options.model else SMALL_SHAPE
    return build_model(start, setting.tokenizer, 0)


def steps_of(setting: Setting, world: World, options: argparse.Namespace, batch: int) -> Iterator[list[TextBatch]]:
    """Micro-batches of the stream, one to a step, in windows of like lengths."""
    config = PretrainConfig(options.shards, "", batch_size=batch, micro_batch_size=batch, length_window=256)
    stream = Stream(options.shards, setting.manifest, 0, length_window=256)
    prompts = PromptBuilder(setting.tokenizer, config.prompt)
    maker = BatchMaker(prompts, setting.book, setting.items, config.ids.item_text_tokens, 0)
    found: Any = interaction_steps("recommender", stream, maker, stream.start(), config, world)
    for _, micro_batches in found:
        yield micro_batches


def ours(options: argparse.Namespace, setting: Setting, world: World, batch: int, rows: int) -> Callable[[Any], None]:
    """A step of the engine; `rows`: about so many rows a part."""
    parts.ROWS[world.device.type] = rows
    config = PretrainConfig(
        options.shards, "", batch_size=batch, micro_batch_size=batch, engine=EngineConfig(precision="bf16")
    )
    objective = RecommenderObjective(on_device(model_of(options, setting), world.device))
    engine = Engine(objective, config, world)
    return lambda micro_batches: engine.step(micro_batches, RATE) and None


def theirs(options: argparse.Namespace, setting: Setting, world: World) -> Callable[[Any], None]:
    """A step as one writes it: Hugging Face's model and loss in autocast, torch's AdamW, clipping."""
    model = on_device(model_of(options, setting), world.device).train()
    optimiser = torch.optim.AdamW(model.parameters(), lr=RATE, fused=True)

    def step(micro_batches: Any) -> None:
        batch = micro_batches[0].to(world.device)
        with torch.autocast(world.device.type, torch.bfloat16):
            loss = model(input_ids=batch.input_ids_BS, attention_mask=batch.mask_BS, labels=batch.labels_BT).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad()
        loss.item()  # as a training loop prints it

    return step


def train(options: argparse.Namespace, setting: Setting, world: World) -> list[str]:
    rows, peak = [], known_peak(world.device)
    shape = model_of(options, setting).config
    sides = [(batch, part) for batch in options.batches for part in (64, 1024)]
    for batch, part in [*((batch, 0) for batch in options.batches), *sides]:
        step = ours(options, setting, world, batch, part) if part else theirs(options, setting, world)
        batches = list(itertools.islice(steps_of(setting, world, options, batch), options.steps + 5))
        if world.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        for micro_batches in batches[:5]:
            step(micro_batches)
        started = wait(world)
        for micro_batches in batches[5:]:
            step(micro_batches)
        seconds = wait(world) - started
        flops = sum(batch_flops(micro[0], shape, shape) for micro in batches[5:]) / seconds
        gigabytes = torch.cuda.max_memory_allocated() / 1e9 if world.device.type == "cuda" else 0.0
        name = f"ours, about {part} rows a part" if part else "Hugging Face, autocast, AdamW"
        rows.append([
            name, f"{batch}", f"{options.steps / seconds:.1f}", f"{options.steps * batch / seconds:,.0f}",
            f"{flops / 1e12:.1f}", f"{flops / peak / 1e12:.1%}" if peak else "", f"{gigabytes:.1f}",
        ])  # fmt: skip
        print(f"  {rows[-1]}", flush=True)
    columns = ["", "batch", "steps/s", "samples/s", "model TFLOP/s", "of the peak", "GB"]
    return [
        "## Recommender steps", "",
        f"bf16, {options.steps} steps after 5 that do not count, samples of {setting.members} in windows of like "
        "lengths, optimiser included.", "",
        *table(columns, rows),
    ]  # fmt: skip


def lists(options: argparse.Namespace, setting: Setting, world: World) -> list[str]:
    decoder_model = on_device(model_of(options, setting), world.device).to(torch.bfloat16).eval()
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
    for size in (32, 256):
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
