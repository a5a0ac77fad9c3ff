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
from pretrain.fused import cross_entropy, expected_embeddings
from pretrain.parts import parts_of
from pretrain.soft_ids import insert


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

    Also teaches a generator from scratch to write words.
    """

    def __init__(self, model: T5ForConditionalGeneration) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: TextBatch) -> tuple[Tensor, Tensor]:
        hidden, labels = [], []
        for part in parts_of(batch.mask_BS, batch.labels_BT):
            ids_NS, mask_NS = batch.input_ids_BS[part.rows_N, : part.width], batch.mask_BS[part.rows_N, : part.width]
            labels_NT = batch.labels_BT[part.rows_N, : part.num_labels]
            hidden.append(head_inputs(self.model, mask_NS, labels_NT, ids_NS))
            labels.append(labels_NT.flatten())
        return cross_entropy(torch.cat(hidden), self.model.lm_head.weight, torch.cat(labels))


class GeneratorObjective(nn.Module):
    """L_id: the frozen recommender's loss as a function of the generator's soft IDs.

    The frozen recommender is kept out of the module's parameters: it is one plain replica per rank in eval mode, never
    wrapped, partitioned or saved with the generator.
    """

    def __init__(self, generator: T5ForConditionalGeneration, frozen_recommender: T5ForConditionalGeneration) -> None:
        super().__init__()
        assert not frozen_recommender.training
        assert not any(parameter.requires_grad for parameter in frozen_recommender.parameters())
        self.model = generator
        self._frozen = [frozen_recommender]

    @property
    def recommender(self) -> T5ForConditionalGeneration:
        return self._frozen[0]

    def forward(self, batch: GeneratorBatch) -> tuple[Tensor, Tensor]:
        ids_IU, mask_IU, labels_IT = batch.item_ids_IU, batch.item_mask_IU, batch.id_labels_IT
        hidden_ME = torch.cat([
            head_inputs(self.model, mask_IU[at:end, :width], labels_IT[at:end], ids_IU[at:end, :width])
            for at, end, width in batch.parts
        ])  # fmt: skip
        real_N = (batch.id_labels_IT.flatten() != IGNORED).nonzero().squeeze(1)
        embedding_VE = self.recommender.shared.weight
        soft_NE = expected_embeddings(hidden_ME[real_N], self.model.lm_head.weight, embedding_VE)
        soft_ME = soft_NE.new_zeros(len(hidden_ME), embedding_VE.shape[1]).index_copy(0, real_N, soft_NE)
        return self.loss_from_embeddings(batch, soft_ME)

    def loss_from_embeddings(self, batch: GeneratorBatch, soft_ME: Tensor) -> tuple[Tensor, Tensor]:
        """The recommender's loss with the prompt's ID tokens replaced by embeddings, one row per place of an ID."""
        prompt, recommender = batch.prompt, self.recommender
        hidden, labels = [], []
        for part in parts_of(prompt.mask_BS, prompt.labels_BT):
            ids_NS, slot_NS, mask_NS = (
                table[part.rows_N, : part.width] for table in (prompt.input_ids_BS, batch.slot_BS, prompt.mask_BS)
            )
            labels_NT = prompt.labels_BT[part.rows_N, : part.num_labels]
            inputs_NSE = insert(recommender.shared.weight[ids_NS], soft_ME, slot_NS)
            hidden.append(head_inputs(recommender, mask_NS, labels_NT, inputs_BSE=inputs_NSE))
            labels.append(labels_NT.flatten())
        return cross_entropy(torch.cat(hidden), recommender.lm_head.weight, torch.cat(labels))
