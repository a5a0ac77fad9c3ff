import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from raw_folders import build_config, plain, write_raw

from shards.build.build import build
from shards.build.write import deal
from shards.config import BuildConfig
from shards.inspect.verify import verify
from shards.manifest import Manifest
from shards.readers.folder import EVENT_SCHEMA, TEXT_SCHEMA
from shards.tables import load_holdout, load_items
from shards.tokenizer import encode_texts, fingerprint, load_tokenizer


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


def test_a_path_is_literal_and_no_file_of_a_neighbour_is_read(tmp_path):
    sequences = "".join(
        f"u{user} {' '.join(f'i{(user * 7 + step * 3) % 9}' for step in range(5))}\n" for user in range(9)
    )
    folder = write_raw(tmp_path / "raw", sequences, "".join(f"i{item} title: pot {item}\n" for item in range(9)))
    odd = tmp_path / "user=7 it's 100% [v2]"
    neighbour = odd / ".run1.building" / "stages" / "ingest.raw"
    neighbour.mkdir(parents=True)
    for file, schema in (("events.parquet", EVENT_SCHEMA), ("texts.parquet", TEXT_SCHEMA)):
        pl.DataFrame(schema=schema).write_parquet(neighbour / file)
    kept = [path.read_bytes() for path in sorted(neighbour.iterdir())]
    manifests = [
        build(BuildConfig(train=(str(folder),), out=str(out), vocab_size=300, clean_plain=True, k_core=2))
        for out in (tmp_path / "plain", odd / "run?")
    ]
    assert manifests[0].sha256() == manifests[1].sha256() == Manifest.load(odd / "run?").sha256()
    assert [path.read_bytes() for path in sorted(neighbour.iterdir())] == kept


def test_tables_say_what_the_raw_files_say(raw, built):
    folder, manifest = built
    fusion = load_items(folder, manifest)
    assert len(fusion) == manifest.num_items
    tokenizer = load_tokenizer(folder / "tokenizer")
    assert fingerprint(tokenizer) == manifest.tokenizer.fingerprint
    assert [fusion.tokens(row).tolist() for row in range(len(fusion))] == encode_texts(tokenizer, fusion.texts)
    for name in ("Kitchen", "Places"):
        member = manifest.member(name)
        sequences, text_of = plain(raw / name)
        table = load_items(folder, manifest, name)
        assert all(
            text_of[item.removeprefix(f"{name}/")] == text for item, text in zip(table.items, table.texts, strict=True)
        )
        if member.role == "train":
            start, stop = fusion.members[name]
            assert start == member.row_offset and fusion.items[start:stop] == table.items
        else:
            assert member.num_items == len(text_of) and not member.tars and member.row_offset == 0
        holdout = load_holdout(folder, member)
        assert len(holdout) == member.num_users
        for n, user in enumerate(holdout.users):
            rows = [*holdout.histories[n].tolist(), int(holdout.valid[n]), int(holdout.test[n])]
            assert [table.items[row] for row in rows] == [f"{name}/{item}" for item in sequences[user]]
        assert holdout.records[1] == f"{name}/000000001"


def test_manifest_matches_the_contract(built):
    folder, manifest = built
    value = json.loads((folder / "manifest.json").read_text())
    assert value["version"] == 2 and value["order"] == "chronological" and value["split"] == "leave-one-out"
    assert value["tokenizer"]["vocab_size"] % 128 == 0
    assert value["members"][0]["tars"][0]["file"] == "Garden/train-0000-000000.tar"
    assert all(tar["records"] <= 5 for member in value["members"] for tar in member["tars"])
    train = [load_holdout(folder, member) for member in manifest.train_members]
    assert manifest.num_samples == sum(len(history) - 1 for holdout in train for history in holdout.histories)
    assert max(member.share_sorted_by_id for member in manifest.members) < 0.2


def test_a_trained_tokenizer_never_sees_an_unseen_set(raw, tmp_path):
    shutil.copytree(raw, tmp_path / "raw")
    before = build(build_config(tmp_path / "raw", tmp_path / "before"))
    lines = "".join(f"{item} title: entirely other words\n" for item in plain(raw / "Gifts")[1])
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
    lengths = np.random.default_rng(0).integers(1, 20, size=300).astype(np.int32)
    lanes, totals = deal(lengths, [0] * 4)
    assert totals == [int((lengths[lanes == lane] - 1).sum()) for lane in range(4)]
    assert max(totals) - min(totals) <= 18 and (lanes[lengths == 1] == -1).all()
    assert lanes[:2].tolist() == deal(lengths[:2], [0] * 4)[0].tolist(), "the lowest of equals, in the order of records"
    more, after = deal(np.array([5], np.int32), totals)
    assert more[0] == totals.index(min(totals)) and sum(after) == sum(totals) + 4


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
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_read_leaves_nothing(tmp_path):
    (tmp_path / "Empty").mkdir()
    with pytest.raises(ValueError, match="Empty holds no known format"):
        build(BuildConfig(out=str(tmp_path / "out"), train=(str(tmp_path / "Empty"),)))
    assert [path.name for path in tmp_path.iterdir()] == ["Empty"]


def test_too_many_malformed_lines_stop_the_build_and_can_be_looked_at(tmp_path):
    folder = tmp_path / "Beauty"
    folder.mkdir()
    (folder / "ratings_Beauty.csv").write_text("A1,B1,5.0,1300000000\n" * 9 + "A1,B1,much,1300000000\n")
    (folder / "meta_Beauty.json").write_text("{'asin': 'B1', 'title': 'a'}\n")
    with pytest.raises(ValueError, match=r"1 of 10 lines \(10.0%\) of .* see (\S+rejects.jsonl);") as stopped:
        build(BuildConfig(out=str(tmp_path / "out"), train=(str(folder),), vocab_size=300))
    path = re.search(r"see (\S+rejects.jsonl);", str(stopped.value))
    assert path and json.loads(Path(path[1]).read_text())["line"] == 10


def test_a_manifest_that_cannot_be_read_is_named(built, tmp_path):
    folder, manifest = built
    assert Manifest.load(folder) == manifest == verify(folder)
    value = json.loads((folder / "manifest.json").read_text())
    broken = [{**value, "version": 1}, {**value, "colour": "red"}, {k: value[k] for k in value if k != "lanes"}, [1]]
    for content in (*map(json.dumps, broken), "{", "\ud800".encode("utf-8", "surrogatepass").decode("latin-1")):
        (tmp_path / "manifest.json").write_text(content)
        with pytest.raises(ValueError, match="manifest.json cannot be read"):
            Manifest.load(tmp_path)
    (tmp_path / "manifest.json").unlink()
    with pytest.raises(ValueError, match="manifest.json is missing"):
        Manifest.load(tmp_path)


@pytest.mark.parametrize("role", ["train", "test"])
@pytest.mark.parametrize("ids", ["B{:09d}", "{}"])
def test_a_build_refuses_asin_sorted_sequences(raw, tmp_path, role, ids):
    """Fault 2 of the reference: Sports and Toys sorted by ASIN instead of by time; numbers sort as numbers."""
    items = [ids.format(n) for n in range(3, 15)]
    rows = [sorted({(n * 5 + step * step) % 12 for step in range(5)}) for n in range(20)]
    lines = [f"u{n} " + " ".join(items[row] for row in chosen) for n, chosen in enumerate(rows)]
    texts = "\n".join(f"{item} title: thing number {n}" for n, item in enumerate(items))
    folder = str(write_raw(tmp_path / "Sorted", "\n".join(lines), texts))
    settings: dict[str, Any] = {"train": (str(raw / "Garden"),), "test": (), "vocab_size": 300}
    settings[role] = (*settings[role], folder)
    with pytest.raises(ValueError, match=r"Sorted: 100.0% of the users .* not chronological"):
        build(BuildConfig(out=str(tmp_path / "out"), **settings))
    assert not (tmp_path / "out").exists(), "a failed build leaves nothing that looks finished"
    manifest = build(BuildConfig(out=str(tmp_path / "out"), **settings, allow_sorted_by_id=True))
    assert manifest.member("Sorted").share_sorted_by_id == 1.0


def test_a_share_of_the_users_is_drawn_by_the_seed(raw, tmp_path):
    shares = {}
    for seed in (0, 1):
        config = build_config(
            raw, tmp_path / f"out{seed}", total_users=30, max_users=None, seed=seed, mixture="uniform"
        )
        manifest = build(config)
        assert [member.num_users for member in manifest.train_members] == [15, 15]
        assert manifest.member("Garden").cleaning["users_before_sampling"] == 40
        shares[seed] = set(load_holdout(tmp_path / f"out{seed}", "Garden").users)
        touched = {
            row
            for holdout in [load_holdout(tmp_path / f"out{seed}", "Garden")]
            for rows in (*holdout.histories, holdout.valid, holdout.test)
            for row in np.asarray(rows).tolist()
        }
        assert touched == set(range(manifest.member("Garden").num_items)), "a train catalogue is what its users touched"
    assert shares[0] != shares[1]


def test_a_split_in_time(tmp_path):
    """Every item from the moment on is a target or unused; what lies before it is history, of all users."""
    draw = np.random.default_rng(0)
    times = {(user, n): int(time) for user in range(40) for n, time in enumerate(draw.permutation(1_000)[:8])}
    folder = tmp_path / "Timed"
    folder.mkdir()
    rows = [f"u{user}\ti{(user * 3 + n * n) % 20}\t{time}" for (user, n), time in times.items()]
    (folder / "Timed.inter").write_text("user_id:token\titem_id:token\ttimestamp:float\n" + "\n".join(rows) + "\n")
    items = "\n".join(f"i{n}\tthing number {n}" for n in range(20))
    (folder / "Timed.item").write_text(f"item_id:token\ttitle:token_seq\n{items}\n")
    settings: dict[str, Any] = {"train": (str(folder),), "vocab_size": 300, "lanes": 2, "k_core": 2}
    manifest = build(BuildConfig(out=str(tmp_path / "out"), split="time", split_share=0.3, **settings))
    assert verify(tmp_path / "out") == manifest and manifest.split == "time"
    moment = manifest.member("Timed").cleaning["split_moment"] // 1000
    assert sum(time >= moment for time in times.values()) == pytest.approx(0.3 * len(times), abs=3)
    table = load_items(tmp_path / "out", manifest)
    holdout = load_holdout(tmp_path / "out", "Timed")
    assert 20 < len(holdout) <= 40
    for n, user in enumerate(holdout.users):
        mine = sorted((times[int(user[1:]), k], k) for k in range(8))
        names = [f"Timed/i{(int(user[1:]) * 3 + k * k) % 20}" for _, k in mine]
        before = sum(time < moment for time, _ in mine)
        assert [table.items[row] for row in holdout.histories[n]] == names[: before - 1]
        assert table.items[holdout.valid[n]] == names[before - 1] and table.items[holdout.test[n]] == names[before]
    plain_folder = write_raw(tmp_path / "Plain", "u1 b a c\nu2 c b a\n", "a t: one\nb t: two\nc t: three\n")
    with pytest.raises(ValueError, match="plain layout has no times"):
        build(BuildConfig(out=str(tmp_path / "other"), train=(str(plain_folder),), split="time", vocab_size=300))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"max_users": 0}, "max_users is 0"),
        ({"mixture": "uniform"}, "give total_users"),
        ({"since": "yesterday"}, "'yesterday' is not a date"),
        ({"workers": 100}, "memory_gb 4.0 is under 0.25"),
        ({"max_reject_share": 1.5}, "max_reject_share is 1.5; it must be between 0 and 1"),
    ],
)
def test_impossible_options_are_refused(raw, tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        build_config(raw, tmp_path / "out", **changes)
