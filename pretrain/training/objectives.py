"""The two losses of alternate training (section 2.5, equations 4 and 5), each with its model as one module, so that
whoever wraps it (the engine) sees every forward pass.

Each objective maps a batch to (summed negative log-likelihood, number of target tokens), both scalars. Padding carries
the label -100 and is in neither. The engine divides by the global number of target tokens. The head is applied in
`vocabulary_loss.py`: logits of a whole batch never exist.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from transformers.models.t5.modeling_t5 import T5ForConditionalGeneration

from pretrain.config.soft_ids import SoftIdConfig
from pretrain.data.batches import IGNORED, GeneratorBatch, TextBatch
from pretrain.model.dropout import key_dropout, keyed
from pretrain.model.length_buckets import buckets_of
from pretrain.model.soft_ids import check, insert, soft_ids
from pretrain.model.vocabulary_loss import cross_entropy


def decoder_inputs(model: T5ForConditionalGeneration, labels_BT: Tensor) -> Tensor:
    """Labels shifted right behind the start token, padding as pad (teacher forcing)."""
    return model.prepare_decoder_input_ids_from_labels(labels=labels_BT)


def embedded(model: T5ForConditionalGeneration, tables: Sequence[Tensor]) -> list[Tensor]:
    """The embeddings of several tables of token ids, by one look-up: each has a gradient as large as the vocabulary."""
    flat = model.shared(torch.cat([table.flatten() for table in tables]))
    rows = flat.split([table.numel() for table in tables])
    return [row.view(*table.shape, -1) for row, table in zip(rows, tables, strict=True)]


def head_inputs(model: T5ForConditionalGeneration, inputs_BSE: Tensor, mask_BS: Tensor, targets_BTE: Tensor) -> Tensor:
    """What the head sees at every label, [B * T, E], from the embeddings of both sides; teacher-forced."""
    encoded_BSE = model.encoder(inputs_embeds=inputs_BSE, attention_mask=mask_BS).last_hidden_state
    hidden_BTE = model.decoder(
        inputs_embeds=targets_BTE,
        encoder_hidden_states=encoded_BSE,
        encoder_attention_mask=mask_BS,
        use_cache=False,
    ).last_hidden_state
    if model.config.scale_decoder_outputs:  # a head tied to the embeddings (T5 v1.0)
        hidden_BTE = hidden_BTE * model.model_dim**-0.5
    return hidden_BTE.flatten(0, 1)


def text_loss(
    model: T5ForConditionalGeneration, batch: TextBatch, soft_ME: Tensor | None = None, slot_BS: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Summed cross-entropy and number of labels; rows of like lengths are computed together.

    With soft IDs, place (b, s) of the prompt takes row `slot_BS[b, s]` of `soft_ME` where that is not -1.
    """
    buckets = buckets_of(batch.mask_BS, batch.labels_BT)
    labels = [batch.labels_BT[bucket.rows_N, : bucket.num_labels] for bucket in buckets]
    prompts = [batch.input_ids_BS[bucket.rows_N, : bucket.width] for bucket in buckets]
    tables = embedded(model, [*prompts, *(decoder_inputs(model, labels_NT) for labels_NT in labels)])
    hidden = []
    for bucket, inputs_NSE, targets_NTE in zip(buckets, tables[: len(buckets)], tables[len(buckets) :], strict=True):
        if soft_ME is not None and slot_BS is not None:
            inputs_NSE = insert(inputs_NSE, soft_ME, slot_BS[bucket.rows_N, : bucket.width])
        with keyed(model, None if batch.keys_B is None else batch.keys_B[bucket.rows_N]):
            hidden.append(head_inputs(model, inputs_NSE, batch.mask_BS[bucket.rows_N, : bucket.width], targets_NTE))
    labels_M = torch.cat([labels_NT.flatten() for labels_NT in labels])
    return cross_entropy(torch.cat(hidden), model.lm_head.weight, labels_M)


class RecommenderObjective(nn.Module):
    """L_rec, equation 4: the summed -log P(y_i | y_<i, x) of the target item's ID y after the prompt x (section 2.5.1).

    Also teaches a generator from scratch to write words. `dropout` is the rate in training, keyed by the rows of the
    batch.
    """

    def __init__(self, model: T5ForConditionalGeneration, dropout: float = 0.0) -> None:
        super().__init__()
        key_dropout(model, dropout)
        self.model = model

    def forward(self, batch: TextBatch) -> tuple[Tensor, Tensor]:
        return text_loss(self.model, batch)


class GeneratorObjective(nn.Module):
    """L_id, equation 5: the frozen recommender's loss as a function of the generator's soft IDs (section 2.5.2).

    Its input is Emb_interp (equation 6): `soft_ids.insert` of `soft_ids.soft_ids` into the prompt's embeddings. The
    gradient runs back through it to the generator alone.

    The frozen recommender is kept out of the module's parameters: it is one plain replica per rank in eval mode, never
    wrapped, partitioned or saved with the generator. `dropout` is the generator's rate in training, keyed by the items.
    """

    def __init__(
        self,
        generator: T5ForConditionalGeneration,
        frozen_recommender: T5ForConditionalGeneration,
        options: SoftIdConfig | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        assert not frozen_recommender.training
        assert not any(parameter.requires_grad for parameter in frozen_recommender.parameters())
        self.options = options or SoftIdConfig()
        check(self.options, generator.config.vocab_size)
        key_dropout(generator, dropout)
        self.model = generator
        self._frozen = [frozen_recommender]

    @property
    def recommender(self) -> T5ForConditionalGeneration:
        return self._frozen[0]

    def forward(self, batch: GeneratorBatch) -> tuple[Tensor, Tensor]:
        labels_M, embedding_VE = batch.id_labels_IT.flatten(), self.recommender.shared.weight
        real_N = (labels_M != IGNORED).nonzero().squeeze(1)
        hidden_NE = self.id_states(batch)[real_N]
        soft_NE = soft_ids(hidden_NE, self.model.lm_head.weight, embedding_VE, labels_M[real_N], self.options)
        soft_ME = soft_NE.new_zeros(len(labels_M), embedding_VE.shape[1]).index_copy(0, real_N, soft_NE)
        return self.loss_from_embeddings(batch, soft_ME)

    def id_states(self, batch: GeneratorBatch) -> Tensor:
        """What the generator's head sees at every place of the distinct items' IDs, [I * T, E]."""
        texts = [batch.item_ids_IU[at:end, :width] for at, end, width in batch.parts]
        labels = [batch.id_labels_IT[at:end] for at, end, _ in batch.parts]
        tables = embedded(self.model, [*texts, *(decoder_inputs(self.model, labels_NT) for labels_NT in labels)])
        inputs, targets, hidden = tables[: len(texts)], tables[len(texts) :], []
        for (at, end, width), inputs_NUE, targets_NTE in zip(batch.parts, inputs, targets, strict=True):
            with keyed(self.model, batch.item_keys_I[at:end]):
                hidden.append(head_inputs(self.model, inputs_NUE, batch.item_mask_IU[at:end, :width], targets_NTE))
        return torch.cat(hidden)

    def loss_from_embeddings(self, batch: GeneratorBatch, soft_ME: Tensor) -> tuple[Tensor, Tensor]:
        """Equation 5: the recommender's loss with the prompt's ID tokens replaced by embeddings, one row per place
        of an ID. `soft_ME`: [I * T, E]."""
        return text_loss(self.recommender, batch.prompt, soft_ME, batch.slot_BS)
