"""The ID job end to end on real item texts, beside the one-at-a-time loop on the same model and the same two cores.

Enters: a shard folder, a generator, an environment with an older Hugging Face. Leaves: a Markdown table, printed and
written to docs/benchmarks/ids.md. Must hold: retries are included on every side, and every book is unique.

    python -m benchmarks.ids.job --shards SHARDS --catalogue Beauty --generator T5 [--items 384] [--peers .venv-peers]

Before it: `make test-peers` (the environment), `idgenrec shard build ... --tokenizer T5` (the shards). With --whole the
job runs once more, on the whole catalogue.
"""

import argparse
import dataclasses
import json
import multiprocessing
import os
import platform
import resource
import subprocess
import tempfile
from pathlib import Path

import torch

from benchmarks.tables import table
from pretrain.config.ids import IdConfig
from pretrain.ids.blocks import attempt_of
from pretrain.ids.book import Book
from pretrain.ids.job import JobReport, make_book
from pretrain.ids.writer import vocabulary_masks
from pretrain.model.t5 import load_model
from pretrain.runtime.progress import Silent
from pretrain.runtime.rendezvous import HeldPort
from pretrain.runtime.world import joined_world
from shards.manifest import TOKENIZER_FOLDER, Manifest
from shards.tables import ItemTable, load_items
from shards.tokenizer import load_tokenizer

CORES = 2


class Said(Silent):
    """Prints progress: the whole catalogue takes a while."""

    def progress(self, what: str, done: int, total: int, unit: str, note: str = "") -> None:
        print(f"  {done:,} of {total:,} {unit}, {note}", flush=True)


def items_of(options: argparse.Namespace, number: int | None) -> ItemTable:
    """The first items of the catalogue, or all."""
    items = load_items(options.shards, Manifest.load(options.shards), options.catalogue)
    return items if number is None else items.take(range(min(number, len(items))))


def one_rank(
    rank: int, ranks: int, port: int, options: argparse.Namespace, config: IdConfig, number: int | None,
    answers: multiprocessing.Queue,
) -> None:  # fmt: skip
    """Our job on one of `ranks` processes that share the cores."""
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(ranks), "LOCAL_RANK": str(rank), "MASTER_PORT": str(port)}
    with joined_world(max(1, CORES // ranks)) as world:
        tokenizer = load_tokenizer(Path(options.shards) / TOKENIZER_FOLDER)
        generator, items = load_model(options.generator, tokenizer), items_of(options, number)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
        reporter = Said() if number is None and rank == 0 else Silent()
        book, report = make_book(generator, tokenizer, items, config, world, reporter)
        peak = world.gather(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3)
        if rank == 0:
            answers.put((book, report, before, max(peak)))


def ours(
    options: argparse.Namespace, ranks: int, config: IdConfig, number: int | None
) -> tuple[Book, JobReport, float, float]:
    """Book, report, and megabytes of a rank before the job and at its peak."""
    held = HeldPort()
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    processes = [
        context.Process(target=one_rank, args=(rank, ranks, held.number, options, config, number, answers))
        for rank in range(ranks)
    ]
    for process in processes:
        process.start()
    found = answers.get()
    for process in processes:
        process.join()
    return found


def theirs(options: argparse.Namespace, config: IdConfig) -> dict:
    """The loop of `id_loop.py`, with both cores."""
    python = options.peers / "bin" / "python"
    if not python.is_file():
        raise SystemExit(f"{python} is missing: run `make test-peers` once, or name the environment with --peers")
    tokenizer = load_tokenizer(Path(options.shards) / TOKENIZER_FOLDER)
    items = items_of(options, options.items)
    _, forbidden_V = vocabulary_masks(tokenizer, load_model(options.generator, tokenizer))
    tries = [attempt_of(index, config) for index in range(config.num_attempts)]
    attempts = []
    for attempt in tries:
        shortest, longest = config.tier_range(attempt.tier)
        attempts.append({"penalty": attempt.penalty, "shortest": shortest, "longest": longest})
    request = {
        "model": str(options.generator), "tokenizer": str(Path(options.shards) / TOKENIZER_FOLDER), "threads": CORES,
        "options": config.options(), "barred": forbidden_V.nonzero().squeeze(1).tolist(), "attempts": attempts,
        "items": [items.tokens(row)[: config.item_text_tokens - 1].tolist() for row in range(len(items))],
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        question, answer = Path(folder) / "request.json", Path(folder) / "answer.json"
        question.write_text(json.dumps(request))
        subprocess.run([python, Path(__file__).parent / "loop.py", question, answer], check=True)
        return json.loads(answer.read_text())


def row_of(name: str, items: int, seconds: float, decodes: int, second: float, base: float, idle: str) -> list[str]:
    speed = items / seconds
    return [name, f"{seconds:.1f}", f"{speed:.2f}", f"{speed / base:.1f}", f"{decodes:,}", f"{second:.1%}", idle]


def row_of_ours(name: str, book: Book, report: JobReport, base: float) -> list[str]:
    idle = ", ".join(f"{share:.1%}" for share in report.idle_by_rank)
    second = book.summary()["second_attempt_share"]
    return row_of(name, len(book), report.seconds, sum(report.decodes_by_rank), second, base, idle)


def saved(book: Book) -> bytes:
    """The bytes of the book's file."""
    with tempfile.TemporaryDirectory() as folder:
        book.save(Path(folder) / "book.arrow")
        return (Path(folder) / "book.arrow").read_bytes()


def whole(options: argparse.Namespace, config: IdConfig) -> list[str]:
    """What the job says about the whole catalogue, run again on other ranks, with other waves and nothing kept."""
    book, report, before, peak = ours(options, 2, config, None)
    shares, size = book.summary(), len(book)
    other = dataclasses.replace(config, blocks_per_wave=5, encoder_cache_gb=0.0)
    again, report_again, _, _ = ours(options, 3, other, None)
    if saved(again) != saved(book) or sum(report.decodes_by_rank) != sum(report_again.decodes_by_rank):
        raise SystemExit("three ranks gave another book than two, or asked the generator more or less often")
    return [
        f"The whole of {options.catalogue} on 2 ranks: {size:,} items in {report.seconds:,.0f} s "
        f"({size / report.seconds:.1f} items/s), {sum(report.decodes_by_rank):,} decodes in {report.waves} waves; "
        f"second attempt {shares['second_attempt_share']:.2%}, longer {shares['longer_share']:.2%}, suffixed "
        f"{shares['suffixed_share']:.2%}; {report.collisions:,} collisions settled in {report.rounds} rounds with "
        f"{sum(report.bytes_by_rank) / size:.0f} bytes an item between the ranks; idle by rank "
        f"{', '.join(f'{share:.1%}' for share in report.idle_by_rank)}; memory of a rank {before:,.0f} MB before "
        f"the job, {peak:,.0f} MB at its peak. Three ranks with waves of 5 blocks and no encoded text kept gave the "
        f"same bytes with as many decodes, in {report_again.seconds:,.0f} s.", "",
    ]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", required=True)
    parser.add_argument("--catalogue", default="train")
    parser.add_argument("--generator", required=True)
    parser.add_argument("--items", type=int, default=384)
    parser.add_argument("--peers", type=Path, default=Path(".venv-peers"))
    parser.add_argument("--whole", action="store_true", help="the job on the whole catalogue too")
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks/ids.md"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    config, load = IdConfig(), os.getloadavg()[0]
    loop = theirs(options, config)
    base, items = len(loop["ids"]) / loop["seconds"], len(loop["ids"])
    second = sum(tried > 1 for tried in loop["attempts"]) / items
    rows = [row_of(f"Hugging Face {loop['transformers']}, one at a time, 2 threads", items, loop["seconds"],
                   loop["calls"], second, base, "")]  # fmt: skip
    for name, ranks, options_of in (
        ("our search, one at a time, 2 threads", 1, IdConfig(block_size=1)),
        ("the job, 1 rank, 2 threads", 1, config),
        ("the job, 2 ranks, 1 thread each", 2, config),
    ):
        book, report, before, peak = ours(options, ranks, options_of, options.items)
        rows.append(row_of_ours(name, book, report, base))
    words = f"--catalogue {options.catalogue} --generator T5 --items {options.items}"
    machine = f"{CORES} cores ({platform.machine()}, load {load:.1f} when it began), torch {torch.__version__}"
    lines = [
        "# IDs",
        "",
        f"`python -m benchmarks.ids.job --shards SHARDS {words}{' --whole' if options.whole else ''}` on {machine}.",
        "",
        f"The first {items:,} items of {options.catalogue}, {config.groups} groups, the paper's penalties and tiers. "
        "Seconds are those of the whole loop or job, retries, matching and the book included, loading of the model "
        "not. The generator is a real T5 that was not trained for IDs.",
        "",
        *table(["", "seconds", "items/s", "times", "decodes", "second attempt", "idle by rank"], rows),
        "",
    ]
    if options.whole:
        lines += whole(options, config)
    print("\n".join(lines))
    options.out.write_text("\n".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
