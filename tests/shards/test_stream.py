import shutil
import tarfile
from math import gcd

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import shards.stream as stream_module
from shards.records import Position
from shards.stream import Stream
from shards.tables import load_holdout


def drain(folder, manifest, position, world_size, batches, batch_size):
    """Reads `batches` global batches on each rank: (entries by slot, position after)."""
    slots, after = {}, position
    for rank in range(world_size):
        stream = Stream(folder, manifest, position.seed, rank, world_size)
        shapes = []
        for number, (here, entries) in enumerate(stream.batches(position, batch_size)):
            if number >= batches:
                break
            after = here
            shapes.append(len(entries))
            for entry in entries:
                if entry is not None:
                    assert entry.slot % world_size == rank and entry.slot not in slots
                    slots[entry.slot] = entry
        if rank == 0:
            expected = shapes
        assert shapes == expected, "every rank has the same batches"
    return slots, after


def content(slots):
    return {slot: (s.key, s.prefix_end, s.history.tolist(), s.target) for slot, s in slots.items()}


def expected_samples(folder, manifest):
    samples = []
    for member in manifest.train_members:
        holdout = load_holdout(folder, member)
        for key, history in zip(holdout.records, holdout.histories, strict=True):
            rows = (history + member.row_offset).tolist()
            samples += [(key, end, rows[:end], rows[end]) for end in range(1, len(rows))]
    return sorted(samples)


@settings(max_examples=25, deadline=None)
@given(
    world_size=st.integers(1, 6),
    other=st.integers(1, 6),
    batches=st.integers(0, 8),
    per_rank=st.integers(1, 9),
    epoch=st.integers(0, 3),
    seed=st.integers(0, 2),
)
def test_exactly_once_in_one_order_and_resumable_at_another_world_size(
    built, world_size, other, batches, per_rank, epoch, seed
):
    folder, manifest = built
    start = Position(seed=seed, epoch=epoch)
    whole, end = drain(folder, manifest, start, 1, 10**9, 64)
    assert sorted(content(whole).values()) == expected_samples(folder, manifest)
    assert end == Position(seed=seed, epoch=epoch + 1)

    first, middle = drain(folder, manifest, start, world_size, batches, per_rank * world_size)
    assert middle == Position.from_json(middle.to_json())
    second, end = {}, middle
    if middle.epoch == epoch:
        second, end = drain(folder, manifest, middle, other, 10**9, per_rank * other)
    assert not set(first) & set(second)
    assert content(first | second) == content(whole)
    assert end == Position(seed=seed, epoch=epoch + 1)


def test_order_depends_on_seed_and_epoch(built):
    folder, manifest = built
    orders = [
        [content(drain(folder, manifest, Position(seed, epoch), 1, 10**9, 64)[0])[slot][:2] for slot in range(30)]
        for seed, epoch in ((0, 0), (0, 1), (1, 0))
    ]
    assert orders[0] != orders[1] and orders[0] != orders[2] and orders[1] != orders[2]


def test_slot_is_the_lane(built):
    folder, manifest = built
    lane_of = {}

    for member in manifest.train_members:
        for tar in member.tars:
            with tarfile.open(folder / tar.file) as archive:
                lane_of |= dict.fromkeys((name.removesuffix(".json") for name in archive.getnames()), tar.lane)
    slots, _ = drain(folder, manifest, Position(0), 1, 10**9, 50)
    assert all(lane_of[sample.key] == slot % manifest.lanes for slot, sample in slots.items())
    slots_of_lanes = [sum(slot % manifest.lanes == lane for slot in slots) for lane in range(manifest.lanes)]
    assert Stream(folder, manifest, 0).slots_per_epoch == manifest.lanes * max(slots_of_lanes)


def test_a_rank_reads_only_its_lanes_and_skips_groups_before_the_position(built, monkeypatch):
    folder, manifest = built
    read = []
    plain = stream_module.read_tar
    monkeypatch.setattr(
        stream_module, "read_tar", lambda folder, tar, offsets: read.append(tar) or plain(folder, tar, offsets)
    )
    world_size = 6
    divisor = gcd(manifest.lanes, world_size)
    stream = Stream(folder, manifest, 0, rank=2, world_size=world_size)
    for _ in stream.batches(Position(0), 12):
        pass
    assert {tar.lane % divisor for tar in read} == {2 % divisor}
    read.clear()
    end = stream.slots_per_epoch
    for _ in Stream(folder, manifest, 0).batches(Position(0, 0, end - manifest.lanes), manifest.lanes):
        pass
    assert len(read) <= manifest.lanes * manifest.shuffle_tars < sum(len(m.tars) for m in manifest.train_members)


def test_errors_name_what_is_wrong(built, tmp_path):
    folder, manifest = built
    with pytest.raises(ValueError, match="multiple of the 2 ranks"):
        Stream(folder, manifest, 0, 1, 2).batches(Position(0), 3)
    with pytest.raises(ValueError, match="seed 1"):
        Stream(folder, manifest, 0).batches(Position(1), 4)
    with pytest.raises(ValueError, match="outside the epoch"):
        Stream(folder, manifest, 0).batches(Position(0, 0, 10**6), 4)
    with pytest.raises(ValueError, match="rank 2 of 2"):
        Stream(folder, manifest, 0, 2, 2)
    shutil.copytree(folder, tmp_path / "copy")
    tar = tmp_path / "copy" / manifest.members[0].tars[0].file
    tar.write_bytes(tar.read_bytes().replace(b'"items":[', b'"items":[1,', 1))
    with pytest.raises(ValueError, match="train-0000-000000.tar is not the file"):
        list(Stream(tmp_path / "copy", manifest, 0).batches(Position(0), 4))
    tar.unlink()
    with pytest.raises(ValueError, match="train-0000-000000.tar cannot be read"):
        list(Stream(tmp_path / "copy", manifest, 0).batches(Position(0), 4))


@pytest.mark.parametrize(
    "value",
    [
        {"version": 2, "seed": 0, "epoch": 0, "slot": 0},
        {"version": 1, "seed": 0, "epoch": 0},
        {"version": 1, "seed": 0, "epoch": 0, "slot": 0, "rank": 1},
        {"version": 1, "seed": 0, "epoch": -1, "slot": 0},
        {"version": 1, "seed": 0, "epoch": 0, "slot": "3"},
        "[1]",
        "nonsense",
    ],
)
def test_position_refuses_what_it_does_not_know(value):
    with pytest.raises(ValueError, match="position"):
        Position.from_json(value)
