"""A sentence encoder on the item texts, without any training: the item closest to the last one or to the history.

Enters: a Hugging Face name or folder, texts. Leaves: unit vectors of the items, dense scores. What must hold: only real
tokens count in the mean over tokens; texts are encoded in blocks that depend on the texts alone, so that the same text
list gives the same bits; nothing is fetched where a folder is given.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers.models.auto.configuration_auto import AutoConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_TEXT_ENCODING_MAPPING, AutoModel, AutoModelForTextEncoding
from transformers.models.auto.tokenization_auto import AutoTokenizer

from pretrain.model.t5 import content_hash
from pretrain.model.weights import load_whole
from pretrain.ranking.text_match import decayed_profiles
from zeroshot.baselines.cache import cached, hash_of
from zeroshot.baselines.tfidf import DECAY_LENGTH
from zeroshot.protocol.recommender import ProtocolName, Ranking

BLOCK_TOKENS = 4096
"""Tokens of a block of texts, padding included."""
MAX_TOKENS = 256
"""Longer texts are cut, as a model's own limit cuts them too."""
DECIMALS = 9


class SentenceEncoder:
    """Texts to unit vectors: the mean of the last layer's states over the real tokens.

    An encoder-decoder such as T5 serves with its encoder alone.
    """

    def __init__(
        self, name: str, device: torch.device | None = None, threads: int = 1, cache: str | Path | None = None,
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> None:  # fmt: skip
        self.name, self.device, self.threads = name, device or torch.device("cpu"), threads
        self.cache, self.progress = cache, progress

    @cached_property
    def model(self) -> Any:
        """The encoder, on its device."""
        return self.load().to(self.device)

    def load(self) -> Any:
        """The encoder in float32 on the CPU. ValueError where it cannot be loaded whole."""
        try:
            known = type(AutoConfig.from_pretrained(self.name)) in MODEL_FOR_TEXT_ENCODING_MAPPING
        except (OSError, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise ValueError(f"cannot load a sentence encoder from '{self.name}': {reason}") from error
        # A model that is not among the text encoders that transformers lists may be one.
        kind = AutoModelForTextEncoding if known else AutoModel
        model = load_whole(kind, self.name, "a sentence encoder", part=True, dtype=torch.float32)
        if getattr(model.config, "is_encoder_decoder", False) and hasattr(model, "get_encoder"):
            model = model.get_encoder()
        return model.eval()

    @cached_property
    def tokenizer(self) -> Any:
        """Its tokenizer. ValueError where there is none."""
        try:
            return AutoTokenizer.from_pretrained(self.name)
        except (OSError, ValueError) as error:
            raise ValueError(f"'{self.name}' has no tokenizer: {str(error).splitlines()[0]}") from error

    @cached_property
    def weights_hash(self) -> str:
        """sha256 of the encoder's weights."""
        return content_hash(self.model)

    def vectors(self, texts: list[str]) -> Tensor:
        """Unit vectors [I, E] of the texts, float32 on the CPU; from the cache where they are there."""
        key = {
            "weights": self.weights_hash, "texts": hash_of(texts), "tokens": MAX_TOKENS, "block": BLOCK_TOKENS,
            "device": self.device.type, "threads": self.threads,
        }  # fmt: skip
        return cached(self.cache, "embeddings", key, lambda: {"vectors": self._encode(texts)})["vectors"]

    @torch.no_grad()
    def _encode(self, every_text: list[str]) -> Tensor:
        place = {text: row for row, text in enumerate(dict.fromkeys(every_text))}
        texts = list(place)  # each once, so that equal texts have equal vectors
        limit = min(MAX_TOKENS, self.tokenizer.model_max_length)
        rows = self.tokenizer(texts, truncation=True, max_length=limit)["input_ids"]
        lengths = np.array([len(row) for row in rows])
        order = np.argsort(lengths, kind="stable")
        fill = self.tokenizer.pad_token_id or 0
        vectors_IE: Tensor | None = None
        for done, block in length_blocks(lengths, order):
            width = int(lengths[block].max(initial=1))
            ids_BS = torch.tensor([rows[row] + [fill] * (width - len(rows[row])) for row in block], device=self.device)
            lengths_B1 = torch.tensor(lengths[block], device=self.device)[:, None]
            mask_BS = torch.arange(width, device=self.device) < lengths_B1
            states_BSE = self.model(input_ids=ids_BS, attention_mask=mask_BS.long()).last_hidden_state
            sums_BE = (states_BSE * mask_BS[..., None]).sum(1)
            if vectors_IE is None:
                vectors_IE = torch.zeros(len(texts), sums_BE.shape[1])
            vectors_IE[torch.from_numpy(block)] = torch.nn.functional.normalize(sums_BE, dim=1).cpu()
            self.progress(done, len(texts))
        assert vectors_IE is not None, "a catalogue has items"
        return vectors_IE[torch.tensor([place[text] for text in every_text])]


def length_blocks(lengths: np.ndarray, order: np.ndarray) -> list[tuple[int, np.ndarray]]:
    """Runs of `order` (rows by rising length) of at most BLOCK_TOKENS tokens, each with the rows done after it."""
    blocks, start = [], 0
    while start < len(order):
        stop = start + 1
        while stop < len(order) and lengths[order[stop]] * (stop + 1 - start) <= BLOCK_TOKENS:
            stop += 1
        blocks.append((stop, order[start:stop]))
        start = stop
    return blocks


class EncoderDecayed:
    """Cosine of an item's vector with the decayed sum of the last 20 items' vectors, weight 0.7 per step back."""

    name = "encoder-decayed"
    length = DECAY_LENGTH

    def __init__(self, encoder: SentenceEncoder, texts: list[str]) -> None:
        self.encoder, self.texts = encoder, texts

    @cached_property
    def vectors(self) -> np.ndarray:
        """Unit vectors [I, E] of the items, made when they are first needed."""
        return self.encoder.vectors(self.texts).numpy().astype(np.float64)

    def rank(self, histories: list[np.ndarray], protocols: Sequence[ProtocolName]) -> Ranking:
        """Dense scores, not normalised by the length of the user's vector: that would not change an order.

        In double precision and rounded, because the last bits of a product depend on how many users are asked at once.
        """
        profiles: Any = decayed_profiles(histories, len(self.texts), self.length)
        return Ranking(np.round(profiles @ self.vectors @ self.vectors.T, DECIMALS))


class EncoderLast(EncoderDecayed):
    """Cosine of an item's vector with the last item's."""

    name = "encoder-last"
    length = 1
