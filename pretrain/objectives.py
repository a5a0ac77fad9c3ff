"""Model and loss as one module, so that whoever wraps it (the engine) sees every forward pass.

Each objective maps a batch to (summed negative log-likelihood, number of target tokens), both scalars. Padding carries
the label -100 and is in neither. The engine divides by the global number of target tokens.
"""

from __future__ import annotations

from torch import Tensor, nn
from transformers import T5ForConditionalGeneration

from pretrain.batches import IGNORED, GeneratorBatch, TextBatch
from pretrain.soft_ids import expected_embeddings, insert


def summed_loss(logits_BTV: Tensor, labels_BT: Tensor) -> tuple[Tensor, Tensor]:
    """Sum of -log p over labels that are not padding (equations 4 and L_id), and their number."""
    flat = logits_BTV.flatten(0, 1).float(), labels_BT.flatten()
    return nn.functional.cross_entropy(*flat, ignore_index=IGNORED, reduction="sum"), (labels_BT != IGNORED).sum()


def decoder_inputs(model: T5ForConditionalGeneration, labels_BT: Tensor) -> Tensor:
    """Labels shifted right behind the start token, padding as pad (teacher forcing)."""
    return model.prepare_decoder_input_ids_from_labels(labels=labels_BT)


class RecommenderObjective(nn.Module):
    """Equation 4: predict the target item's ID from the prompt.

    Also teaches a generator from scratch to write words.
    """

    def __init__(self, model: T5ForConditionalGeneration) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: TextBatch) -> tuple[Tensor, Tensor]:
        logits_BTV = self.model(
            input_ids=batch.input_ids_BS,
            attention_mask=batch.mask_BS,
            decoder_input_ids=decoder_inputs(self.model, batch.labels_BT),
            use_cache=False,
        ).logits
        return summed_loss(logits_BTV, batch.labels_BT)


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
        logits_ITV = self.model(
            input_ids=batch.item_ids_IU,
            attention_mask=batch.item_mask_IU,
            decoder_input_ids=decoder_inputs(self.model, batch.id_labels_IT),
            use_cache=False,
        ).logits
        return self.loss_from_soft_ids(batch, logits_ITV)

    def loss_from_soft_ids(self, batch: GeneratorBatch, logits_ITV: Tensor) -> tuple[Tensor, Tensor]:
        """The recommender's loss with the prompt's ID tokens replaced by their expected embeddings."""
        embedding_VE = self.recommender.shared.weight
        soft_ITE = expected_embeddings(logits_ITV, embedding_VE)
        inputs_BSE = insert(embedding_VE[batch.prompt.input_ids_BS], soft_ITE, batch.slot_BS)
        logits_BTV = self.recommender(
            inputs_embeds=inputs_BSE,
            attention_mask=batch.prompt.mask_BS,
            decoder_input_ids=decoder_inputs(self.recommender, batch.prompt.labels_BT),
            use_cache=False,
        ).logits
        return summed_loss(logits_BTV, batch.prompt.labels_BT)
