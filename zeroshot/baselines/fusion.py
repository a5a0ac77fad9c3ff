"""The Fusion as sequences, for baselines that are trained on what the model was trained on.

Enters: a shard folder. Leaves: training sequences, held-out validation items and item texts. What must hold: sequences
are those of the tars, so what the build dropped (overlap with the unseen sets) is dropped here; no test item is read.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from shards import counters
from shards.manifest import Manifest
from shards.tables import load_holdout, load_items
from shards.tars import read_tar


@dataclass(frozen=True)
class HeldOut:
    """Users of one category with their validation items; `first` and `end` bound the category's rows of the Fusion."""

    first: int
    end: int
    histories: list[np.ndarray]
    targets: np.ndarray


@dataclass(frozen=True)
class FusionData:
    """Training sequences (rows of the Fusion, oldest first), held-out users by category, texts by row."""

    texts: list[str]
    sequences: list[np.ndarray]
    held_out: list[HeldOut]


def load_fusion(folder: str, manifest: Manifest, validation_users: int, seed: int) -> FusionData:
    """All training sequences and a seeded sample of held-out users, equally many of each category."""
    members = manifest.train_members
    sequences: list[np.ndarray] = []
    held_out = []
    for member in members:
        for tar in member.tars:
            records, _ = read_tar(folder, tar, member.name, member.num_items)
            rows = records.items.astype(np.int64) + member.row_offset
            sequences += np.split(rows, records.offsets[1:-1]) if records.keys else []
        holdout = load_holdout(folder, member)
        order = counters.generator(seed, "fusion-validation", member.name).permutation(len(holdout))
        users = np.sort(order[: -(-validation_users // len(members))])
        if len(users):
            end = member.row_offset + member.num_items
            histories = [holdout.histories[user].astype(np.int64) + member.row_offset for user in users]
            targets_N = holdout.valid[users].astype(np.int64) + member.row_offset
            held_out.append(HeldOut(member.row_offset, end, histories, targets_N))
    if not held_out:
        raise ValueError(f"{folder} holds no held-out user of a train data set; frozen-text cannot be validated")
    return FusionData(load_items(folder, manifest).texts, sequences, held_out)
