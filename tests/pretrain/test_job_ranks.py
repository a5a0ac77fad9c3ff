"""The ID job over real ranks: the same bytes whoever decodes what, Algorithm 1's result, killed jobs taken up again."""

import dataclasses
import random
from collections import Counter
from pathlib import Path

import pytest

from pretrain.config.ids import IdConfig
from pretrain.ids.assign import candidate_of, tokens_of
from pretrain.ids.blocks import SUFFIXES_PER_ATTEMPT, attempt_of
from pretrain.ids.book import Book, canonical
from pretrain.ids.journal import Journal

CONFIG = IdConfig(
    groups=3, penalty_max=0.2, tier_tokens=3, max_tiers=2, item_text_tokens=24, block_size=8, blocks_per_wave=2
)


def make(world, folder, shards, config, shuffled=None, kill=None):
    """The book of the shard folder's catalogue, saved; `shuffled`: blocks are dealt anew by this seed; `kill`: (rank,
    "write" or "journal", how many calls go well before that rank ends as by SIGKILL)."""
    import os
    import random
    import signal
    from pathlib import Path
    from typing import Any

    import torch

    import pretrain.ids.job as job
    from pretrain.config.run import ModelConfig
    from pretrain.ids import blocks
    from pretrain.model.t5 import build_model
    from shards.manifest import Manifest
    from shards.tables import load_items
    from shards.tokenizer import load_tokenizer

    folder = Path(folder)
    tokenizer = load_tokenizer(Path(shards) / "tokenizer")
    items = load_items(shards, Manifest.load(shards))
    generator = build_model(ModelConfig(d_model=16, d_ff=32, num_layers=1, num_heads=2), tokenizer, 2)
    with torch.no_grad():  # more of the item in the output: some collisions, some items for every tier
        for name, parameter in generator.named_parameters():
            if "EncDecAttention" in name:
                parameter *= 2.0
    if shuffled is not None:
        dealt = blocks.deal

        def deal(layout, rows, ranks, config):
            home_N = dealt(layout, rows, ranks, config)
            key_N = layout.width_N * 1000 + layout.place_N // config.block_size
            new = {key: random.Random(int(key) + shuffled).randrange(ranks) for key in set(key_N.tolist())}
            home_N[rows] = [new[int(key)] for key in key_N[rows]]
            return home_N

        changed_blocks: Any = blocks
        changed_blocks.deal = deal
    writer_class: Any = job.Writer
    journal_class: Any = Journal
    write, journal_write, calls = writer_class.write, journal_class.write, []

    def traced(writer, block):
        tries = [f"{row} {writer.attempts(int(row))}\n" for row in block.rows_B if row >= 0]
        found = write(writer, block)
        with (folder / "decoded").open("a") as trace:
            trace.write("".join(tries))
        return found

    def deadly(function, *arguments):
        assert kill is not None
        if len(calls) == kill[2]:
            os.kill(os.getpid(), signal.SIGKILL)
        calls.append(0)
        return function(*arguments)

    writer_class.write = traced
    if kill is not None and kill[0] == world.rank:
        if kill[1] == "write":
            writer_class.write = lambda *arguments: deadly(traced, *arguments)
        else:
            journal_class.write = lambda *arguments: deadly(journal_write, *arguments)
    book, report = job.make_book(generator, tokenizer, items, config, world, journal=folder / "journal")
    if world.is_main:
        book.save(folder / "book.arrow")
    world.barrier()
    return report, (folder / "book.arrow").read_bytes()


def journalled(folder, items):
    """(row, attempt) -> candidates of all journals of one job."""
    (identity,) = [path.name for path in (Path(folder) / "journal").iterdir()]
    entries = list(Journal(Path(folder) / "journal", identity, 0).read())
    assert len({(entry.row, entry.attempt) for entry in entries}) == len(entries), "written once"
    assert {entry.row for entry in entries} <= set(range(len(items)))
    return {(entry.row, entry.attempt): entry.candidates for entry in entries}


@pytest.fixture(scope="module")
def undisturbed(run_ranks, shard_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    ((report, data),) = run_ranks(make, 1, str(folder), str(shard_folder), CONFIG)
    return folder, report, data


@pytest.mark.parametrize(
    ("ranks", "shuffled", "changes"),
    [
        (2, None, {}),
        (3, 1, {"blocks_per_wave": 1}),
        (3, 2, {"blocks_per_wave": 100, "encoder_cache_gb": 0.0}),
        (8, None, {"encoder_cache_gb": 1e-5}),
    ],
)
def test_the_same_bytes_on_any_ranks(run_ranks, shard_folder, tmp_path, undisturbed, ranks, shuffled, changes):
    _, alone, data = undisturbed
    config = dataclasses.replace(CONFIG, **changes)
    found = run_ranks(make, ranks, str(tmp_path), str(shard_folder), config, shuffled)
    for report, bytes_of_book in found:
        assert bytes_of_book == data
        assert report.decodes_by_rank == found[0][0].decodes_by_rank and len(report.decodes_by_rank) == ranks
        assert sum(report.decodes_by_rank) == sum(alone.decodes_by_rank), "as many calls of the generator"
        assert report.collisions == alone.collisions and all(0 <= share < 1 for share in report.idle_by_rank)
    assert max(found[0][0].decodes_by_rank) > 0 and (shuffled is not None or ranks > 6 or min(report.decodes_by_rank))
    assert alone.collisions > 0 and alone.waves > 3, "the example has collisions and further waves"


def test_algorithm_1_over_the_same_lists(undisturbed, tokenizer, items):
    """One item after the other, asking for a further list only where all candidates are taken."""
    folder, report, _ = undisturbed
    lists = journalled(folder, items)
    book = Book.load(folder / "book.arrow", tokenizer)
    used, asked, second = set(), 0, 0
    for row, ids in enumerate(book.token_ids):
        index, known, held = 0, [], None
        while held is None:
            attempt = attempt_of(index, CONFIG)
            if attempt.first_suffix is None:
                asked += 1
                known += lists.pop((row, index))
            else:
                words = canonical(tokenizer, [" ".join(items.texts[row].split()[:4])])[0][0]
                base = tokenizer.decode(tokens_of(known[0]).tolist()) if known else words
                numbers = range(attempt.first_suffix, attempt.first_suffix + SUFFIXES_PER_ATTEMPT)
                _, encoded = canonical(tokenizer, [f"{base} {number}" for number in numbers])
                known += map(candidate_of, encoded)
            held = next((candidate for candidate in known if candidate not in used), None)
            index += 1
        used.add(held)
        second += index > 1
        assert held == candidate_of(ids) and book.attempt[row] == index - 1
    assert not lists and asked == sum(report.decodes_by_rank), "the generator is asked exactly as often"
    assert 0 < second < len(items)


@pytest.mark.parametrize("seed", range(4))
def test_killed_anywhere_it_ends_in_the_same_bytes(run_ranks, shard_folder, tmp_path, undisturbed, items, seed):
    """Ranks die before, while and after a wave is written; the job goes on with another number of ranks."""
    _, report, data = undisturbed
    draw, safe = random.Random(seed), set()
    for _ in range(3):
        ranks = draw.choice((1, 2, 3))
        kill = (draw.randrange(ranks), draw.choice(("write", "journal")), draw.randrange(5 if ranks == 1 else 3))
        (tmp_path / "decoded").write_text("")
        with pytest.raises(AssertionError, match="the process died|[Cc]losed|reset|refused"):
            run_ranks(make, ranks, str(tmp_path), str(shard_folder), CONFIG, None, kill)
        again = safe & decoded(tmp_path)
        assert not again, "what a journal held was decoded again"
        safe = set(journalled(tmp_path, items)) if any((tmp_path / "journal").iterdir()) else set()
    (tmp_path / "decoded").write_text("")
    ((last, bytes_of_book), *_) = run_ranks(make, 2, str(tmp_path), str(shard_folder), CONFIG)
    assert bytes_of_book == data
    assert last.taken_up == len(safe) and sum(last.decodes_by_rank) == sum(report.decodes_by_rank) - len(safe)
    assert not safe & decoded(tmp_path)


def decoded(folder):
    """(row, attempt) of everything decoded since the trace was emptied; nothing is there twice."""
    found = Counter(tuple(map(int, line.split())) for line in (folder / "decoded").read_text().splitlines())
    assert max(found.values(), default=1) == 1
    return set(found)


def journal_is_gone(world, folder):
    """Whether the journal of a book that is saved is gone once this rank goes on; rank 0 takes its time."""
    from types import SimpleNamespace

    from patience import rest

    from pretrain.training import run
    from pretrain.training.schedule import State
    from pretrain.training.state import RunState

    discard = run.discard
    run.discard = lambda path: (rest(0.5), discard(path))
    (folder / run.ID_PROGRESS).mkdir(exist_ok=True)
    world.barrier()
    writing, state = SimpleNamespace(finish=lambda: folder), RunState(State(), {}, {})
    a_run = SimpleNamespace(writing=writing, state=state, world=world, folder=folder)
    a_run._set = lambda **changes: None
    run.Run.finish_save(a_run)  # type: ignore[arg-type]
    return not (folder / run.ID_PROGRESS).exists()


def test_no_rank_begins_a_journal_while_the_last_one_is_removed(run_ranks, tmp_path):
    assert run_ranks(journal_is_gone, 2, tmp_path) == [True, True]
