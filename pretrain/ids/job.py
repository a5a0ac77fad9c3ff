"""The distributed diverse-ID job: items over ranks, Algorithm 1's result.

Enters: the generator and the token ids of every item's text, the same on all ranks. Leaves: the ID book, the same on
all ranks. A wave decodes all items without an ID: they are sorted by (length tier, text length, row), cut into blocks
of one fixed shape, and block b is decoded by rank b % W, so what is decoded never depends on W. An item's candidates go
to its home rank, proposals to the owners of the candidates, rejections home again (`assign.settle`); no rank knows all
lists, none waits for rank 0. Whoever is left without an ID gets the next penalty, then the next length tier, then
suffixed forms as further entries of the same list.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from transformers import T5ForConditionalGeneration
from transformers.models.t5.tokenization_t5 import T5Tokenizer

from pretrain.config import IdConfig
from pretrain.decoding.decoder import T5Decoder
from pretrain.decoding.diverse import DiverseConfig, diverse_search
from pretrain.ids.assign import Candidate, Holders, Wishes, home_of, settle
from pretrain.ids.book import Book, canonical
from pretrain.models import content_hash
from pretrain.reporter import SILENT, Reporter
from pretrain.world import Traffic, World
from shards.tables import ItemTable
from shards.tokenizer import EOS_ID, PAD_ID, UNK_ID, fingerprint

SUFFIXES_PER_WAVE = 64
LENGTH_BUCKET = 32


@dataclass(frozen=True)
class Attempt:
    """The n-th try of an item: a diversity penalty inside a length tier, or a range of numeric suffixes."""

    tier: int
    penalty: float
    first_suffix: int | None = None


class Mark(NamedTuple):
    """How an item came to a candidate: attempt and tier in which it was written, and whether it is a suffixed form."""

    attempt: int
    tier: int
    suffixed: bool


@dataclass
class JobReport:
    """What the job did: waves of decoding, decodes by rank, rejected proposals, rounds of proposals and answers, bytes
    that each rank sent to the others (candidates, proposals, rejections), and seconds."""

    waves: int
    decodes_by_rank: list[int]
    collisions: int
    rounds: int
    bytes_by_rank: list[int]
    seconds: float


def attempt_of(index: int, config: IdConfig) -> Attempt:
    """The schedule of Algorithm 1, reset for each item: penalties 0.1 to 1.0, then the next length tier, then
    suffixes."""
    steps = config.num_penalties
    tier, step = divmod(index, steps)
    if tier < config.max_tiers:
        return Attempt(tier, round(config.penalty_start + step * config.penalty_step, 6))
    return Attempt(config.max_tiers - 1, 0.0, 2 + (index - config.max_tiers * steps) * SUFFIXES_PER_WAVE)


def make_book(
    generator: T5ForConditionalGeneration,
    tokenizer: T5Tokenizer,
    items: ItemTable,
    config: IdConfig,
    world: World,
    reporter: Reporter = SILENT,
    what: str = "IDs",
) -> tuple[Book, JobReport]:
    """Give every item a unique textual ID. Collective: all ranks call it with the same arguments."""
    started, training = time.monotonic(), generator.training
    generator.eval()
    decoder, num_items = T5Decoder(generator), len(items.items)
    word_start_V, forbidden_V = _vocabulary_masks(tokenizer, generator)
    attempts = np.zeros(num_items, dtype=np.int64)
    wishes, holders, traffic = Wishes(), Holders(), Traffic(world)
    marks: dict[tuple[int, Candidate], Mark] = {}
    active, waves, decodes, rounds = list(range(num_items)), 0, 0, 0
    while active:
        found: list[list] = [[] for _ in range(world.size)]
        for block in _blocks(active, attempts, items, config, world):
            decodes += len(block)
            for row, candidates in _decode_block(
                block, attempts, items, decoder, tokenizer, config, word_start_V, forbidden_V
            ):
                found[home_of(row, world.size)].append((row, candidates))
        added = [entry for part in traffic.exchange(found) for entry in part]
        added += [
            (row, _suffixed(row, attempts, wishes, items, tokenizer, config))
            for row in active
            if home_of(row, world.size) == world.rank and attempt_of(attempts[row], config).first_suffix is not None
        ]
        for row, candidates in added:
            attempt = attempt_of(int(attempts[row]), config)
            mark = Mark(int(attempts[row]), attempt.tier, attempt.first_suffix is not None)
            for candidate in candidates:
                marks.setdefault((row, candidate), mark)
            wishes.add(row, candidates)
        attempts[active] += 1
        rounds += settle(wishes, holders, world.size, traffic.exchange, lambda count: int(world.sum(count)[0]))
        active = sorted(row for part in world.gather(wishes.exhausted()) for row in part)
        waves += 1
        rate = (num_items - len(active)) / (time.monotonic() - started)
        reporter.progress(what, num_items - len(active), num_items, "items", f"wave {waves}, {rate:,.0f} items/s")
    generator.train(training)
    mine = [(row, candidate, marks[row, candidate]) for row, candidate in wishes.held().items()]
    chosen = sorted(entry for part in world.gather(mine) for entry in part)
    book = _assemble(chosen, items, generator, tokenizer)
    collisions, seconds = int(world.sum(wishes.rejections)[0]), time.monotonic() - started
    return book, JobReport(waves, world.gather(decodes), collisions, rounds, world.gather(traffic.sent), seconds)


def _assemble(
    chosen: list[tuple[int, Candidate, Mark]],
    items: ItemTable,
    generator: T5ForConditionalGeneration,
    tokenizer: T5Tokenizer,
) -> Book:
    """The verified book of what every item holds, by row."""
    rows, ids, marks = zip(*chosen, strict=True) if chosen else ((), (), ())
    assert list(rows) == list(range(len(items.items))), "every item holds one candidate"
    book = Book(
        items=list(items.items),
        texts=canonical(tokenizer, tokenizer.batch_decode([list(candidate) for candidate in ids]))[0],
        token_ids=[np.array(candidate, dtype=np.int32) for candidate in ids],
        attempt=np.array([mark.attempt for mark in marks], dtype=np.int32),
        tier=np.array([mark.tier for mark in marks], dtype=np.int32),
        suffixed=np.array([mark.suffixed for mark in marks], dtype=bool),
        generator_hash=content_hash(generator),
        tokenizer_fingerprint=fingerprint(tokenizer),
    )
    book.verify(tokenizer)
    return book


def _blocks(
    active: list[int], attempts: np.ndarray, items: ItemTable, config: IdConfig, world: World
) -> list[list[int]]:
    """This rank's canonical blocks: rows of one tier and one length bucket, at most `block_size`, in sorted order."""
    groups: dict[tuple[int, int], list[int]] = {}
    for row in sorted(active):
        attempt = attempt_of(attempts[row], config)
        if attempt.first_suffix is None:
            length = min(len(items.tokens(row)), config.item_text_tokens - 1) + 1
            groups.setdefault((attempt.tier, -(-length // LENGTH_BUCKET)), []).append(row)
    size = config.block_size
    blocks = [rows[i : i + size] for _, rows in sorted(groups.items()) for i in range(0, len(rows), size)]
    return blocks[world.rank :: world.size]


def _decode_block(
    block: list[int], attempts: np.ndarray, items: ItemTable, decoder: T5Decoder, tokenizer: T5Tokenizer,
    config: IdConfig, word_start_V: np.ndarray, forbidden_V: torch.Tensor,
) -> list[tuple[int, list[Candidate]]]:  # fmt: skip
    """Diverse beam search of one block, padded to its fixed shape; canonical candidates of each row, in group order."""
    device = forbidden_V.device
    texts = [items.tokens(row)[: config.item_text_tokens - 1] for row in block]
    width = -(-(max(len(text) for text in texts) + 1) // LENGTH_BUCKET) * LENGTH_BUCKET
    input_ids_BS = np.full((config.block_size, width), PAD_ID, dtype=np.int64)
    mask_BS = np.zeros((config.block_size, width), dtype=np.int64)
    mask_BS[:, 0] = 1
    penalty_B = np.zeros(config.block_size)
    tier = attempt_of(attempts[block[0]], config).tier
    for index, (row, text) in enumerate(zip(block, texts, strict=True)):
        input_ids_BS[index, : len(text) + 1] = [*text, EOS_ID]
        mask_BS[index, : len(text) + 1] = 1
        penalty_B[index] = attempt_of(attempts[row], config).penalty
    mask_BS = torch.from_numpy(mask_BS).to(device)
    encoded_BSE = decoder.encode(torch.from_numpy(input_ids_BS).to(device), mask_BS)
    shortest, longest = config.tier_range(tier)
    found = diverse_search(
        decoder, decoder.start(encoded_BSE, mask_BS), torch.from_numpy(penalty_B).float().to(device),
        DiverseConfig(config.groups, shortest, longest, EOS_ID, forbidden_V.nonzero().squeeze(1))
    )  # fmt: skip
    rows_NT = found.tokens_BGKT[: len(block), :, 0].reshape(-1, longest + 1).cpu().numpy()
    cut = [cut_to_word(row_T, EOS_ID, word_start_V) for row_T in rows_NT]
    _, encoded = canonical(tokenizer, tokenizer.batch_decode(cut, skip_special_tokens=True))
    valid = [ids if len(ids) >= shortest and UNK_ID not in ids else () for ids in encoded]
    groups = config.groups
    return [(row, [ids for ids in valid[i * groups : (i + 1) * groups] if ids]) for i, row in enumerate(block)]


def cut_to_word(tokens_T: np.ndarray, eos: int, word_start_V: np.ndarray) -> list[int]:
    """Tokens before EOS; at the cap, back to the last position whose next piece starts a word (or is EOS)."""
    ends = np.flatnonzero(tokens_T == eos)
    if len(ends):
        return tokens_T[: ends[0]].tolist()
    starts = np.flatnonzero(word_start_V[tokens_T])
    return tokens_T[: starts[-1]].tolist() if len(starts) else []


def _suffixed(
    row: int,
    attempts: np.ndarray,
    wishes: Wishes,
    items: ItemTable,
    tokenizer: T5Tokenizer,
    config: IdConfig,
) -> list[Candidate]:
    """`<base> 2`, `<base> 3`, ...: base is the first candidate, else the first words of the text, else "item"."""
    first = attempt_of(attempts[row], config).first_suffix
    assert first is not None
    if wishes.lists.get(row):
        base = tokenizer.decode(list(wishes.lists[row][0]))
    else:
        words, encoded = canonical(tokenizer, [" ".join(items.texts[row].split()[:4])])
        base = words[0] if encoded[0] and UNK_ID not in encoded[0] else "item"
    _, encoded = canonical(tokenizer, [f"{base} {number}" for number in range(first, first + SUFFIXES_PER_WAVE)])
    return [ids for ids in encoded if ids and UNK_ID not in ids]


def _vocabulary_masks(tokenizer: T5Tokenizer, generator: T5ForConditionalGeneration) -> tuple[np.ndarray, torch.Tensor]:
    """Which tokens start a word (or end the ID); which are never taken: pad, `<unk>`, extra ids, padding rows."""
    size = generator.config.vocab_size
    word_start_V = np.zeros(size, dtype=bool)
    forbidden_V = torch.ones(size, dtype=torch.bool, device=next(generator.parameters()).device)
    special = set(tokenizer.all_special_ids)
    for piece, index in tokenizer.get_vocab().items():
        if index < size and index not in special:
            word_start_V[index] = piece.startswith("▁")
            forbidden_V[index] = False
    word_start_V[EOS_ID] = True
    forbidden_V[EOS_ID] = False
    return word_start_V, forbidden_V
