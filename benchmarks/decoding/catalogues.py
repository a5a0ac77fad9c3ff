"""Catalogues of any size for the decoding benchmarks: IDs recombined from real ones.

Enters: files of real IDs (`item word word ...`, gzip) and a tokenizer. Leaves: unique token sequences as an Arrow list
array. An ID is the first words of one real ID and what follows their number in another, so that prefixes are shared as
real ones are. Pieces do not reach over words, so that recombined token ids are those of the recombined text.
"""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa


class RealIds:
    """Real IDs as token ids, with where each word of each begins."""

    def __init__(self, paths: list[Path], tokenizer: Any) -> None:
        texts = set()
        for path in paths:
            with gzip.open(path, "rt", encoding="utf-8") as lines:
                texts |= {" ".join(words) for _, *words in map(str.split, lines) if words}
        encoded = tokenizer(sorted(texts), add_special_tokens=False)["input_ids"]
        starts_word = np.zeros(len(tokenizer), dtype=bool)
        for piece, index in tokenizer.get_vocab().items():
            starts_word[index] = piece.startswith("▁")
        self.words = [np.flatnonzero(starts_word[ids]) for ids in encoded]
        kept = [row for row, (ids, words) in enumerate(zip(encoded, self.words, strict=True)) if words.tolist() and ids]
        self.tokens = [np.array(encoded[row], dtype=np.int32) for row in kept]
        self.words = [self.words[row] for row in kept]

    def recombine(self, count: int, seed: int = 0) -> pa.LargeListArray:
        """`count` different IDs, the same for the same seed."""
        flat_T = np.concatenate(self.tokens)
        length_N = np.array([len(ids) for ids in self.tokens])
        start_N = np.concatenate([[0], np.cumsum(length_N)])
        most = max(len(words) for words in self.words)
        # Token offset of word w in ID n; past its last word, its length.
        word_NW = np.tile(length_N[:, None], (1, most + 1))
        for row, words in enumerate(self.words):
            word_NW[row, : len(words)] = words
        words_N = np.array([len(words) for words in self.words])
        draw, found, kept = np.random.default_rng(seed), np.empty((0, 0), dtype=np.int32), 0
        while kept < count:
            size = int((count - kept) * 1.3) + 1000
            one, two = draw.integers(len(self.tokens), size=(2, size))
            cut = 1 + (draw.random(size) * (words_N[one] - 1)).astype(np.int64)
            head, tail = word_NW[one, cut], length_N[two] - word_NW[two, np.minimum(cut, most)]
            table = np.full((size, int((head + tail).max())), -1, dtype=np.int32)
            for column in range(table.shape[1]):
                from_one, from_two = column < head, (column >= head) & (column < head + tail)
                table[from_one, column] = flat_T[start_N[one[from_one]] + column]
                at = start_N[two] + length_N[two] - tail + column - head
                table[from_two, column] = flat_T[at[from_two]]
            width = max(table.shape[1], found.shape[1])
            both = np.full((len(found) + size, width), -1, dtype=np.int32)
            both[: len(found), : found.shape[1]], both[len(found) :, : table.shape[1]] = found, table
            _, first = np.unique(_hashes(both), return_index=True)
            found = both[np.sort(first)][:count]
            kept = len(found)
        present = found >= 0
        offsets = np.concatenate([[0], np.cumsum(present.sum(axis=1))])
        return pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(found[present]))


def _hashes(table: np.ndarray) -> np.ndarray:
    """A 64-bit hash of each row; a collision only drops one ID."""
    with np.errstate(over="ignore"):
        total = np.zeros(len(table), dtype=np.uint64)
        for column in table.T:
            total = (total ^ (column + 2).astype(np.uint64)) * np.uint64(0x9E3779B97F4A7C15)
            total ^= total >> np.uint64(29)
    return total
