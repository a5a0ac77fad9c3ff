"""The distributed diverse-ID job: items over ranks, Algorithm 1's result.

Enters: the generator and the token ids of every item's text, the same on all ranks. Leaves: the ID book, the same on
all ranks. Every item has a home rank that decodes it and keeps its list (`blocks.deal`). A wave decodes on every rank
some blocks of items without an ID and writes them to the journal; then proposals go to the owners of the candidates and
rejections home (`assign.settle`). No rank knows all lists, none waits for rank 0. Whoever is left without an ID gets
the next penalty, then the next length tier, then suffixed forms as further entries of the same list.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from transformers.models.t5.modeling_t5 import T5ForConditionalGeneration
from transformers.models.t5.tokenization_t5 import T5Tokenizer

from pretrain.config.ids import IdConfig
from pretrain.ids import blocks
from pretrain.ids.assign import Acceptors, Held, Proposers, blockers, candidate_of, owner_of, settle, tokens_of
from pretrain.ids.book import Book, canonical
from pretrain.ids.book_provenance import BookProvenance
from pretrain.ids.control_ids import writer_of
from pretrain.ids.journal import Journal, Written
from pretrain.ids.writer import Writer
from pretrain.runtime.interrupt import Interrupted
from pretrain.runtime.progress import SILENT, Reporter
from pretrain.runtime.watchdog import beat
from pretrain.runtime.world import Traffic, World
from shards.tables import ItemTable


@dataclass
class JobReport:
    """What the job did.

    Attributes:
        waves: of decoding.
        decodes_by_rank: items decoded by each rank, further attempts included; what a journal held is not counted.
        collisions: rejected proposals.
        rounds: of proposals and answers.
        bytes_by_rank: sent by each rank to the others as proposals and rejections.
        seconds: wall clock; `idle_by_rank` is the share of it that each rank waited for others.
        taken_up: attempts read from the journal of a job that did not end.
        blocked: of an extended book's new items, (item, candidate text, the item that holds it), by row.
    """

    waves: int
    decodes_by_rank: list[int]
    collisions: int
    rounds: int
    bytes_by_rank: list[int]
    seconds: float
    idle_by_rank: list[float]
    taken_up: int = 0
    blocked: list[tuple[str, str, str]] = field(default_factory=list)


class Job:
    """One rank's share of the work: its items' lists, the candidates it owns, the generator."""

    def __init__(
        self, writer: Writer, proposers: Proposers, acceptors: Acceptors, home_N: np.ndarray, journal: Journal | None,
        world: World,
    ) -> None:  # fmt: skip
        self.writer, self.proposers, self.acceptors, self.home_N = writer, proposers, acceptors, home_N
        self.journal, self.world, self.traffic = journal, world, Traffic(world)
        self.waves, self.decodes, self.rounds, self.idle_seconds = 0, 0, 0, 0.0

    def take_up(self) -> int:
        """Add what the journal holds to the lists; returns how many attempts of how many that is on this rank."""
        for row, attempt, candidates in self.journal.read() if self.journal else ():
            if self.home_N[row] == self.world.rank:
                assert attempt == self.proposers.attempts(row), "an item's attempts are taken up in order"
                self.proposers.add(row, candidates)
        return sum(map(self.proposers.attempts, self.proposers.lists))

    def settle(self) -> tuple[int, int]:
        """Match items and candidates. Returns items without an ID and collisions so far, of all ranks. Collective."""
        arrived = time.monotonic()
        self.world.barrier()
        self.idle_seconds += time.monotonic() - arrived
        self.rounds += settle(
            self.proposers, self.acceptors, self.home_N, self.world.size, self.traffic.exchange,
            lambda number: int(self.world.sum(number)[0]),
        )  # fmt: skip
        active, collisions = self.world.sum(len(self.proposers.exhausted()), self.proposers.rejections)
        return int(active), int(collisions)

    def wave(self) -> None:
        """Lengthen the lists of items without an ID, as many blocks of them as a wave has."""
        proposers, writer = self.proposers, self.writer
        active = proposers.exhausted()
        writer.keep_only(active)
        calls = blocks.next_blocks(active, proposers.attempts, writer.layout, writer.config)
        entries: list[Written] = []
        for number, block in enumerate(calls[: writer.config.blocks_per_wave]):
            beat(f"IDs, wave {self.waves}, {number} blocks written")
            entries += [Written(row, proposers.attempts(row), candidates) for row, candidates in writer.write(block)]
        if self.journal is not None:
            self.journal.write(entries)
        for row in active:
            if blocks.attempt_of(proposers.attempts(row), writer.config).first_suffix is not None:
                written = proposers.ends[row][writer.config.num_attempts - 1]
                proposers.add(row, writer.suffixed(row, proposers.lists[row][0] if written else None))
        for row, _, candidates in entries:
            proposers.add(row, candidates)
        self.decodes, self.waves = self.decodes + len(entries), self.waves + 1


def make_book(
    generator: T5ForConditionalGeneration,
    tokenizer: T5Tokenizer,
    items: ItemTable,
    config: IdConfig,
    world: World,
    reporter: Reporter = SILENT,
    what: str = "IDs",
    journal: Path | None = None,
    old: Book | None = None,
    asked: Callable[[], int] = lambda: 0,
) -> tuple[Book, JobReport]:
    """Give every item a unique textual ID. Collective: all ranks call it with the same arguments.

    With `journal`, a folder that all ranks see, a killed job is taken up where it was. With `old`, a book by the same
    generator, its items keep their IDs and all others get one as if they came after them; ValueError for a book by
    another generator or with other options. `asked()` is called before each wave, on all ranks with the same result:
    where it gives the number of a signal, the job ends with Interrupted.
    """
    if config.groups > len(tokenizer):
        raise ValueError(f"groups is {config.groups}, the tokenizer has {len(tokenizer):,} pieces; 5 is the paper's")
    started, training = time.monotonic(), generator.training
    generator.eval()
    provenance = BookProvenance.of(generator, tokenizer, config)
    known = provenance.known(old, items)
    layout = blocks.lay_out(items, config)
    new = np.array([row for row in range(len(items)) if row not in known], dtype=np.int64)
    home_N = blocks.deal(layout, new, world.size, config)
    proposers, acceptors = Proposers(np.flatnonzero(home_N == world.rank).tolist()), Acceptors()
    if old is not None:
        taken = [(index - len(old), candidate_of(ids)) for index, ids in enumerate(old.token_ids)]
        acceptors.decide(entry for entry in taken if owner_of(entry[1], world.size) == world.rank)
    writer = writer_of(config)(generator, tokenizer, items, layout, config, proposers.attempts)
    diary = Journal(journal, provenance.identity(items), world.rank) if journal is not None else None
    job = Job(writer, proposers, acceptors, home_N, diary, world)
    mine = job.take_up()
    world.barrier()  # whatever rank 0 did alone before, such as saving models, is no part of a collective's time
    taken_up = int(world.sum(mine)[0])
    while True:
        active, collisions = job.settle()
        done, seconds = len(items) - active, time.monotonic() - started
        speed = f"{(len(new) - active) / seconds:,.1f} items/s, {active:,} active"
        reporter.progress(what, done, len(items), "items", f"wave {job.waves}, {speed}, {collisions:,} collisions")
        if active == 0:
            break
        number = asked()
        if number:
            raise Interrupted(number, f"{job.waves} waves of the ID job are kept")
        job.wave()
    generator.train(training)
    held = {row: entry for part in world.gather(proposers.held()) for row, entry in part.items()}
    book = _assemble(held, known, old, items, tokenizer, config, provenance)
    blocked = [] if old is None else _blocked(job, old, items, tokenizer)
    seconds = time.monotonic() - started
    by_rank = world.gather((job.decodes, job.traffic.sent, job.idle_seconds / seconds))
    decodes, sent, idle = (list(column) for column in zip(*by_rank, strict=True))
    return book, JobReport(job.waves, decodes, collisions, job.rounds, sent, seconds, idle, taken_up, blocked)


def _assemble(
    held: dict[int, Held], known: dict[int, int], old: Book | None, items: ItemTable, tokenizer: T5Tokenizer,
    config: IdConfig, provenance: BookProvenance,
) -> Book:  # fmt: skip
    """The verified book of what every item holds, by row."""
    assert len(held) + len(known) == len(items), "every item holds one candidate"
    token_ids, marks = [], []
    for row in range(len(items)):
        if row in known:
            assert old is not None
            index = known[row]
            token_ids.append(old.token_ids[index])
            marks.append((old.attempt[index], old.tier[index], old.suffixed[index]))
        else:
            candidate, index = held[row]
            attempt = blocks.attempt_of(index, config)
            token_ids.append(tokens_of(candidate))
            marks.append((index, attempt.tier, attempt.first_suffix is not None))
    attempt_N3 = np.array(marks, dtype=np.int32).reshape(-1, 3)
    book = Book(
        items=list(items.items),
        texts=canonical(tokenizer, [str(tokenizer.decode(ids.tolist())) for ids in token_ids])[0],
        token_ids=token_ids,
        attempt=attempt_N3[:, 0],
        tier=attempt_N3[:, 1],
        suffixed=attempt_N3[:, 2].astype(bool),
        generator_hash=provenance.generator_hash,
        tokenizer_fingerprint=provenance.tokenizer_fingerprint,
        options=provenance.options,
    )
    book.verify(tokenizer)
    return book


def _blocked(job: Job, old: Book, items: ItemTable, tokenizer: T5Tokenizer) -> list[tuple[str, str, str]]:
    """What each new item wanted and did not get, and who has it. Collective."""
    mine = blockers(job.proposers, job.acceptors, job.home_N, job.world.size, job.traffic.exchange)
    everything = sorted(entry for part in job.world.gather(mine) for entry in part)
    texts = [tokenizer.decode(tokens_of(candidate).tolist()) for _, candidate, _ in everything]
    return [
        (items.items[row], str(text), (old if by < 0 else items).items[by])
        for (row, _, by), text in zip(everything, texts, strict=True)
    ]
