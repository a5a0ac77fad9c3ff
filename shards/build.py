"""The build: folders of raw data in, one shard folder out, in one call.

Enters a `BuildConfig`; leaves the folder of docs/contracts.md and its `Manifest`. It must hold that the folder appears
whole or not at all (written beside its place, then renamed), that the same input gives the same bytes, and that a
tokenizer trained here sees the item text of train categories only, never that of an unseen set.
"""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from shards import clean, tokenizer, write
from shards.config import BuildConfig
from shards.manifest import TOKENIZER_FOLDER, Manifest, Member, TokenizerInfo, file_sha256
from shards.readers.plain import read_plain
from shards.records import RawDataset, record_key
from shards.tables import holdout_file, items_file

if TYPE_CHECKING:
    from transformers.models.t5.tokenization_t5 import T5Tokenizer as T5TokenizerFast


def build(config: BuildConfig, progress: Callable[[str], None] = lambda line: None) -> Manifest:
    """Builds the shard folder `config.out`. ValueError when it exists or an input is wrong; nothing is left then."""
    out = Path(config.out)
    if out.exists():
        raise ValueError(f"{out} exists already; remove it or name another output folder")
    datasets = [("train", _read(config, folder, "train", progress)) for folder in config.train]
    datasets += [("test", _read(config, folder, "test", progress)) for folder in config.test]
    partial = out.with_name(f".{out.name}.partial-{os.getpid()}")
    partial.parent.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir()
        tokens = _tokenizer(config, [data for role, data in datasets if role == "train"], partial, progress)
        lanes, members, row_offset = write.Lanes(config.lanes), [], 0
        for role, data in datasets:
            member = _write_member(config, role, data, partial, tokens, lanes, row_offset if role == "train" else 0)
            row_offset += member.num_items if role == "train" else 0
            members.append(member)
            progress(f"{member.name} ({role}): {member.num_users:,} users, {member.num_items:,} items written")
        manifest = Manifest(
            tokenizer=TokenizerInfo(tokenizer.fingerprint(tokens), tokenizer.padded_vocab_size(tokens)),
            lanes=config.lanes,
            shuffle_tars=config.shuffle_tars,
            seed=config.seed,
            members=tuple(members),
        )
        if config.train and not manifest.num_samples:
            raise ValueError(
                "no user of the train categories has four items, so there is no training sample; add users"
            )
        manifest.save(partial)
        partial.rename(out)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    progress(f"{out}: {manifest.num_items:,} items, {manifest.num_samples:,} samples in {config.lanes} lanes")
    return manifest


def _read(config: BuildConfig, folder: str, role: str, progress: Callable[[str], None]) -> RawDataset:
    max_users = config.max_users if role == "train" else config.max_test_users
    data = read_plain(folder, max_users=max_users, seed=config.seed, keep_all_items=role == "test")
    progress(f"{data.name} ({role}): {data.interactions.height:,} interactions read")
    return data


def _tokenizer(
    config: BuildConfig, train: list[RawDataset], out: Path, progress: Callable[[str], None]
) -> "T5TokenizerFast":
    folder = out / TOKENIZER_FOLDER
    if config.tokenizer is None:
        texts = [text for data in train for text in data.items["text"].to_list()]
        progress(f"training a tokenizer of up to {config.vocab_size:,} pieces on {len(texts):,} item texts")
        repeats = -(-len(texts) // len(config.tokenizer_text)) if config.tokenizer_text else 0
        return tokenizer.train_tokenizer([*texts, *config.tokenizer_text * repeats], folder, config.vocab_size)
    tokens = tokenizer.load_tokenizer(config.tokenizer)
    tokenizer.save_tokenizer(tokens, folder, source=config.tokenizer)
    return tokens


def _write_member(
    config: BuildConfig,
    role: str,
    data: RawDataset,
    out: Path,
    tokens: "T5TokenizerFast",
    lanes: write.Lanes,
    row_offset: int,
) -> Member:
    frame = clean.sequences(data.interactions)
    share = clean.share_sorted_by_id(frame)
    clean.check_not_sorted_by_id(data.name, share, config.allow_sorted_by_id)
    rows = pl.DataFrame(
        {"item": data.items["item"], "row": range(data.items.height)}, schema_overrides={"row": pl.Int32}
    )
    split = clean.leave_one_out(_to_rows(frame, rows))
    users, histories = split["user"].to_list(), split["history"].to_list()
    records = [record_key(data.name, number) for number in range(len(users))]

    (out / data.name).mkdir()
    items, texts = data.items["item"].to_list(), data.items["text"].to_list()
    namespaced = [f"{data.name}/{item}" for item in items]
    write.write_items(out / items_file(data.name), namespaced, texts, tokenizer.encode_texts(tokens, texts))
    valid, test = split["valid"].to_list(), split["test"].to_list()
    write.write_holdout(out / holdout_file(data.name), records, users, histories, valid, test)
    tars = ()
    if role == "train":
        tars = write.write_tars(out, data.name, records, users, histories, lanes, config.records_per_tar)
    return Member(
        name=data.name,
        role=role,
        source=data.source,
        num_users=len(users),
        num_items=len(items),
        num_interactions=data.interactions.height,
        row_offset=row_offset,
        share_sorted_by_id=round(share, 6),
        tars=tars,
        files={file: file_sha256(out / file) for file in (items_file(data.name), holdout_file(data.name))},
        inputs=dict(data.inputs),
    )


def _to_rows(frame: pl.DataFrame, rows: pl.DataFrame) -> pl.DataFrame:
    """Sequences of raw item ids (user, items) to sequences of local rows, in the same order."""
    flat = (
        frame.with_row_index("number")
        .explode("items")
        .join(rows, left_on="items", right_on="item", how="left", maintain_order="left")
    )
    assert flat["row"].null_count() == 0, "every item of a sequence has a row"
    return flat.group_by("number", maintain_order=True).agg(pl.col("user").first(), pl.col("row").alias("items"))
