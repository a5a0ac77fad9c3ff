"""The tokenizer: SentencePiece Unigram laid out the way T5 has it, as a fast tokenizer.

Enter texts (to train one) or a folder (to load one); leaves a `T5TokenizerFast`. It must hold that pad is 0, EOS is 1
and unk is 2, that there is no BOS, that 100 extra ids follow the pieces, and that nothing is ever truncated or padded
behind the caller's back: some published `tokenizer.json` cut at 48 tokens. transformers is imported late: it is slow.
"""

import hashlib
import io
import json
import re
import string
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers.models.t5.tokenization_t5 import T5Tokenizer as T5TokenizerFast

SPIECE_FILE = "spiece.model"
FAST_FILE = "tokenizer.json"
EXTRA_IDS = 100
PAD_ID, EOS_ID, UNK_ID = 0, 1, 2
VOCAB_MULTIPLE = 128
# Every printable ASCII character is a piece, so that an unseen catalogue's text holds no <unk>.
REQUIRED_CHARACTERS = string.ascii_letters + string.digits + string.punctuation


def train_tokenizer(texts: Iterable[str], folder: str | Path, vocab_size: int) -> "T5TokenizerFast":
    """Trains on `texts` and writes `spiece.model` and `tokenizer.json` into `folder`; same texts, same bytes.

    vocab_size: pieces at most, pad, EOS and unk included, extra ids not; little text gives fewer. ValueError when
    there is no text or the size is too small for single characters.
    """
    import sentencepiece

    lines = [text for text in texts if text.strip()]
    if not lines:
        raise ValueError("a tokenizer needs text to be trained on: give train data sets, or a tokenizer folder")
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.Train(
            sentence_iterator=iter(lines),
            model_writer=model,
            model_type="unigram",
            vocab_size=vocab_size,
            hard_vocab_limit=False,
            pad_id=PAD_ID,
            eos_id=EOS_ID,
            unk_id=UNK_ID,
            bos_id=-1,
            required_chars=REQUIRED_CHARACTERS,
            num_threads=1,
            max_sentence_length=1 << 20,
            minloglevel=2,
        )
    except (RuntimeError, OSError) as error:
        reason = str(error).strip().splitlines()[-1]
        needed = re.search(r"smaller than required_chars\. \d+ vs (\d+)", reason)
        if needed:
            raise ValueError(
                f"vocab_size is {vocab_size}; the characters of the texts alone need {needed[1]}"
            ) from error
        raise ValueError(f"SentencePiece refused vocab_size={vocab_size}: {reason}") from error
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / SPIECE_FILE).write_bytes(model.getvalue())
    _fast_from_spiece(folder / SPIECE_FILE).save(str(folder / FAST_FILE))
    return load_tokenizer(folder)


def load_tokenizer(folder: str | Path) -> "T5TokenizerFast":
    """Loads `folder/tokenizer.json`, or converts `folder/spiece.model` where that alone exists.

    ValueError when neither is there or the special tokens are not T5's.
    """
    from tokenizers import Tokenizer
    from transformers.models.t5 import T5TokenizerFast  # pyright: ignore[reportAttributeAccessIssue]

    folder = Path(folder)
    try:
        if (folder / FAST_FILE).is_file():
            backend = Tokenizer.from_file(str(folder / FAST_FILE))
        elif (folder / SPIECE_FILE).is_file():
            backend = _fast_from_spiece(folder / SPIECE_FILE)
        else:
            raise ValueError(f"{folder} holds neither {FAST_FILE} nor {SPIECE_FILE}; name a tokenizer's folder")
    except ValueError:
        raise
    except Exception as error:  # both libraries raise bare Exception on a damaged file
        raise ValueError(f"the tokenizer in {folder} cannot be read ({error})") from error
    backend.no_truncation()
    backend.no_padding()
    special = [backend.token_to_id(token) for token in ("<pad>", "</s>", "<unk>")]
    if special != [PAD_ID, EOS_ID, UNK_ID]:
        raise ValueError(
            f"the tokenizer in {folder} is not T5's kind: <pad>, </s>, <unk> must be 0, 1, 2, not {special}"
        )
    tokenizer = T5TokenizerFast(tokenizer_object=backend, extra_ids=EXTRA_IDS)
    assert tokenizer.backend_tokenizer.truncation is None
    assert tokenizer.backend_tokenizer.padding is None
    return tokenizer


def save_tokenizer(tokenizer: "T5TokenizerFast", folder: str | Path, source: str | Path | None = None) -> None:
    """Writes `tokenizer.json`, and `spiece.model` as well where the `source` folder has one."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.backend_tokenizer.save(str(folder / FAST_FILE))
    if source is not None and (Path(source) / SPIECE_FILE).is_file():
        (folder / SPIECE_FILE).write_bytes((Path(source) / SPIECE_FILE).read_bytes())


def encode_texts(tokenizer: "T5TokenizerFast", texts: list[str]) -> list[list[int]]:
    """Token ids of each text: no EOS, not cut."""
    encodings = tokenizer.backend_tokenizer.encode_batch(texts, add_special_tokens=False)
    return [encoding.ids for encoding in encodings]


def padded_vocab_size(tokenizer: "T5TokenizerFast") -> int:
    """Embedding rows: the smallest multiple of 128 that holds all pieces and extra ids (32,128 for T5)."""
    return -(-len(tokenizer) // VOCAB_MULTIPLE) * VOCAB_MULTIPLE


def fingerprint(tokenizer: "T5TokenizerFast") -> str:
    """SHA-256 over what decides the ids: pieces with scores, normaliser, added tokens; not truncation or padding.

    Scores count to five decimals: reading a `tokenizer.json` moves their last binary digit.
    """
    state: dict[str, Any] = json.loads(tokenizer.backend_tokenizer.to_str())
    identity = {
        "vocab": [[piece, f"{score:.5f}"] for piece, score in state["model"]["vocab"]],
        "unk_id": state["model"].get("unk_id"),
        "normalizer": state["normalizer"],
        "added": sorted([token["id"], token["content"]] for token in state["added_tokens"]),
    }
    return hashlib.sha256(json.dumps(identity, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _fast_from_spiece(path: Path) -> Any:
    """The `tokenizers.Tokenizer` with the pieces, scores and normaliser of a SentencePiece model."""
    from sentencepiece import sentencepiece_model_pb2
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

    proto = sentencepiece_model_pb2.ModelProto()  # type: ignore[attr-defined]
    proto.ParseFromString(path.read_bytes())
    special = ["<pad>", "</s>", "<unk>"]
    if [piece.piece for piece in proto.pieces[:3]] != special:
        raise ValueError(f"{path} is not laid out as T5's: its first pieces must be <pad>, </s>, <unk>")
    extra = [f"<extra_id_{number}>" for number in range(EXTRA_IDS - 1, -1, -1)]
    vocab = [(piece.piece, piece.score) for piece in proto.pieces] + [(token, 0.0) for token in extra]
    backend = Tokenizer(models.Unigram(vocab, unk_id=2, byte_fallback=False))
    backend.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in special + extra])
    if proto.normalizer_spec.precompiled_charsmap:
        backend.normalizer = normalizers.Precompiled(proto.normalizer_spec.precompiled_charsmap)  # type: ignore
    metaspace = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always", split=True)
    backend.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), metaspace])  # type: ignore
    backend.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="always", split=True)  # type: ignore
    backend.post_processor = processors.TemplateProcessing(  # type: ignore
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 1)]
    )
    return backend
