import json
import shutil
import tarfile
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_folders import described, digest, histories, make_shards, tar_bytes, with_tar

from shards.inspect.verify import verify
from shards.manifest import Manifest, TokenizerInfo
from shards.records import HOLDOUT_SCHEMA, ITEM_SCHEMA
from shards.stream.stream import Stream
from shards.tables import holdout_file, items_file
from shards.tars import end_bytes
from shards.tokenizer import fingerprint, padded_vocab_size, train_tokenizer

TAR = "Kitchen/train-0001-000002.tar"


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sound") / "shards"
    manifest = make_shards(folder, histories(11, 60))
    tokens = train_tokenizer([f"garden kitchen {number}" for number in range(50)], folder / "tokenizer", 200)
    info = TokenizerInfo(fingerprint(tokens), padded_vocab_size(tokens))
    manifest = replace(manifest, tokenizer=info)
    manifest.save(folder)
    return folder


@pytest.fixture
def folder(sound, tmp_path):
    copy = tmp_path / "shards"
    shutil.copytree(sound, copy)
    return copy


def place(manifest, file):
    """(member, tar) indices of a tar."""
    return next(
        (m, t) for m, member in enumerate(manifest.members) for t, tar in enumerate(member.tars) if tar.file == file
    )


def refused(folder, file, message, stream=True, workers=(0,)):
    """Both `verify` and the stream, where it meets it, name the file in one line."""
    with pytest.raises(ValueError, match=message) as error:
        verify(folder)
    assert f"{folder}/{file}" in str(error.value) and "\n" not in str(error.value)
    if stream:
        manifest = Manifest.load(folder)
        for number in workers:
            reader = Stream(folder, manifest, 0, workers=number)
            with pytest.raises(ValueError, match=message) as met:
                list(reader.batches(reader.start(), 8))
            assert f"{folder}/{file}" in str(met.value) and "\n" not in str(met.value)


def records_of(folder, file):
    with tarfile.open(folder / file) as archive:
        bodies = [(name, archive.extractfile(name)) for name in archive.getnames()]
        values = [(name.removesuffix(".json"), json.load(body)) for name, body in bodies if body is not None]
    return [(key, value["user"], value["items"]) for key, value in values]


def rewritten(folder, file, data):
    """A tar of other content whose hash in the manifest is right."""
    (folder / file).write_bytes(data)
    manifest = Manifest.load(folder)
    with_tar(folder, manifest, *place(manifest, file), sha256=digest(folder, file), bytes=len(data))


def test_a_sound_folder_passes(sound):
    manifest = verify(sound)
    assert manifest == Manifest.load(sound) == verify(str(sound))
    reader = Stream(sound, manifest, 0)
    entries = [entry for _, entries in reader.batches(reader.start(), 8) for entry in entries]
    assert sum(entry is not None for entry in entries) == manifest.num_samples


def test_a_missing_shard(folder):
    (folder / TAR).unlink()
    refused(folder, TAR, "is missing; build the shards again", workers=(0, 1))


@pytest.mark.parametrize("keep", [0, 1, 511, 512, 5120, 10239])
def test_a_truncated_tar(folder, keep):
    (folder / TAR).write_bytes((folder / TAR).read_bytes()[:keep])
    refused(folder, TAR, "wrong SHA-256")


def test_a_truncated_tar_that_was_hashed_so(folder):
    rewritten(folder, TAR, (folder / TAR).read_bytes()[:2048])
    refused(folder, TAR, "truncated", workers=(0, 1))


@settings(max_examples=40)
@given(data=st.data())
def test_a_flipped_byte_anywhere(sound, tmp_path_factory, data):
    manifest = Manifest.load(sound)
    files = [tar.file for member in manifest.members for tar in member.tars]
    files += [file for member in manifest.members for file in member.files]
    file = data.draw(st.sampled_from(files))
    whole = (sound / file).read_bytes()
    at, bit = data.draw(st.integers(0, len(whole) - 1)), data.draw(st.integers(0, 7))
    damaged = bytearray(whole)
    damaged[at] ^= 1 << bit
    copy = tmp_path_factory.mktemp("flipped") / "shards"
    shutil.copytree(sound, copy)
    (copy / file).write_bytes(damaged)
    refused(copy, file, "wrong SHA-256", stream=file.endswith(".tar"))


@pytest.mark.parametrize("file", ["../outside.tar", "Kitchen/../../outside.tar", "/outside.tar", "Kitchen\\x.tar"])
def test_a_path_outside_the_folder_in_the_manifest(folder, file):
    manifest = Manifest.load(folder)
    shutil.copy(folder / TAR, folder.parent / "outside.tar")
    with_tar(folder, manifest, *place(manifest, TAR), file=file)
    with pytest.raises(ValueError, match="leads out of the folder") as error:
        verify(folder)
    assert repr(file) in str(error.value)
    reader = Stream(folder, Manifest.load(folder), 0)
    with pytest.raises(ValueError, match="leads out of the folder") as error:
        list(reader.batches(reader.start(), 8))
    assert repr(file) in str(error.value)


def test_a_table_outside_the_folder_in_the_manifest(folder):
    manifest = Manifest.load(folder)
    (folder.parent / "outside").write_text("x")
    files = dict(manifest.members[0].files) | {"../outside": digest(folder.parent, "outside")}
    replace(manifest, members=(replace(manifest.members[0], files=files), manifest.members[1])).save(folder)
    with pytest.raises(ValueError, match="'../outside' leads out of the folder"):
        verify(folder)


def test_a_link_out_of_the_folder(folder):
    shutil.move(folder / TAR, folder.parent / "away.tar")
    (folder / TAR).symlink_to(folder.parent / "away.tar")
    refused(folder, TAR, "is a link out of the folder")


def test_a_path_outside_the_folder_in_a_tar(folder):
    records = [(f"../../{key}", user, items) for key, user, items in records_of(folder, TAR)]
    rewritten(folder, TAR, tar_bytes(records))
    refused(folder, TAR, "'../../Kitchen/[0-9]+.json' is not named")


def test_a_link_in_a_tar(folder):
    info = tarfile.TarInfo("Kitchen/000000001.json")
    info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
    header = info.tobuf(tarfile.USTAR_FORMAT)
    rewritten(folder, TAR, header + end_bytes(len(header)))
    refused(folder, TAR, "not a plain USTAR file")


@pytest.mark.parametrize(
    ("lie", "message"),
    [
        (lambda records: records[1:], "holds 3 records and .* samples, the manifest says 4"),
        (lambda records: [(key, user, [*items, 1]) for key, user, items in records], "the manifest says 4"),
        (lambda records: [("Garden" + key[7:], user, i) for key, user, i in records], "which is not of Kitchen"),
        (lambda records: [(key, user, [50] * len(i)) for key, user, i in records], "item row 50, Kitchen has 50"),
        (lambda records: [(key, user, [-1] * len(items)) for key, user, items in records], "item row -1"),
        (lambda records: [records[0]] * 4, "twice"),
    ],
)  # fmt: skip
def test_a_tar_whose_hash_is_right_but_whose_content_lies(folder, lie, message):
    rewritten(folder, TAR, tar_bytes(lie(records_of(folder, TAR))))
    refused(folder, TAR, message)


def test_a_right_hash_of_no_tar_at_all(folder):
    rewritten(folder, TAR, b"\x1f\x8b" + bytes(510) * 3 + bytes(4))
    refused(folder, TAR, "no octal size|not whole blocks")


def test_a_record_in_two_tars(folder):
    manifest = Manifest.load(folder)
    other = records_of(folder, "Kitchen/train-0001-000001.tar")
    records = [*records_of(folder, TAR)[:-1], other[0]]
    (folder / TAR).write_bytes(tar_bytes(records))
    told = described(folder, TAR, 1, records)
    with_tar(folder, manifest, *place(manifest, TAR), samples=told.samples, bytes=told.bytes, sha256=told.sha256)
    refused(folder, TAR, f"holds the record {records[-1][0]} of another tar again", stream=False)


def test_a_lane_that_is_not_there(folder):
    manifest = Manifest.load(folder)
    with_tar(folder, manifest, *place(manifest, TAR), lane=3)
    with pytest.raises(ValueError, match=f"manifest.json: {TAR} is in lane 3 of 3"):
        verify(folder)
    with pytest.raises(ValueError, match=f"manifest.json: {TAR} is in lane 3 of 3"):
        Stream(folder, Manifest.load(folder), 0)


def test_a_file_named_twice_and_a_wrong_row_offset(folder):
    manifest = Manifest.load(folder)
    with_tar(folder, manifest, *place(manifest, TAR), file="Kitchen/train-0001-000001.tar")
    with pytest.raises(ValueError, match="manifest.json names Kitchen/train-0001-000001.tar twice"):
        verify(folder)
    replace(manifest, members=(manifest.members[0], replace(manifest.members[1], row_offset=49))).save(folder)
    with pytest.raises(ValueError, match="manifest.json: rows of Kitchen start at 49"):
        verify(folder)


def test_a_table_without_a_hash_and_a_wrong_size(folder):
    manifest = Manifest.load(folder)
    replace(manifest, members=(replace(manifest.members[0], files={}), manifest.members[1])).save(folder)
    with pytest.raises(ValueError, match="manifest.json has no SHA-256 of Garden/items.arrow"):
        verify(folder)
    with_tar(folder, manifest, *place(manifest, TAR), bytes=1)
    refused(folder, TAR, "has 10240 bytes, the manifest says 1", stream=False)


def test_a_manifest_from_another_tokenizer(folder, sound):
    train_tokenizer([f"another text {number}" for number in range(50)], folder / "tokenizer", 200)
    refused(folder, "manifest.json", "is from another tokenizer than", stream=False)
    shutil.rmtree(folder / "tokenizer")
    with pytest.raises(ValueError, match="tokenizer holds neither"):
        verify(folder)


def retold(folder, file, table):
    """A table of other content whose hash in the manifest is right."""
    with pa.OSFile(str(folder / file), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    manifest = Manifest.load(folder)
    first = manifest.members[0]
    files = dict(first.files) | {file: digest(folder, file)}
    replace(manifest, members=(replace(first, files=files), *manifest.members[1:])).save(folder)


@pytest.mark.parametrize("column", ["history", "valid", "test"])
@pytest.mark.parametrize("row", [-1, 50])
def test_a_holdout_row_outside_the_item_table(folder, column, row):
    file = holdout_file("Garden")
    values = {"record": ["Garden/000000000"], "user": ["u"], "history": [[1, 2]], "valid": [0], "test": [0]}
    values[column] = [[1, row]] if column == "history" else [row]
    retold(folder, file, pa.table(values, schema=HOLDOUT_SCHEMA))
    refused(folder, file, f"rows in {column} run from .*, not inside 0 to 49", stream=False)


@pytest.mark.parametrize(
    ("rows", "tokens", "message"),
    [(49, [3], "has 49 rows, the manifest says 50"), (50, [3, 10**6], "token ids run from 3 to 1000000, not inside 0")],
)
def test_an_item_table_that_lies(folder, rows, tokens, message):
    names = [f"Garden/{row}" for row in range(rows)]
    retold(folder, items_file("Garden"), pa.table([names, names, [tokens] * rows], schema=ITEM_SCHEMA))
    refused(folder, items_file("Garden"), message, stream=False)


def test_a_table_of_other_columns_or_none(folder):
    file = items_file("Garden")
    retold(folder, file, pa.table({"x": np.arange(3)}))
    refused(folder, file, "has other columns than item, text, token_ids", stream=False)
    (folder / file).write_bytes(b"ARROW1 but not really")
    manifest = Manifest.load(folder)
    files = dict(manifest.members[0].files) | {file: digest(folder, file)}
    replace(manifest, members=(replace(manifest.members[0], files=files), manifest.members[1])).save(folder)
    refused(folder, file, "is damaged", stream=False)


def test_nothing_behind_the_first_damage_is_used(folder):
    manifest = Manifest.load(folder)
    first = [tar.file for tar in manifest.members[0].tars][0]
    for file in (first, TAR):
        (folder / file).unlink()
    refused(folder, first, "is missing", stream=False)
