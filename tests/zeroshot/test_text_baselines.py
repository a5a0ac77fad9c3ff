"""Baselines that read texts with a model: encoders by hand, the frozen encoder's sequence model, blocks of users."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from rings import RING, SMALL, scores
from safetensors.torch import load_file, save_file
from transformers.models.bert.configuration_bert import BertConfig
from transformers.models.bert.modeling_bert import BertForMaskedLM

from pretrain.model.t5 import save_model
from zeroshot import baselines
from zeroshot.baselines.causal import Shape
from zeroshot.baselines.encoder import EncoderDecayed, EncoderLast, SentenceEncoder
from zeroshot.baselines.fit import FitConfig, best_epoch
from zeroshot.baselines.frozen_text import FrozenTextConfig, FusionData, HeldOut, load_fusion, train_frozen_text
from zeroshot.baselines.sasrec import Sasrec
from zeroshot.harness import check_encoder
from zeroshot.judge.judge import judge
from zeroshot.protocol.config import EvaluateConfig
from zeroshot.protocol.recommender import ProtocolName, Ranking


@pytest.fixture(scope="session")
def encoder_folder(small_model, tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("encoder") / "t5"
    save_model(small_model(4), tokenizer, folder)
    return folder


def test_vectors_are_unit_means_over_the_real_tokens(encoder_folder: Path, small_model, tokenizer) -> None:
    texts = ["title: red garden hose", "title: hose", "title: a long text " * 8, "title: hose"]
    encoder = SentenceEncoder(str(encoder_folder))
    found = encoder.vectors(texts)
    for text, vector_E in zip(texts, found, strict=True):
        ids = tokenizer(text, return_tensors="pt")["input_ids"]
        with torch.no_grad():
            mean_E = small_model(4).encoder(input_ids=ids).last_hidden_state[0].mean(0)
        torch.testing.assert_close(vector_E, mean_E / mean_E.norm(), rtol=1e-4, atol=1e-5)
    assert found[1].equal(found[3])
    with pytest.raises(ValueError, match="cannot load a sentence encoder from '/nowhere'"):
        SentenceEncoder("/nowhere").vectors(texts)


def bert(layers: int) -> BertForMaskedLM:
    return BertForMaskedLM(
        BertConfig(vocab_size=30, hidden_size=16, num_hidden_layers=layers, num_attention_heads=2, intermediate_size=32)
    )


def test_an_encoder_is_whole_or_refused(encoder_folder: Path, tokenizer, tmp_path: Path) -> None:
    texts = ["title: red garden hose"]
    expected = SentenceEncoder(str(encoder_folder)).vectors(texts)
    path, alone = encoder_folder / "model.safetensors", tmp_path / "encoder alone"
    shutil.copytree(encoder_folder, alone)
    weights = {name: one for name, one in load_file(path).items() if not name.startswith("decoder.")}
    save_file(weights, alone / path.name, {"format": "pt"})
    assert SentenceEncoder(str(alone)).vectors(texts).equal(expected), "nobody asks a decoder"
    del weights["encoder.final_layer_norm.weight"]
    save_file(weights, alone / path.name, {"format": "pt"})
    with pytest.raises(ValueError, match="cannot load a sentence encoder .* it lacks encoder.final_layer_norm.weight"):
        SentenceEncoder(str(alone)).vectors(texts)
    with pytest.raises(ValueError, match="it lacks encoder.final_layer_norm.weight"):
        check_encoder(EvaluateConfig("run", "shards", "out", baselines=("encoder-last",), encoder=str(alone)))

    bert(2).save_pretrained(tmp_path / "bert")  # with a head, without a pooler
    assert SentenceEncoder(str(tmp_path / "bert")).load().config.num_hidden_layers == 2
    (tmp_path / "bert" / "config.json").write_text(json.dumps(bert(1).config.to_dict()))
    with pytest.raises(ValueError, match="it has too many: bert.encoder.layer.1"):
        SentenceEncoder(str(tmp_path / "bert")).load()


def test_encoder_baselines_by_hand(encoder_folder: Path) -> None:
    texts = ["title: red hose", "title: blue chair", "title: red chair", "title: green lamp"]
    encoder = SentenceEncoder(str(encoder_folder))
    vectors_IE = encoder.vectors(texts).double().numpy()
    likeness_II = vectors_IE @ vectors_IE.T
    assert np.allclose(scores(EncoderLast(encoder, texts), [0, 3, 1]), [likeness_II[1]], atol=1e-8)
    weights = np.array([0.7**2, 1, 0, 0.7])
    assert np.allclose(scores(EncoderDecayed(encoder, texts), [0, 3, 1]), [weights @ likeness_II], atol=1e-8)


def test_embeddings_are_kept_by_weights_and_texts(encoder_folder: Path, small_model, tokenizer, tmp_path: Path) -> None:
    texts = ["title: red hose", "title: blue chair"]
    first = SentenceEncoder(str(encoder_folder), cache=tmp_path / "cache").vectors(texts)
    asked = []
    again = SentenceEncoder(
        str(encoder_folder), cache=tmp_path / "cache", progress=lambda done, total: asked.append(done)
    ).vectors(texts)
    assert again.equal(first) and not asked
    save_model(small_model(5), tokenizer, tmp_path / "other")
    other = SentenceEncoder(str(tmp_path / "other"), cache=tmp_path / "cache").vectors(texts)
    SentenceEncoder(str(encoder_folder), cache=tmp_path / "cache").vectors([*texts, "title: lamp"])
    assert not other.equal(first)
    assert len(list((tmp_path / "cache").iterdir())) == 3


def circle(num_items: int, shift: float) -> torch.Tensor:
    """Text vectors of items that lie on a circle, the same circle for every catalogue."""
    angles = 2 * np.pi * (np.arange(num_items) + shift) / num_items
    waves = [function(k * angles) for k in (1, 2, 3) for function in (np.cos, np.sin)]
    mixing = np.random.default_rng(8).standard_normal((6, 12))
    return torch.tensor(np.stack(waves, axis=1) @ mixing + 3, dtype=torch.float32)


def test_frozen_text_learns_what_holds_on_another_catalogue() -> None:
    """Users step on by a tenth of a circle. Trained on forty items it lists the right ones of fifty it never saw."""
    draw = np.random.default_rng(1)
    walks = [(start + 4 * np.arange(7)) % 40 for start in draw.integers(0, 40, 200)]
    held_out = HeldOut(0, 40, [walk[:-2] for walk in walks], np.array([walk[-2] for walk in walks]))
    fusion = FusionData([""] * 40, [walk[:-2] for walk in walks], [held_out])
    shape, fit = Shape(width=16, layers=1, max_length=8, dropout=0.0), FitConfig(5e-3, 0.0, 32, 12, 3)
    config = FrozenTextConfig(shape, fit, negatives=20)
    model, epochs = train_frozen_text(fusion, circle(40, 0), config, 0, lambda epoch: None)
    again, _ = train_frozen_text(fusion, circle(40, 0), config, 0, lambda epoch: None)
    for name, weights in model.state_dict().items():
        assert weights.equal(again.state_dict()[name]), name
    assert best_epoch(epochs).validation["HR@5"] > 0.9
    histories = [(start + 5 * np.arange(5)) % 50 for start in range(50)]
    with torch.no_grad():
        found_NI = model.scores(model.items(circle(50, 0.4)), histories)
    wanted_N = np.array([(history[-1] + 5) % 50 for history in histories])
    places_N = (found_NI > found_NI[np.arange(50), wanted_N, None]).sum(1)
    assert (places_N < 5).mean() > 0.8


def test_frozen_text_from_shards(ring_task, encoder_folder: Path, shard_folder: Path, manifest, tmp_path: Path) -> None:
    """Through the door: trained on the tiny Fusion, asked about a catalogue of another size, kept, the same again."""
    fusion = load_fusion(str(shard_folder), manifest, 10, 0)
    assert len(fusion.sequences) == sum(tar.records for member in manifest.train_members for tar in member.tars)
    assert max(int(sequence.max()) for sequence in fusion.sequences) < len(fusion.texts)
    for part, member in zip(fusion.held_out, manifest.train_members, strict=True):
        assert (part.first, part.end) == (member.row_offset, member.row_offset + member.num_items)
        assert len(part.targets) == 5
        assert all(part.first <= row < part.end for history in part.histories for row in history)
    task = ring_task(20)
    context = baselines.BaselineContext(str(shard_folder), encoder=str(encoder_folder), cache=tmp_path)
    names = ("frozen-text", "encoder-last")
    found = [np.array(scores(one, *task.histories)) for one in baselines.build(names, task, context)]
    assert all(scores_NI.shape == (20, RING) and np.isfinite(scores_NI).all() for scores_NI in found)
    assert len(list(tmp_path.glob("frozen-text-*"))) == 1
    again = np.array(scores(baselines.build(names, task, context)[0], *task.histories))
    assert again.tobytes() == found[0].tobytes()


def test_blocks_of_users_change_no_rank(ring_task, encoder_folder: Path, shard_folder: Path, tmp_path: Path) -> None:
    task = ring_task(45)
    context = baselines.BaselineContext(str(shard_folder), encoder=str(encoder_folder), cache=tmp_path)
    built = baselines.build([name for name in baselines.KNOWN if name not in ("sasrec", "ranker")], task, context)
    built.append(Sasrec(task, config=replace(SMALL, fit=replace(SMALL.fit, max_epochs=2))))
    for recommender in built:
        one, other = (judge(task, recommender, "all", block=block).ranks_N.tolist() for block in (1, 16))
        assert one == other, recommender.name
        assert judge(task, Shuffled(recommender), "all", block=45).ranks_N.tolist() == one, recommender.name


class Shuffled:
    """Asks another recommender about the same users in another order, and puts the answers back."""

    def __init__(self, asked: baselines.Recommender) -> None:
        self.asked, self.name = asked, asked.name

    def rank(self, histories: list[np.ndarray], protocols: Sequence[ProtocolName]) -> Ranking:
        order = np.random.default_rng(0).permutation(len(histories))
        answers = self.asked.rank([histories[user] for user in order], protocols)
        assert isinstance(answers, Ranking)
        return Ranking(answers.scores_NK[np.argsort(order)])
