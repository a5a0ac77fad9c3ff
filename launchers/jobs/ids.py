"""The `ids` job: the ID book of one catalogue, made by a generator over all ranks."""

from __future__ import annotations

from pathlib import Path

from launchers.checks.starting_models import check_own_tokenizer
from launchers.jobs.request import IdsConfig
from pretrain.ids.book import Book
from pretrain.ids.job import JobReport, make_book
from pretrain.ids.journal import discard
from pretrain.ids.quality import measure
from pretrain.model.t5 import load_model, on_device
from pretrain.runtime.interrupt import Interrupt
from pretrain.runtime.progress import Reporter
from pretrain.runtime.world import World
from pretrain.training.checkpoint import resolve
from shards.files.store import local_copy
from shards.manifest import TOKENIZER_FOLDER, Manifest
from shards.tables import load_items
from shards.tokenizer import load_tokenizer

SHOWN_BLOCKED = 20


def write_book(config: IdsConfig, world: World, reporter: Reporter) -> Path:
    """Make and save the book; say how it came out. Collective."""
    out = Path(config.out)
    if out.exists():
        raise ValueError(f"{out} exists; give another --out")
    manifest = Manifest.load(config.shards)
    folder = generator_folder(config.generator)
    check_own_tokenizer("--generator", folder, config.shards, manifest)
    tokenizer = load_tokenizer(local_copy(config.shards, TOKENIZER_FOLDER))
    items = load_items(config.shards, manifest, config.catalogue)
    old = Book.load(Path(config.extend), tokenizer) if config.extend else None
    generator = on_device(load_model(folder, tokenizer), world.device)
    progress = out.with_name(f".{out.name}.progress")
    with Interrupt(world) as interrupt:
        book, job = make_book(
            generator, tokenizer, items, config.ids, world, reporter, journal=progress, old=old, asked=interrupt.agreed
        )
    if world.is_main:
        book.save(out)
        discard(progress)
    for line in (*summary_lines(job, old), *measure(book.texts, book.token_ids, items.texts).lines()):
        reporter.line(f"  {line}")
    reporter.line(f"{book.describe()}: {out}")
    world.barrier()
    return out


def generator_folder(named: str) -> str:
    """Of a run the generator of its best checkpoint; any other folder is one itself."""
    is_run = (Path(named) / "checkpoints").is_dir()
    return str(resolve(Path(named)) / "generator") if is_run else named


def summary_lines(job: JobReport, old: Book | None) -> list[str]:
    """How the job went."""
    lines = [
        f"{job.seconds:.1f} s, {job.waves} waves, {sum(job.decodes_by_rank):,} decodes, by rank "
        f"{', '.join(f'{number:,}' for number in job.decodes_by_rank)}; idle "
        f"{', '.join(f'{share:.0%}' for share in job.idle_by_rank)}",
        f"{job.collisions:,} collisions settled in {job.rounds} rounds, {sum(job.bytes_by_rank) / 1e6:.1f} MB between "
        "ranks",
    ]
    if job.taken_up:
        lines.insert(0, f"{job.taken_up:,} attempts were taken up from a job that did not end")
    if old is not None:
        lines.append(
            f"{len(old):,} items of the extended book; new ones wanted {len(job.blocked):,} IDs that were taken"
        )
        lines += [f"  {item} wanted '{text}', which {holder} has" for item, text, holder in job.blocked[:SHOWN_BLOCKED]]
    return lines
