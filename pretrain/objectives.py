"""Model and loss as one module, so that whoever wraps it (the engine) sees every forward pass.

Each objective maps a batch to (summed negative log-likelihood, number of target tokens), both scalars. Padding carries
the label -100 and is in neither. The engine divides by the global number of target tokens. The head is applied in
`fused.py`: logits of a whole batch never exist.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers import T5ForConditionalGeneration

from pretrain.batches import IGNORED, GeneratorBatch, TextBatch
from pretrain.dropout import key_dropout, keyed
from pretrain.fused import cross_entropy
from pretrain.soft_ids import check, insert, soft_ids
from pretrain.soft_ids_config import SoftIdConfig


def decoder_inputs(model: T5ForConditionalGeneration, labels_BT: Tensor) -> Tensor:
    """Labels shifted right behind the start token, padding as pad (teacher forcing)."""
    return model.prepare_decoder_input_ids_from_labels(labels=labels_BT)


def head_inputs(
    model: T5ForConditionalGeneration, mask_BS: Tensor, labels_BT: Tensor, input_ids_BS: Tensor | None = None,
    inputs_BSE: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """What the head sees at every label, [B * T, E], from token ids or from embeddings; teacher-forced."""
    encoded_BSE = model.encoder(
        input_ids=input_ids_BS, inputs_embeds=inputs_BSE, attention_mask=mask_BS
    ).last_hidden_state
    hidden_BTE = model.decoder(
        input_ids=decoder_inputs(model, labels_BT),
        encoder_hidden_states=encoded_BSE,
        encoder_attention_mask=mask_BS,
        use_cache=False,
    ).last_hidden_state
    if model.config.scale_decoder_outputs:  # a head tied to the embeddings (T5 v1.0)
        hidden_BTE = hidden_BTE * model.model_dim**-0.5
    return hidden_BTE.flatten(0, 1)


class RecommenderObjective(nn.Module):
    """Equation 4: predict the target item's ID from the prompt.

    Also teaches a generator from scratch to write words. `dropout` is the rate in training, keyed by the rows of the
    batch.
    """

    def __init__(self, model: T5ForConditionalGeneration, dropout: float = 0.0) -> None:
        super().__init__()
        key_dropout(model, dropout)
        self.model = model

    def forward(self, batch: TextBatch) -> tuple[Tensor, Tensor]:
        with keyed(self.model, batch.keys_B):
            hidden_ME = head_inputs(self.model, batch.mask_BS, batch.labels_BT, batch.input_ids_BS)
        return cross_entropy(hidden_ME, self.model.lm_head.weight, batch.labels_BT.flatten())


class GeneratorObjective(nn.Module):
    """L_id: the frozen recommender's loss as a function of the generator's soft IDs.

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
        ids_IU, mask_IU, labels_IT = batch.item_ids_IU, batch.item_mask_IU, batch.id_labels_IT
        hidden = []
        for at, end, width in batch.parts:
            with keyed(self.model, batch.item_keys_I[at:end]):
                hidden.append(
                    head_inputs(self.model, mask_IU[at:end, :width], labels_IT[at:end], ids_IU[at:end, :width])
                )
        hidden_ME, labels_M = torch.cat(hidden), labels_IT.flatten()
        real_N = (labels_M != IGNORED).nonzero().squeeze(1)
        embedding_VE = self.recommender.shared.weight
        soft_NE = soft_ids(hidden_ME[real_N], self.model.lm_head.weight, embedding_VE, labels_M[real_N], self.options)
        soft_ME = soft_NE.new_zeros(len(hidden_ME), embedding_VE.shape[1]).index_copy(0, real_N, soft_NE)
        return self.loss_from_embeddings(batch, soft_ME)

    def loss_from_embeddings(self, batch: GeneratorBatch, soft_ME: Tensor) -> tuple[Tensor, Tensor]:
        """The recommender's loss with the prompt's ID tokens replaced by embeddings, one row per place of an ID."""
        inputs_BSE = insert(self.recommender.shared.weight[batch.prompt.input_ids_BS], soft_ME, batch.slot_BS)
        hidden_ME = head_inputs(self.recommender, batch.prompt.mask_BS, batch.prompt.labels_BT, inputs_BSE=inputs_BSE)
        return cross_entropy(hidden_ME, self.recommender.lm_head.weight, batch.prompt.labels_BT.flatten())
