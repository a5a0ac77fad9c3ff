"""Recommender steps beside Hugging Face's Trainer: real tokens per second over the very same samples.

Enters: the setting of `training.py`. Leaves: a Markdown table. Must hold: both sides have the same weights, samples,
batch size, optimiser and cores, and the same loss before training, which is checked in every run.

Ours is what a run does: the stream, the batches and the engine with its optimiser. The peer is `trainer_loop.py` with
the Python of .venv-peers, in random order and with `group_by_length`. Sides take turns, pass by pass.
"""

import argparse
import itertools
import json
import multiprocessing
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from benchmarks.tables import table
from benchmarks.training.setting import Setting
from pretrain.config.run import PretrainConfig
from pretrain.data.batches import IGNORED, BatchMaker, TextBatch
from pretrain.data.micro_batches import interaction_steps
from pretrain.data.prompts import PromptBuilder
from pretrain.model.length_buckets import buckets_of
from pretrain.model.t5 import load_model
from pretrain.runtime.rendezvous import HeldPort
from pretrain.runtime.world import World, joined_world
from shards.manifest import TOKENIZER_FOLDER
from shards.stream.stream import Stream

RATE = 1e-4
THEIRS = {"Trainer, random order": False, "Trainer, group_by_length": True}


def config_of(options: argparse.Namespace, ranks: int) -> PretrainConfig:
    return PretrainConfig(
        options.shards,
        "",
        batch_size=options.batch,
        micro_batch_size=options.batch // ranks,
        threads=options.cores // ranks,
    )


def steps_of(
    setting: Setting, world: World, config: PretrainConfig, samples: int, window: int = 0
) -> Iterator[list[TextBatch]]:
    """The micro-batches of this rank, for the stream's first samples."""
    stream = Stream(config.shards, setting.manifest, config.seed, world.rank, world.size, length_window=window)
    prompts = PromptBuilder(setting.tokenizer, config.prompt)
    maker = BatchMaker(prompts, setting.book, setting.items, config.ids.item_text_tokens, config.seed)
    found: Any = interaction_steps("recommender", stream, maker, stream.start(), config, world)
    for _, micro_batches in itertools.islice(found, samples // config.batch_size):
        yield micro_batches


def one_rank(rank: int, ranks: int, port: int, options: argparse.Namespace, answers: multiprocessing.Queue) -> None:
    """One pass of ours, on one of `ranks` processes that share the cores."""
    from pretrain.training.engine import Engine
    from pretrain.training.objectives import RecommenderObjective

    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(ranks), "LOCAL_RANK": str(rank), "MASTER_PORT": str(port)}
    config = config_of(options, ranks)
    with joined_world(config.threads) as world:
        setting = Setting.of(options)
        objective = RecommenderObjective(load_model(options.model, setting.tokenizer))
        (first,) = steps_of(setting, world, config, options.batch)
        with torch.no_grad():
            loss, targets = world.sum(*(float(value) for value in objective(first[0])))
        engine = Engine(objective, config, world)
        engine.step(first, RATE)
        world.barrier()
        started = time.perf_counter(), time.process_time()
        for micro_batches in steps_of(setting, world, config, options.samples):
            engine.step(micro_batches, RATE)
        (core_seconds,) = world.sum(time.process_time() - started[1])
        if rank == 0:
            seconds = time.perf_counter() - started[0]
            answers.put({"seconds": seconds, "core_seconds": core_seconds, "loss": loss / targets})


def ours(options: argparse.Namespace, ranks: int) -> dict:
    """Seconds of one pass, and the loss before training."""
    held = HeldPort()
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    processes = [
        context.Process(target=one_rank, args=(rank, ranks, held.number, options, answers)) for rank in range(ranks)
    ]
    for process in processes:
        process.start()
    found = answers.get()
    for process in processes:
        process.join()
    return found


def theirs(options: argparse.Namespace, config: PretrainConfig, samples: list, group_by_length: bool) -> dict:
    """The same from the peer, and the places its collator padded to."""
    python = options.peers / "bin" / "python"
    if not python.is_file():
        raise SystemExit(f"{python} is missing: run `make test-peers` once, or name the environment with --peers")
    request = {
        "model": str(options.model), "tokenizer": str(Path(options.shards) / TOKENIZER_FOLDER),
        "threads": options.cores, "batch": options.batch, "learning_rate": RATE, "weight_decay": config.weight_decay,
        "clip_norm": config.clip_norm, "group_by_length": group_by_length, "samples": samples,
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        question, answer = Path(folder) / "request.json", Path(folder) / "answer.json"
        question.write_text(json.dumps(request))
        subprocess.run([python, Path(__file__).parent / "trainer_loop.py", question, answer], check=True)
        return json.loads(answer.read_text())


def rows_of(batch: TextBatch) -> list[tuple[list[int], list[int]]]:
    """Input and label token ids of each sample, without padding."""
    rows = zip(batch.input_ids_BS, batch.mask_BS, batch.labels_BT, strict=True)
    return [(ids[mask > 0].tolist(), labels[labels != IGNORED].tolist()) for ids, mask, labels in rows]


def places_of(batches: list[TextBatch]) -> int:
    """Places that our parts compute."""
    parts = [part for batch in batches for part in buckets_of(batch.mask_BS, batch.labels_BT)]
    return sum(part.tokens for part in parts)


def recommender(options: argparse.Namespace) -> list[str]:
    setting, config = Setting.of(options), config_of(options, 1)
    alone = World(0, 1, torch.device("cpu"))
    batches = [batch for step in steps_of(setting, alone, config, options.samples) for batch in step]
    samples = [row for batch in batches for row in rows_of(batch)]
    tokens = sum(len(inputs) + len(labels) for inputs, labels in samples)
    mine = {
        f"ours, {ranks} rank(s) of {options.cores // ranks} thread(s)": ranks for ranks in sorted({1, options.cores})
    }
    found: dict[str, list[dict]] = {name: [] for name in (*THEIRS, *mine)}
    for _ in range(options.rounds):
        for name in found:
            found[name].append(
                ours(options, mine[name]) if name in mine else theirs(options, config, samples, THEIRS[name])
            )
            print(f"  {name}: {found[name][-1]}", flush=True)
    losses = [answer["loss"] for answers in found.values() for answer in answers]
    if max(losses) / min(losses) - 1 > 1e-4:
        raise SystemExit(f"the sides differ before training, losses {losses}")
    padding = {name: 1 - tokens / found[name][0]["places"] for name in THEIRS}
    padding |= dict.fromkeys(mine, 1 - tokens / places_of(batches))

    def median(name: str, measure: str = "seconds") -> float:
        return statistics.median(answer[measure] for answer in found[name])

    random, grouped = THEIRS
    rows = [
        [name, f"{median(name):.1f}", f"{median(name, 'core_seconds'):.1f}", f"{tokens / median(name):,.0f}",
         f"{padding[name]:.1%}", f"{median(random) / median(name):.2f}", f"{median(grouped) / median(name):.2f}"]
        for name in found
    ]  # fmt: skip
    columns = ["", "seconds", "core seconds", "real tokens/s", "padding", "times Trainer", "times group_by_length"]
    versions = found[random][0]
    return [
        "## Recommender step", "",
        f"{len(samples):,} samples of {setting.members} ({tokens:,} tokens of inputs and labels, padding not counted; "
        f"prompts of {min(len(a) for a, _ in samples)} to {max(len(a) for a, _ in samples)} tokens), each once, in "
        f"batches of {options.batch}, the optimiser's step included, median of {options.rounds}. The peer is the "
        f"Trainer of transformers {versions['transformers']} with dynamic padding (torch {versions['torch']}); its "
        "groups are those of a large data set (50 batches). Ours reads the samples from the shards in random order and "
        "computes rows of like lengths together. All sides have the same loss before training within 1e-4.", "",
        *table(columns, rows),
    ]  # fmt: skip
