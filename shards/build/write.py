"""Writing one member of a shard folder: item table, held-out users and tars.

Enter a catalogue, cleaned sequences and a tokenizer; leave files with their hashes. It must hold that identical input
gives identical bytes whatever the number of processes: fixed times and owners in the tars, no clock and no path in any
file, and each tar decided by its lane and number alone.
"""

import hashlib
import heapq
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from shards import tars, tokenizer
from shards.build.catalogue import CATALOGUE, CHOSEN, ROWS, parts_of
from shards.build.clean import EVENTS, USERS
from shards.build.sequences import HISTORY, TEST, VALID, Sequences, read_sequences
from shards.manifest import Tar
from shards.records import HOLDOUT_SCHEMA, ITEM_SCHEMA, record_key
from shards.token_coverage import refuse_few_texts, share, token_coverage

ITEM_BATCH = 1 << 16


@dataclass(frozen=True)
class Source:
    """Where one member's data stand: the folders of `clean.py` and `catalogue.py`, the moment of a split in time."""

    name: str
    cleaned: Path
    catalogue: Path
    moment: int | None


def deal(lengths: np.ndarray, totals: Sequence[int]) -> tuple[np.ndarray, list[int]]:
    """(lane of each record, samples of each lane afterwards): each to the lane with the fewest, the lowest of equals.

    lengths: int32 (R,), history lengths. A record of fewer than two items has no sample and gets lane -1. totals:
    samples that each lane has from the members before.
    """
    heap = [(total, lane) for lane, total in enumerate(totals)]
    heapq.heapify(heap)
    lanes = np.full(len(lengths), -1, dtype=np.int16)
    for row, samples in enumerate((lengths - 1).tolist()):
        if samples > 0:
            total, lane = heap[0]
            heapq.heapreplace(heap, (total + samples, lane))
            lanes[row] = lane
    return lanes, [total for total, _ in sorted(heap, key=lambda pair: pair[1])]


def write_items(path: Path, name: str, catalogue: Path, tokenizer_folder: Path) -> dict[str, int]:
    """The item table, an Arrow IPC file of ITEM_SCHEMA: one row per item, ids in the name space of the data set.

    Returns how much of the texts can be read: items, items_without_text, tokens, unknown_tokens. ValueError where it is
    too little."""
    tokens = tokenizer.load_tokenizer(tokenizer_folder)
    facts: dict[str, int] = dict.fromkeys(("items", "items_without_text", "tokens", "unknown_tokens"), 0)
    with (
        pq.ParquetFile(catalogue / CATALOGUE) as file,
        pa.OSFile(str(path), "wb") as sink,
        pa.ipc.new_file(sink, ITEM_SCHEMA) as writer,
    ):
        for batch in file.iter_batches(batch_size=ITEM_BATCH):
            items, texts = batch.column("item").to_pylist(), batch.column("text").to_pylist()
            token_ids = tokenizer.encode_texts(tokens, texts)
            writer.write_table(pa.table([[f"{name}/{item}" for item in items], texts, token_ids], schema=ITEM_SCHEMA))
            read = token_coverage(tokens, texts, token_ids)
            for fact, count in zip(facts, (len(items), sum(read.bare), read.tokens, read.unknown), strict=True):
                facts[fact] += count
    why = f"{share(facts['unknown_tokens'], facts['tokens'])} of their tokens are unknown to the tokenizer; use another"
    refuse_few_texts(name, facts["items_without_text"], facts["items"], why)
    return facts


def write_holdout(path: Path, source: Source) -> int:
    """The held-out users, an Arrow IPC file of HOLDOUT_SCHEMA, rows local to the member; returns their number."""
    written = 0
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, HOLDOUT_SCHEMA) as writer:
        for first, users, batch, rows, parts in _records(source):
            held_out = np.add.reduceat(parts == TEST, batch.offsets[:-1]) > 0
            of_held_out = np.repeat(held_out, np.diff(batch.offsets))
            history = of_held_out & (parts == HISTORY)
            ends = np.concatenate([[0], np.cumsum(history)])[batch.offsets]
            lengths = np.diff(ends)[held_out]
            numbers = np.flatnonzero(held_out)
            columns = [
                [record_key(source.name, first + int(number)) for number in numbers],
                users.take(pa.array(numbers)).cast(pa.string()),
                pa.ListArray.from_arrays(
                    np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32), pa.array(rows[history])
                ),
                rows[of_held_out & (parts == VALID)],
                rows[of_held_out & (parts == TEST)],
            ]
            writer.write_table(pa.table(columns, schema=HOLDOUT_SCHEMA))
            written += len(numbers)
    return written


def write_tars(
    folder: Path, source: Source, lanes: np.ndarray, block: tuple[int, int], records_per_tar: int
) -> list[Tar]:
    """Writes `folder/<name>/train-LLLL-NNNNNN.tar` of the lanes `block[0] <= lane < block[1]`, by lane and number.

    lanes: int16 (R,), the lane of each record (`deal`).
    """
    open_tars: dict[int, _Tar] = {}
    written: list[Tar] = []
    for first, users, batch, rows, parts in _records(source):
        of_batch = lanes[first : first + len(batch.users)]
        history = parts == HISTORY
        ends = np.concatenate([[0], np.cumsum(history)])[batch.offsets]
        items = rows[history].tolist()
        numbers = np.flatnonzero((of_batch >= block[0]) & (of_batch < block[1]))
        names = users.take(pa.array(numbers)).to_pylist()
        for number, user in zip(numbers.tolist(), names, strict=True):
            lane = int(of_batch[number])
            if lane not in open_tars:
                open_tars[lane] = _Tar(folder, source.name, lane, 0)
            current = open_tars[lane]
            current.add(record_key(source.name, first + number), user, items[ends[number] : ends[number + 1]])
            if current.records == records_per_tar:
                written.append(current.close())
                open_tars[lane] = _Tar(folder, source.name, lane, current.number + 1)
    written += [tar.close() for tar in open_tars.values() if tar.records]
    return sorted(written, key=lambda tar: tar.file)


class _Tar:
    """One tar being filled in memory."""

    def __init__(self, folder: Path, name: str, lane: int, number: int) -> None:
        self.folder, self.lane, self.number = folder, lane, number
        self.file = f"{name}/train-{lane:04d}-{number:06d}.tar"
        self.records = self.samples = 0
        self.body = io.BytesIO()

    def add(self, key: str, user: str, items: Sequence[int]) -> None:
        self.body.write(tars.record_bytes(key, user, items))
        self.records += 1
        self.samples += len(items) - 1

    def close(self) -> Tar:
        self.body.write(tars.end_bytes(self.body.tell()))
        data = self.body.getvalue()
        (self.folder / self.file).write_bytes(data)
        return Tar(self.file, self.lane, self.records, self.samples, len(data), hashlib.sha256(data).hexdigest())


def _records(source: Source) -> Iterator[tuple[int, pa.Array, Sequences, np.ndarray, np.ndarray]]:
    """(number of the first record, user ids, sequences, their catalogue rows (E,), their parts (E,)) batch by batch."""
    chosen, rows = np.load(source.catalogue / CHOSEN), np.load(source.catalogue / ROWS)
    users = pq.read_table(source.cleaned / USERS).column("user").cast(pa.large_string()).combine_chunks()
    first = 0
    for batch in read_sequences(source.cleaned / EVENTS, chosen):
        yield first, users.take(pa.array(batch.users)), batch, rows[batch.items], parts_of(batch, source.moment)
        first += len(batch.users)
