"""How probable IDs are without a history: what a search takes a share of away.

Enters: a decoder, the prompt of an empty history, IDs. Leaves: log-probabilities of their tokens and EOS, as weights of
a trie. Must hold: IDs that share a prefix have the same numbers there, to the bit; what a block of IDs gets depends on
nothing outside of it, so that blocks can be computed anywhere.

An ID of frequent words is probable after any history, and crowds the lists of everyone. What a history says of an item
is the difference log p(ID | history) - log p(ID), their pointwise mutual information (Li et al. 2016, "A
Diversity-Promoting Objective Function", section 4.2.1, with the same weight of the prior).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch

from pretrain.decoding.decoder import T5Decoder
from pretrain.runtime.watchdog import beat
from pretrain.runtime.world import World

BLOCK = 64
"""IDs computed at once."""


def catalogue_prior(
    decoder: T5Decoder, prompt_S: np.ndarray, token_ids: Sequence[np.ndarray], eos: int, world: World | None = None
) -> list[np.ndarray]:
    """Of every ID of a catalogue. With a World the blocks are shared out over its ranks; collective then."""
    rank, size = (0, 1) if world is None else (world.rank, world.size)
    blocks = prior_blocks(decoder, prompt_S, token_ids, eos, range(num_blocks(token_ids))[rank::size])
    for part in [] if world is None else world.gather(blocks):
        blocks |= part
    return shared_prefixes([values for _, block in sorted(blocks.items()) for values in block], token_ids)


def num_blocks(token_ids: Sequence[np.ndarray]) -> int:
    """Blocks of a catalogue."""
    return -(-len(token_ids) // BLOCK)


def prior_blocks(
    decoder: T5Decoder, prompt_S: np.ndarray, token_ids: Sequence[np.ndarray], eos: int, numbers: Iterable[int]
) -> dict[int, list[np.ndarray]]:
    """By block number, the log-probability (equation 2) of each token of each of its IDs and of EOS after it, where
    the encoder has read `prompt_S`."""
    device = decoder.head_VE.device
    ids_1S = torch.from_numpy(np.asarray(prompt_S, dtype=np.int64))[None].to(device)
    encoded_1SE = decoder.encode(ids_1S, torch.ones_like(ids_1S))
    return {
        number: _block(decoder, encoded_1SE, token_ids[number * BLOCK : (number + 1) * BLOCK], eos)
        for number in numbers
    }


def _block(
    decoder: T5Decoder, encoded_1SE: torch.Tensor, token_ids: Sequence[np.ndarray], eos: int
) -> list[np.ndarray]:
    beat("log-probabilities of IDs without a history")
    lengths = np.array([len(ids) for ids in token_ids])
    batch, width, device = len(lengths), int(lengths.max()) + 1, encoded_1SE.device
    target_BT = np.full((batch, width), eos)
    for row, ids in enumerate(token_ids):
        target_BT[row, : len(ids)] = ids
    target_BT = torch.from_numpy(target_BT).to(device)
    place_BT = torch.arange(width, device=device).expand(batch, -1)
    live_BT = place_BT <= torch.from_numpy(lengths).to(device)[:, None]
    fed_BT = target_BT.roll(1, dims=1)
    fed_BT[:, 0] = decoder.start_token
    encoded_BSE = encoded_1SE.expand(batch, -1, -1)
    state = decoder.start(encoded_BSE, torch.ones(encoded_BSE.shape[:2], dtype=torch.long, device=device))
    nothing_BT = torch.zeros_like(live_BT)
    hidden_ME = decoder.extend(state, fed_BT, torch.zeros_like(fed_BT), place_BT, nothing_BT, live_BT)
    log_prob_M, _ = decoder.log_probs(hidden_ME, torch.arange(len(hidden_ME), device=device), target_BT[live_BT])
    return np.split(log_prob_M.double().cpu().numpy(), np.cumsum(lengths + 1)[:-1])


def shared_prefixes(log_probs: Sequence[np.ndarray], token_ids: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The same numbers, those of a prefix being everywhere what they are for the first ID that has it: rounding differs
    from block to block."""
    known: dict[bytes, float] = {}
    return [
        np.array([
            known.setdefault(ids[:place].tobytes() if place <= len(ids) else ids.tobytes() + b"eos", value)
            for place, value in enumerate(values.tolist(), start=1)
        ])
        for ids, values in zip(token_ids, log_probs, strict=True)
    ]  # fmt: skip
