"""The ID job on real item texts with a real pretrained T5: any ranks, one item at a time, chains of the same text."""

import dataclasses
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.ids import ties
from pretrain.config.ids import IdConfig
from pretrain.ids.assign import candidate_of, tokens_of
from pretrain.ids.job import make_book
from pretrain.ids.journal import Journal
from pretrain.model.t5 import load_model
from pretrain.runtime.world import World
from shards.build.build import build
from shards.config import BuildConfig
from shards.manifest import Manifest
from shards.tables import ItemTable, load_items
from shards.tokenizer import load_tokenizer

CONFIG = IdConfig(block_size=16, blocks_per_wave=2)


@pytest.fixture(scope="module")
def real_shards(shared: Path, pretrained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("real") / "shards"
    data = shared / "data"
    tests = (str(data / "Beauty"), str(data / "Yelp"))
    build(BuildConfig(train=(str(data / "Instruments"),), test=tests, out=str(out), tokenizer=str(pretrained)))
    return out


@pytest.fixture(scope="module")
def tokenizer_of_t5(real_shards: Path):  # type: ignore[no-untyped-def]
    return load_tokenizer(real_shards / "tokenizer")


def some_items(shards: Path, name: str, rows: list[int] | None = None) -> ItemTable:
    items = load_items(shards, Manifest.load(shards), name)
    return items.take(range(0, len(items), 101) if rows is None else rows)


def book_bytes(world, folder, shards, model, rows, config):  # type: ignore[no-untyped-def]
    """The book of some Beauty items on this many ranks."""
    from pathlib import Path

    from pretrain.ids.job import make_book
    from pretrain.model.t5 import load_model
    from shards.manifest import Manifest
    from shards.tables import load_items
    from shards.tokenizer import load_tokenizer

    tokenizer = load_tokenizer(Path(shards) / "tokenizer")
    items = load_items(shards, Manifest.load(shards), "Beauty").take(rows)
    book, report = make_book(load_model(model, tokenizer), tokenizer, items, config, world)
    path = Path(folder) / f"book-{world.size}-{world.rank}.arrow"
    book.save(path)
    return path.read_bytes(), report


def test_real_items_on_any_ranks(run_ranks, real_shards: Path, pretrained: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    rows = list(range(0, 12_101, 101))
    where = (str(tmp_path), str(real_shards), str(pretrained), rows)
    ((data, alone),) = run_ranks(book_bytes, 1, *where, CONFIG)
    small_waves = IdConfig(block_size=16, blocks_per_wave=1, encoder_cache_gb=0.0)
    for found, report in run_ranks(book_bytes, 3, *where, small_waves):
        assert found == data
        assert sum(report.decodes_by_rank) == sum(alone.decodes_by_rank) and report.collisions == alone.collisions
    assert sum(alone.decodes_by_rank) > len(rows), "some items needed a second attempt"


def test_one_item_at_a_time_differs_by_ties_only(real_shards: Path, pretrained: Path, tokenizer_of_t5) -> None:  # type: ignore[no-untyped-def]
    torch.set_num_threads(1)
    items, model = some_items(real_shards, "Beauty"), load_model(str(pretrained), tokenizer_of_t5)
    some = items.take(range(96))
    calls = list(ties.compare(model, tokenizer_of_t5, some, CONFIG, IdConfig(block_size=1), range(96)))
    assert sum(num_items for num_items, _ in calls) == 96
    gaps = [gap for _, found in calls for gap in found]
    assert all(gap < ties.TIE for gap in gaps) and len(gaps) <= 2


def test_chains_of_the_same_text(real_shards: Path, pretrained: Path, tokenizer_of_t5, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    """Yelp items that share their text share their candidates, and take them in the order of their rows."""
    texts = load_items(real_shards, Manifest.load(real_shards), "Yelp").texts
    shared_by = Counter(texts)
    assert len(texts) - len(shared_by) == 843
    common = [text for text, _ in shared_by.most_common(2)]
    rows = [row for row, text in enumerate(texts) if text in common][:24]
    items, model = some_items(real_shards, "Yelp", rows), load_model(str(pretrained), tokenizer_of_t5)
    world, config = World(0, 1, torch.device("cpu")), dataclasses.replace(CONFIG, penalty_max=0.4, max_tiers=1)
    book, report = make_book(model, tokenizer_of_t5, items, config, world, journal=tmp_path)
    assert len(set(book.texts)) == len(rows) and report.collisions > len(rows)
    (identity,) = [path.name for path in tmp_path.iterdir()]
    lists = {(entry.row, entry.attempt): entry.candidates for entry in Journal(tmp_path, identity, 0).read()}
    used: set[bytes] = set()
    asked = 0
    for row, ids in enumerate(book.token_ids):
        attempts = range(min(int(book.attempt[row]) + 1, config.num_attempts))
        asked += len(attempts)
        wanted = [candidate for attempt in attempts for candidate in lists[row, attempt]]
        held = next((candidate for candidate in wanted if candidate not in used), None)
        assert bool(book.suffixed[row]) == (held is None), "a number only where all that was written is taken"
        assert held is None or np.array_equal(tokens_of(held), ids)
        used.add(candidate_of(ids))
    assert asked == len(lists) == sum(report.decodes_by_rank)
    assert 0 < book.suffixed.sum() < len(rows) - 5
