import json
import shutil

import numpy as np
import pytest
from raw_folders import build_config, write_raw

from shards.build import BuildConfig, build
from shards.manifest import Manifest, verify
from shards.readers.plain import read_plain
from shards.tables import load_holdout, load_items
from shards.tokenizer import encode_texts, fingerprint, load_tokenizer
from shards.write import Lanes


def test_same_input_same_bytes(raw, built, tmp_path):
    folder, manifest = built
    again = build(build_config(raw, tmp_path / "again"))
    files = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    assert files == sorted(
        path.relative_to(tmp_path / "again") for path in (tmp_path / "again").rglob("*") if path.is_file()
    )
    assert len(files) > 15
    for file in files:
        assert (folder / file).read_bytes() == (tmp_path / "again" / file).read_bytes(), file
    assert manifest.sha256() == again.sha256() == Manifest.load(folder).sha256()
    assert build(build_config(raw, tmp_path / "other", seed=1)).sha256() != manifest.sha256()


def test_tables_say_what_the_raw_files_say(raw, built):
    folder, manifest = built
    fusion = load_items(folder, manifest)
    assert len(fusion) == manifest.num_items
    tokenizer = load_tokenizer(folder / "tokenizer")
    assert fingerprint(tokenizer) == manifest.tokenizer.fingerprint
    assert [fusion.tokens(row).tolist() for row in range(len(fusion))] == encode_texts(tokenizer, fusion.texts)
    for name in ("Kitchen", "Places"):
        member = manifest.member(name)
        data = read_plain(raw / name)
        text_of = dict(data.items.rows())
        table = load_items(folder, manifest, name)
        assert all(
            text_of[item.removeprefix(f"{name}/")] == text for item, text in zip(table.items, table.texts, strict=True)
        )
        if member.role == "train":
            start, stop = fusion.members[name]
            assert start == member.row_offset and fusion.items[start:stop] == table.items
            assert fusion.member_of(start) == name and fusion.member_of(start - 1) == "Garden"
        else:
            assert member.num_items == data.items.height and not member.tars and member.row_offset == 0
        sequences = dict(data.interactions.group_by("user", maintain_order=True).agg("item").rows())
        holdout = load_holdout(folder, member)
        assert len(holdout) == member.num_users
        for n, user in enumerate(holdout.users):
            rows = [*holdout.histories[n].tolist(), int(holdout.valid[n]), int(holdout.test[n])]
            assert [table.items[row] for row in rows] == [f"{name}/{item}" for item in sequences[user]]
        assert holdout.records[1] == f"{name}/000000001"


def test_manifest_matches_the_contract(built):
    folder, manifest = built
    value = json.loads((folder / "manifest.json").read_text())
    assert value["version"] == 1 and value["order"] == "chronological" and value["split"] == "leave-one-out"
    assert value["tokenizer"]["vocab_size"] % 128 == 0
    assert value["members"][0]["tars"][0]["file"] == "Garden/train-0000-000000.tar"
    assert all(tar["records"] <= 5 for member in value["members"] for tar in member["tars"])
    train = [load_holdout(folder, member) for member in manifest.train_members]
    assert manifest.num_samples == sum(len(history) - 1 for holdout in train for history in holdout.histories)
    assert max(member.share_sorted_by_id for member in manifest.members) < 0.2


def test_a_trained_tokenizer_never_sees_an_unseen_set(raw, tmp_path):
    shutil.copytree(raw, tmp_path / "raw")
    before = build(build_config(tmp_path / "raw", tmp_path / "before"))
    texts = read_plain(raw / "Gifts").items
    lines = "".join(f"{item} title: entirely other words\n" for item in texts["item"])
    (tmp_path / "raw" / "Gifts" / "item_plain_text.txt.gz").unlink()
    (tmp_path / "raw" / "Gifts" / "item_plain_text.txt").write_text(lines)
    after = build(build_config(tmp_path / "raw", tmp_path / "after"))
    assert after.tokenizer == before.tokenizer
    assert after.member("Gifts").files != before.member("Gifts").files


def test_a_given_tokenizer_is_kept(raw, built, tmp_path):
    folder, manifest = built
    other = build(build_config(raw, tmp_path / "out", tokenizer=str(folder / "tokenizer"), lanes=2))
    assert other.tokenizer == manifest.tokenizer
    kept, given = tmp_path / "out" / "tokenizer", folder / "tokenizer"
    assert (kept / "spiece.model").read_bytes() == (given / "spiece.model").read_bytes()
    assert fingerprint(load_tokenizer(kept)) == fingerprint(load_tokenizer(given))


def test_lanes_stay_level():
    lanes = Lanes(4)
    sizes = np.random.default_rng(0).integers(1, 20, size=300).tolist()
    for size in sizes:
        lanes.deal(size)
    assert sum(lanes.totals) == sum(sizes) and max(lanes.totals) - min(lanes.totals) <= 19


def test_errors(raw, built, tmp_path):
    folder, _ = built
    with pytest.raises(ValueError, match="exists already"):
        build(build_config(raw, folder))
    with pytest.raises(ValueError, match="lanes is 0"):
        build_config(raw, tmp_path / "out", lanes=0)
    with pytest.raises(ValueError, match="two data sets are called 'Garden'"):
        BuildConfig(train=(str(raw / "Garden"), str(raw / "Garden")), test=(), out=str(tmp_path / "out"))
    with pytest.raises(ValueError, match="cannot be called 'train'"):
        BuildConfig(train=(str(tmp_path / "train"),), test=(), out=str(tmp_path / "out"))
    with pytest.raises(ValueError, match="give a tokenizer folder"):
        BuildConfig(train=(), test=(str(raw / "Gifts"),), out=str(tmp_path / "out"))
    short = write_raw(tmp_path / "Short", "u1 b a c\nu2 c b a\n", "a t: one\nb t: two\nc t: three\n")
    with pytest.raises(ValueError, match="no training sample"):
        build(BuildConfig(train=(str(short),), test=(), out=str(tmp_path / "out"), vocab_size=300))
    assert not list(tmp_path.glob("*out*"))


def test_damage_is_named(built, tmp_path):
    folder, manifest = built
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    assert verify(copy) == manifest
    items = copy / "Garden/items.arrow"
    data = items.read_bytes()
    items.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(ValueError, match="Garden/items.arrow"):
        verify(copy)
    with pytest.raises(ValueError, match="Garden/items.arrow is damaged"):
        load_items(copy, manifest)
    items.unlink()
    with pytest.raises(ValueError, match="Garden/items.arrow is missing"):
        verify(copy)
    value = json.loads((copy / "manifest.json").read_text())
    for broken in ({**value, "version": 2}, {**value, "colour": "red"}, {k: value[k] for k in value if k != "lanes"}):
        (copy / "manifest.json").write_text(json.dumps(broken))
        with pytest.raises(ValueError, match="manifest.json cannot be read"):
            Manifest.load(copy)
    (copy / "manifest.json").unlink()
    with pytest.raises(ValueError, match="manifest.json is missing"):
        Manifest.load(copy)
