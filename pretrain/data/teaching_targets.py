"""An item's informative words, what a generator from scratch is first taught to write.

Enters: item texts of the training categories only. Leaves: for each item and epoch a few of its words, drawn without
replacement in proportion to a power of their TF-IDF. Field names stand in every text, so their weight is the lowest
there
is. Words are drawn, not ranked, because diverse beam search needs a generator that knows more than one way to name an
item: taught one fixed answer, it puts all probability there and no penalty up to 1.0 moves it.
"""

from __future__ import annotations

import numpy as np

from shards.counters import generator as counter_generator

SHARPNESS = 3.0


class InformativeWords:
    r"""TF-IDF (L2 norm, natural tf) over the `\w+` words of the given texts."""

    def __init__(self, texts: list[str]) -> None:
        from sklearn.feature_extraction.text import TfidfVectorizer

        vectorizer = TfidfVectorizer(token_pattern=r"\w+")
        self._weights = vectorizer.fit_transform(texts).tocsr()
        self._words = vectorizer.get_feature_names_out()

    def draw(self, row: int, num_words: int, seed: int, epoch: int) -> str:
        """Up to `num_words` distinct words of text `row`, in the order drawn; a function of (seed, epoch, row)."""
        start, stop = self._weights.indptr[row], self._weights.indptr[row + 1]
        columns, weights = self._weights.indices[start:stop], self._weights.data[start:stop]
        # Gumbel's trick: the largest of log-weight plus noise are a draw without replacement.
        noise = counter_generator(seed, "informative words", epoch, row).gumbel(size=len(columns))
        order = np.argsort(-(SHARPNESS * np.log(weights) + noise), kind="stable")[:num_words]
        return " ".join(self._words[columns[order]])
