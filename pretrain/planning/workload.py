"""What the data of a run amount to: tokens of an average micro-batch, before an ID was written.

Enters: item tables and histories as numbers, the configuration. Leaves: `Data` and, of each phase kind, an average
`Batch`. Must hold: pure; everything is counted from the shards but two things, which are assumed: the length of an ID
(half a length tier) and that the samples of a micro-batch are drawn at random.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pretrain.config.run import Kind, PretrainConfig

TEMPLATE_TOKENS, SEPARATOR_TOKENS, USER_TOKENS = 13, 2, 3
"""Of the mean template with EOS, between two IDs, and around a user's, with T5's tokenizer."""
TOKENS_PER_WORD = 2


@dataclass(frozen=True)
class Batch:
    """One micro-batch of a phase: real tokens of all rows together, and the width that rows are padded to.

    `texts` distinct item texts are the generator's inputs; `id_tokens` are those of the IDs they get. `runs` are the
    calls that encode texts of like length: (texts, padded width) each.
    """

    rows: float
    prompt_tokens: float
    prompt_width: float
    target_tokens: float
    target_width: float
    texts: float = 0.0
    text_tokens: float = 0.0
    id_tokens: float = 0.0
    id_width: float = 0.0
    runs: tuple[tuple[float, float], ...] = ()

    @property
    def tokens(self) -> float:
        """All real tokens."""
        return self.prompt_tokens + self.target_tokens + self.text_tokens + self.id_tokens

    def padded(self, like_lengths: bool) -> Batch:
        """The same batch with its padding as tokens: what is computed. `like_lengths`: prompts are sorted by length."""
        return dataclasses.replace(
            self,
            prompt_tokens=self.prompt_tokens if like_lengths else self.rows * self.prompt_width,
            text_tokens=sum(number * width for number, width in self.runs),
        )


@dataclass(frozen=True)
class Data:
    """`history`: items in a prompt, mean over samples; `longest`: the most. `text_tokens_N`: tokens of each item's
    text with EOS, cut as the generator reads it. `mentions_N`: samples whose prompt names the item."""

    samples: int
    history: float
    longest: int
    text_tokens_N: np.ndarray
    mentions_N: np.ndarray

    @property
    def items(self) -> int:
        return len(self.text_tokens_N)

    def expected_N(self, rows: float) -> np.ndarray:
        """How likely each item is to be named in a micro-batch of so many samples, drawn at random."""
        return 1 - (1 - self.mentions_N / max(1, self.samples)) ** rows


def count(histories: Sequence[np.ndarray], item_tokens_N: np.ndarray, max_history: int, text_tokens: int) -> Data:
    """`histories`: one a training record, rows of the Fusion, oldest first: `sequence[:-2]`, as the holdout has it.

    A record of n items gives n - 1 samples: each of its prefixes predicts the next item from its last `max_history`.
    """
    lengths_R = np.array([len(history) for history in histories], dtype=np.int64)
    samples_R = np.maximum(lengths_R - 1, 0)
    short_R = np.minimum(samples_R, max_history)
    read_R = short_R * (short_R + 1) // 2 + (samples_R - short_R) * max_history
    flat = np.concatenate([np.zeros(0, dtype=np.int64), *histories]).astype(np.int64)
    starts_R = np.cumsum(lengths_R) - lengths_R
    place = np.arange(len(flat)) - np.repeat(starts_R, lengths_R)
    # The item at place p is in the prompts of the prefixes that end at p + 1 to p + max_history.
    read = np.maximum(np.minimum(np.repeat(samples_R, lengths_R), place + max_history) - place, 0)
    samples = int(samples_R.sum())
    return Data(
        samples=samples,
        history=float(read_R.sum() / max(1, samples)),
        longest=int(short_R.max(initial=0)),
        text_tokens_N=np.minimum(item_tokens_N + 1, text_tokens),
        mentions_N=np.bincount(flat, weights=read, minlength=len(item_tokens_N)),
    )


def id_tokens(config: PretrainConfig) -> float:
    """Tokens of an ID, assumed: half of the first length tier."""
    return config.ids.tier_tokens / 2


def batch_of(kind: Kind, config: PretrainConfig, data: Data, ranks: int) -> Batch:
    """The average micro-batch of one rank."""
    rows = config.batch_size / ranks / config.micro_batches(ranks)
    assumed = id_tokens(config)
    if kind == "teaching":
        words = config.schedule.teaching_words * TOKENS_PER_WORD + 1
        texts = float(data.text_tokens_N.mean())
        return Batch(rows, rows * texts, _up(float(data.text_tokens_N.max())), rows * words, _up(words))
    prompt, longest = _prompt(config, data.history, assumed), _prompt(config, data.longest, assumed)
    target = assumed + 1
    batch = Batch(rows, rows * prompt, _up(longest), rows * target, _up(target))
    if kind == "recommender":
        return batch
    expected_N = data.expected_N(rows)
    texts = float(expected_N.sum())
    return dataclasses.replace(
        batch,
        texts=texts,
        text_tokens=float((expected_N * data.text_tokens_N).sum()),
        id_tokens=texts * target,
        id_width=_up(target),
        runs=_runs(expected_N, data.text_tokens_N),
    )


def _runs(expected_N: np.ndarray, lengths_N: np.ndarray) -> tuple[tuple[float, float], ...]:
    """As `batches.py` cuts them: texts by rising length in up to eight equal runs, each as wide as its longest."""
    order = np.argsort(lengths_N, kind="stable")
    reached = np.cumsum(expected_N[order])
    texts = float(reached[-1])
    number = min(8, int(np.ceil(texts / 16)))
    ends = np.arange(1, number + 1) * texts / number
    ends[-1] = max(texts - 0.5, texts / 2)  # the longest of so many texts, not of the catalogue
    rows = order[np.minimum(np.searchsorted(reached, ends), len(order) - 1)]
    return tuple((texts / number, _up(float(lengths_N[row]))) for row in rows)


def _prompt(config: PretrainConfig, history: float, assumed: float) -> float:
    named = 0.0 if config.prompt.user_id == "none" else USER_TOKENS + config.prompt.user_tokens / 2
    items = 0.0 if config.prompt.user_id == "alone" else history * (assumed + SEPARATOR_TOKENS) - SEPARATOR_TOKENS
    whole = TEMPLATE_TOKENS + named + items
    return min(whole, config.prompt.max_tokens)


def _up(width: float) -> float:
    """Rows are padded to a multiple of 8."""
    return float(-(-int(np.ceil(width)) // 8) * 8)
