"""The `ids` job: the ID book of one catalogue, made by a generator over all ranks."""

from __future__ import annotations

from pathlib import Path

from launchers.ids_config import IdsConfig
from pretrain.ids.job import make_book
from pretrain.ids.quality import measure
from pretrain.models import load_model, on_device
from pretrain.reporter import Reporter
from pretrain.world import World
from shards.manifest import TOKENIZER_FOLDER, Manifest
from shards.store import local_copy
from shards.tables import load_items
from shards.tokenizer import load_tokenizer


def write_book(config: IdsConfig, world: World, reporter: Reporter) -> Path:
    """Make and save the book; say how it came out. Collective."""
    out = Path(config.out)
    if out.exists():
        raise ValueError(f"{out} exists; give another --out")
    tokenizer = load_tokenizer(local_copy(config.shards, TOKENIZER_FOLDER))
    items = load_items(config.shards, Manifest.load(config.shards), config.catalogue)
    generator = on_device(load_model(config.generator, tokenizer), world.device)
    book, job = make_book(generator, tokenizer, items, config.ids, world, reporter)
    if world.is_main:
        out.parent.mkdir(parents=True, exist_ok=True)
        book.save(out)
    for line in measure(book.texts, book.token_ids, items.texts).lines():
        reporter.line(f"  {line}")
    reporter.line(
        f"{book.describe()}; {job.waves} waves, decodes by rank {job.decodes_by_rank}, {job.collisions:,} collisions, "
        f"{sum(job.bytes_by_rank) / 1e6:.1f} MB between ranks in {job.rounds} rounds, {job.seconds:.1f} s"
    )
    world.barrier()
    return out
