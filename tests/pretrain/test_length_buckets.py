"""Parts of like lengths: each row once, equally many for equally many rows, and the cheapest cut."""

from itertools import combinations, pairwise

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from pretrain.model.length_buckets import IGNORED, MOST, buckets_of, cut


def cost(lengths, bounds):
    return sum((end - begin) * lengths[end - 1] for begin, end in pairwise(bounds))


@given(st.lists(st.integers(1, 50), min_size=1, max_size=9), st.integers(1, 4))
def test_no_other_cut_is_cheaper(lengths, buckets):
    lengths, buckets = np.sort(lengths), min(buckets, len(lengths))
    bounds = cut(lengths, buckets)
    assert len(bounds) == buckets + 1 and all(begin < end for begin, end in pairwise(bounds))
    every = ([0, *inner, len(lengths)] for inner in combinations(range(1, len(lengths)), buckets - 1))
    assert cost(lengths, bounds) == min(cost(lengths, other) for other in every)


@given(st.lists(st.tuples(st.integers(1, 60), st.integers(0, 9)), min_size=1, max_size=150))
def test_parts_hold_every_row_and_all_of_it(sizes):
    width, num_labels = (np.array(column) for column in zip(*sizes, strict=True))
    mask = torch.arange(64) < torch.from_numpy(width)[:, None]
    labels = torch.where(torch.arange(16) < torch.from_numpy(num_labels)[:, None], 5, IGNORED)
    buckets = buckets_of(mask.long(), labels)
    assert len(buckets) == max(1, min(MOST, len(sizes) // 8))
    assert sorted(torch.cat([bucket.rows_N for bucket in buckets]).tolist()) == list(range(len(sizes)))
    for bucket in buckets:
        assert bucket.width == width[bucket.rows_N].max()
        assert bucket.num_labels == max(1, num_labels[bucket.rows_N].max())
    assert sum(bucket.tokens for bucket in buckets) <= len(sizes) * (width.max() + max(1, num_labels.max()))


def test_many_rows_of_two_lengths_are_not_mixed():
    width = np.array([10] * 700 + [60] * 300)
    mask = (
        torch.arange(64)
        < torch.from_numpy(width)[torch.randperm(1000, generator=torch.Generator().manual_seed(0)), None]
    ).long()
    tokens = sum(bucket.tokens for bucket in buckets_of(mask, torch.full((1000, 8), IGNORED)))
    assert tokens < 1.02 * (700 * 10 + 300 * 60 + 1000)
