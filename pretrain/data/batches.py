"""Samples joined with the current ID book become tensors.

Enters: samples of the stream (None = zero-weight filler), the ID book, the item table. Leaves: one batch per phase
kind, padded to a multiple of 8. Must hold: IDs come from the book given now, never from an earlier round; the template,
the key of the dropout masks and whether a history is left out are functions of (seed, epoch, sample); the target stands
in the labels alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from pretrain.config.prompt import TEMPLATES
from pretrain.data.prompts import Prompt, PromptBuilder, told_items
from pretrain.ids.book import Book
from pretrain.model.length_buckets import MOST, buckets_of, cut
from shards.counters import generator as counter_generator
from shards.counters import number as counter_number
from shards.records import Sample
from shards.tables import ItemTable

IGNORED = -100
NO_HISTORY = np.empty(0, dtype=np.int32)
UserIdsOf = Callable[[Sequence[np.ndarray]], list[np.ndarray]]
"""Histories of item rows -> the token ids of their users' IDs, such as `UserIds.write`."""
SAMPLES_PER_PART = 4
"""Samples for each part in which the items of a generator batch are encoded."""


@dataclass(frozen=True)
class TextBatch:
    """Input tokens, their mask, labels with -100 for padding, and the rows' int64 keys of dropout (`dropout.py`).

    Without keys no model with dropout can be trained on it.
    """

    input_ids_BS: Tensor
    mask_BS: Tensor
    labels_BT: Tensor
    keys_B: Tensor | None = None

    def to(self, device: torch.device) -> TextBatch:
        keys_B = None if self.keys_B is None else self.keys_B.to(device)
        return TextBatch(self.input_ids_BS.to(device), self.mask_BS.to(device), self.labels_BT.to(device), keys_B)

    @property
    def num_targets(self) -> int:
        """Target tokens that carry loss."""
        return int((self.labels_BT != IGNORED).sum())

    @property
    def input_tokens(self) -> int:
        """Input tokens that are no padding."""
        return int(self.mask_BS.sum())

    @property
    def real_tokens(self) -> int:
        """Tokens of both sides that are no padding."""
        return self.input_tokens + self.num_targets

    @property
    def padded_tokens(self) -> int:
        """Tokens that are computed, padding included."""
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")  # a rank's
        return sum(part.tokens for part in buckets_of(self.mask_BS, self.labels_BT, device))


@dataclass(frozen=True)
class GeneratorBatch:
    """A recommender batch, the texts and IDs of the distinct items in its histories, and where their tokens stand.

    `slot_BS[b, s]` is `index of the item * T + place in its ID` for an ID token, else -1. Items are sorted by the
    length of their text; `parts` are runs of them that are encoded together: (first, end, width of their texts).
    `item_keys_I` are their int64 keys of dropout, the same on every rank that has the item in this step.
    """

    prompt: TextBatch
    item_ids_IU: Tensor
    item_mask_IU: Tensor
    id_labels_IT: Tensor
    slot_BS: Tensor
    parts: tuple[tuple[int, int, int], ...]
    item_keys_I: Tensor

    def to(self, device: torch.device) -> GeneratorBatch:
        tensors = (self.item_ids_IU, self.item_mask_IU, self.id_labels_IT, self.slot_BS, self.item_keys_I)
        item_ids, item_mask, id_labels, slots, keys = (tensor.to(device) for tensor in tensors)
        return GeneratorBatch(self.prompt.to(device), item_ids, item_mask, id_labels, slots, self.parts, keys)

    @property
    def num_targets(self) -> int:
        """Target tokens that carry loss."""
        return self.prompt.num_targets

    @property
    def item_tokens(self) -> int:
        """Text tokens of the distinct items."""
        return int(self.item_mask_IU.sum())

    @property
    def id_tokens(self) -> int:
        """Tokens of the distinct items' IDs."""
        return int((self.id_labels_IT != IGNORED).sum())

    @property
    def real_tokens(self) -> int:
        """Tokens of prompts, targets, item texts and IDs that are no padding."""
        return self.prompt.real_tokens + self.item_tokens + self.id_tokens

    @property
    def padded_tokens(self) -> int:
        """Tokens that are computed, padding included."""
        texts = sum((end - first) * width for first, end, width in self.parts)
        return self.prompt.padded_tokens + texts + self.id_labels_IT.numel()


def _parts(lengths: list[int], number: int) -> Iterator[tuple[int, int, int]]:
    """`number` runs of rising lengths, each padded to its longest, so that little is padding."""
    widths = -(-np.array(lengths) // 8) * 8
    bounds = cut(widths, number)
    for first, end in zip(bounds[:-1], bounds[1:], strict=True):
        yield first, end, int(widths[end - 1])


def pad_rows(rows: Sequence[np.ndarray | list[int]], fill: int, multiple: int = 8) -> np.ndarray:
    """Rows of different lengths as one int64 array, at least one column wide."""
    width = -(-max([1, *(len(row) for row in rows)]) // multiple) * multiple
    table = np.full((len(rows), width), fill, dtype=np.int64)
    for index, row in enumerate(rows):
        table[index, : len(row)] = row
    return table


def text_batch(
    inputs: Sequence[np.ndarray | list[int]],
    targets: Sequence[np.ndarray | list[int]],
    eos: int,
    keys: Sequence[int] | None = None,
) -> TextBatch:
    """Inputs (EOS included), targets (EOS added here; an empty target is a filler and carries no loss), and one key of
    dropout a row where a model is trained."""
    input_ids_BS = pad_rows(inputs, -1)
    mask_BS = input_ids_BS >= 0
    mask_BS[:, 0] = True
    labels_BT = pad_rows([[*target, eos] if len(target) else [] for target in targets], IGNORED)
    return TextBatch(
        torch.from_numpy(np.maximum(input_ids_BS, 0)),
        torch.from_numpy(mask_BS).long(),
        torch.from_numpy(labels_BT),
        None if keys is None else torch.tensor(keys, dtype=torch.int64),
    )


class BatchMaker:
    """Joins samples with one ID book."""

    def __init__(
        self, prompts: PromptBuilder, book: Book, items: ItemTable, item_text_tokens: int, seed: int,
        history_dropout: float = 0.0, user_ids: UserIdsOf | None = None,
    ) -> None:  # fmt: skip
        """`user_ids`: writes the ID of whoever has each history, where prompts name the user."""
        self.prompts, self.book, self.items, self.seed = prompts, book, items, seed
        self.item_text_tokens, self.history_dropout = item_text_tokens, history_dropout
        self.user_ids = user_ids
        self.shown = told_items(prompts.config, book.token_ids, items)

    def recommender_batch(self, samples: Sequence[Sample | None], epoch: int) -> TextBatch:
        """Prompts with the histories' IDs, or texts, or where `history_dropout` so draws without; labels are the
        target's ID."""
        asked = [
            replace(sample, history=sample.history[:0]) if sample and self._left_out(sample, epoch) else sample
            for sample in samples
        ]
        return self._text_batch(samples, self._prompts(asked, epoch), epoch)

    def generator_batch(self, samples: Sequence[Sample | None], epoch: int, slot: int = 0) -> GeneratorBatch:
        """The recommender batch, and its histories' distinct items, each once.

        `slot`: the first slot of the optimiser step, which gives an item another dropout mask in each step.
        """
        assert self.prompts.config.history == "ids", "soft IDs stand where the IDs do"
        prompts = self._prompts(samples, epoch)
        histories = [sample.history if sample else NO_HISTORY for sample in samples]
        used = [history[np.unique(p.item_S[p.item_S >= 0])] for history, p in zip(histories, prompts, strict=True)]
        distinct = np.unique(np.concatenate(used)).astype(np.int64)
        # As many parts on every rank, whatever their items: ZeRO stage 3 gathers weights in every call.
        number = max(1, min(MOST, len(samples) // SAMPLES_PER_PART))
        unused = max(0, number - len(distinct))
        rows = np.concatenate([distinct, np.zeros(unused, dtype=np.int64)])
        texts = [self._item_text(row) for row in rows.tolist()]
        order = np.argsort([len(text) for text in texts], kind="stable")
        index_of = np.argsort(order)
        item_ids_IU = pad_rows([texts[index] for index in order], -1)
        ids = [*(self.book.token_ids[row] for row in distinct), *[np.empty(0, dtype=np.int64)] * unused]
        id_labels_IT = pad_rows([ids[index] for index in order], IGNORED)
        slots = []
        for history, prompt in zip(histories, prompts, strict=True):
            slot_S = np.full(len(prompt.item_S), -1, dtype=np.int64)
            at = prompt.item_S >= 0
            index = index_of[np.searchsorted(distinct, history[prompt.item_S[at]])]
            slot_S[at] = index * id_labels_IT.shape[1] + prompt.offset_S[at]
            slots.append(slot_S)
        return GeneratorBatch(
            self._text_batch(samples, prompts, epoch),
            torch.from_numpy(np.maximum(item_ids_IU, 0)),
            torch.from_numpy(item_ids_IU >= 0).long(),
            torch.from_numpy(id_labels_IT),
            torch.from_numpy(pad_rows(slots, -1)),
            tuple(_parts([len(texts[index]) for index in order], number)),
            torch.tensor([self._item_key(epoch, slot, int(rows[index])) for index in order]),
        )

    def _prompts(self, samples: Sequence[Sample | None], epoch: int) -> list[Prompt]:
        users: list[np.ndarray] | list[None] = [None] * len(samples)
        if self.user_ids is not None:
            users = self.user_ids([sample.history if sample else NO_HISTORY for sample in samples])
        return [
            Prompt(*(np.empty(0, dtype=np.int64),) * 3)
            if sample is None
            else self.prompts.build([self.shown[row] for row in sample.history], self._template(sample, epoch), user)
            for sample, user in zip(samples, users, strict=True)
        ]

    def _left_out(self, sample: Sample, epoch: int) -> bool:
        if not self.history_dropout:
            return False
        draw = counter_number(self.seed, "history dropout", epoch, sample.key, sample.prefix_end)
        return (draw + 2**63) / 2**64 < self.history_dropout

    def _template(self, sample: Sample, epoch: int) -> int:
        return int(
            counter_generator(self.seed, "template", epoch, sample.key, sample.prefix_end).integers(len(TEMPLATES))
        )

    def _text_batch(self, samples: Sequence[Sample | None], prompts: list[Prompt], epoch: int) -> TextBatch:
        targets = [self.book.token_ids[sample.target] if sample else [] for sample in samples]
        keys = [
            counter_number(self.seed, "dropout", epoch, sample.key, sample.prefix_end) if sample else 0
            for sample in samples
        ]
        return text_batch([prompt.tokens_S for prompt in prompts], targets, self.prompts.eos, keys)

    def _item_key(self, epoch: int, slot: int, row: int) -> int:
        return counter_number(self.seed, "dropout of items", epoch, slot, row)

    def _item_text(self, row: int) -> np.ndarray:
        return np.append(self.items.tokens(row)[: self.item_text_tokens - 1], self.prompts.eos)
