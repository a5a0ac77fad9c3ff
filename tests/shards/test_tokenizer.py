import json

import pytest
from raw_folders import plain

from shards.tokenizer import encode_texts, fingerprint, load_tokenizer, padded_vocab_size, train_tokenizer


@pytest.fixture(scope="module")
def texts(raw):
    return list(plain(raw / "Garden")[1].values())


@pytest.fixture(scope="module")
def trained(texts, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    return folder, train_tokenizer(texts, folder, 400)


def test_layout_is_t5s(trained):
    _, tokenizer = trained
    assert tokenizer.convert_ids_to_tokens([0, 1, 2]) == ["<pad>", "</s>", "<unk>"]
    assert (tokenizer.pad_token_id, tokenizer.eos_token_id, tokenizer.unk_token_id) == (0, 1, 2)
    assert tokenizer.bos_token is None
    assert tokenizer.convert_tokens_to_ids("<extra_id_0>") == len(tokenizer) - 1
    assert padded_vocab_size(tokenizer) == -(-len(tokenizer) // 128) * 128 and len(tokenizer) <= 500


def test_fast_tokenizer_and_sentencepiece_agree(trained, texts, raw):
    import sentencepiece

    folder, tokenizer = trained
    spiece = sentencepiece.SentencePieceProcessor(model_file=str(folder / "spiece.model"))
    seen = texts + list(plain(raw / "Places")[1].values()) + ["  Two  spaces ", "ÅÉ ﬁne ① 日本"]
    assert encode_texts(tokenizer, seen) == spiece.encode(seen)


def test_text_comes_back_and_ascii_is_never_unknown(trained, raw):
    _, tokenizer = trained
    for text in ["title: ember oak planter; brand: norvik", "qzj XYZ 0123456789 ~!@#$%^&*()[]"]:
        ids = encode_texts(tokenizer, [text])[0]
        assert tokenizer.unk_token_id not in ids
        assert tokenizer.decode(ids) == text
    places = encode_texts(tokenizer, list(plain(raw / "Places")[1].values()))
    assert not any(tokenizer.unk_token_id in ids for ids in places)


def test_same_texts_same_bytes(trained, texts, tmp_path):
    folder, tokenizer = trained
    again = train_tokenizer(texts, tmp_path, 400)
    for file in ("spiece.model", "tokenizer.json"):
        assert (folder / file).read_bytes() == (tmp_path / file).read_bytes()
    assert fingerprint(again) == fingerprint(tokenizer)
    assert fingerprint(train_tokenizer(texts, tmp_path / "other", 150)) != fingerprint(tokenizer)


def test_fingerprint_survives_every_way_of_loading(trained, tmp_path):
    folder, tokenizer = trained
    (tmp_path / "spiece.model").write_bytes((folder / "spiece.model").read_bytes())
    tokenizer.save_pretrained(tmp_path / "saved")
    assert fingerprint(load_tokenizer(tmp_path)) == fingerprint(tokenizer)
    assert fingerprint(load_tokenizer(tmp_path / "saved")) == fingerprint(tokenizer)


def test_a_truncating_file_truncates_no_more(trained, tmp_path):
    folder, tokenizer = trained
    state = json.loads((folder / "tokenizer.json").read_text())
    state["truncation"] = {"direction": "Right", "max_length": 48, "strategy": "LongestFirst", "stride": 0}
    state["padding"] = {
        "strategy": {"Fixed": 48},
        "direction": "Right",
        "pad_to_multiple_of": None,
        "pad_id": 0,
        "pad_type_id": 0,
        "pad_token": "<pad>",
    }
    (tmp_path / "tokenizer.json").write_text(json.dumps(state))
    loaded = load_tokenizer(tmp_path)
    long, short = "ember oak " * 200, "ember oak"
    assert encode_texts(loaded, [long, short]) == encode_texts(tokenizer, [long, short])
    assert loaded(long).input_ids == tokenizer(long).input_ids
    assert len(loaded(long).input_ids) > 400 and len(loaded(short).input_ids) < 48
    assert fingerprint(loaded) == fingerprint(tokenizer)


def test_errors(texts, tmp_path):
    with pytest.raises(ValueError, match="holds neither tokenizer.json nor spiece.model"):
        load_tokenizer(tmp_path)
    with pytest.raises(ValueError, match="vocab_size is 50; .* need 98"):
        train_tokenizer(texts, tmp_path, 50)
    with pytest.raises(ValueError, match="needs text"):
        train_tokenizer([" "], tmp_path, 400)
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(ValueError, match="cannot be read"):
        load_tokenizer(tmp_path)
