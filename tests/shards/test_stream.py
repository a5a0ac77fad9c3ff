import hashlib
import multiprocessing
import os
import signal
import subprocess
import sys
import tarfile
import tempfile
from collections import Counter
from math import gcd
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_folders import histories, make_shards
from patience import until

import shards.stream.group as group_module
from shards.counters import generator
from shards.records import Position, record_key
from shards.stream.group import in_runs
from shards.stream.lane import LENGTH_BLOCK, length_order
from shards.stream.stream import Stream, read_amplification

# The order of version 1 of the stream, of the folder `small` below; whoever changes it changes every run's figures.
ORDER_SHA256 = "2a8a7eeeba41e299cba90d8e23098cb889003bb1874089ff0442487b2c72d859"


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """120 users in 3 lanes of several groups each: (folder, manifest)."""
    folder = tmp_path_factory.mktemp("small") / "shards"
    return folder, make_shards(folder, histories(7, 60))


@pytest.fixture(scope="module")
def wide(tmp_path_factory):
    """64 lanes of two groups of two tars each."""
    folder = tmp_path_factory.mktemp("wide") / "shards"
    return folder, make_shards(folder, histories(2, 500, longest=6), lanes=64, records_per_tar=3)


def drain(folder, manifest, position, world_size, batches, batch_size, **options):
    """Reads `batches` global batches on each rank: (content by slot, position after)."""
    slots, after, expected = {}, position, None
    for rank in range(world_size):
        stream = Stream(
            folder, manifest, position.seed, rank, world_size,
            length_window=position.length_window, prefix_run=position.prefix_run, **options,
        )  # fmt: skip
        shapes, here = [], position
        for number, (reached, entries) in enumerate(stream.batches(position, batch_size)):
            if number >= batches:
                break
            here = reached
            shapes.append((len(entries), reached))
            for entry in entries:
                if entry is not None:
                    assert entry.slot % world_size == rank and entry.slot not in slots
                    slots[entry.slot] = (entry.key, entry.prefix_end, entry.history.tolist(), entry.target)
        assert expected in (None, shapes), "every rank has the same batches of the same sizes and positions"
        expected, after = shapes, here
    return slots, after


def expected_samples(data, num_items=50):
    return sorted(
        (record_key(name, number), end, rows[:end], rows[end])
        for offset, (name, sequences) in enumerate(data.items())
        for number, items in enumerate(sequences)
        for rows in [[item + offset * num_items for item in items]]
        for end in range(1, len(rows))
    )


def test_the_order_is_the_one_that_runs_were_made_with(small):
    folder, manifest = small
    digest = hashlib.sha256()
    for seed, epoch in ((0, 0), (3, 2)):
        slots, _ = drain(folder, manifest, Position(seed, epoch), 1, 10**9, 64)
        for slot in sorted(slots):
            key, prefix_end, history, target = slots[slot]
            digest.update(f"{slot} {key} {prefix_end} {history} {target}\n".encode())
    assert digest.hexdigest() == ORDER_SHA256


@pytest.mark.slow
@settings(max_examples=60)
@given(
    users=st.integers(1, 50),
    lanes=st.integers(1, 12),
    records_per_tar=st.integers(1, 6),
    shuffle_tars=st.integers(1, 4),
    world_size=st.integers(1, 16),
    other=st.integers(1, 16),
    batches=st.integers(0, 8),
    per_rank=st.integers(1, 9),
    order=st.sampled_from([(0, 1), (1, 1), (7, 1), (32, 1), (70, 1), (1000, 1), (0, 2), (0, 8)]),
    epoch=st.integers(0, 3),
    seed=st.integers(0, 3),
)
def test_exactly_once_in_one_order_and_resumable_at_another_world_size(
    users, lanes, records_per_tar, shuffle_tars, world_size, other, batches, per_rank, order, epoch, seed
):
    data = histories(seed, users)
    data["Garden"].append([1, 2])  # never without a sample
    with tempfile.TemporaryDirectory() as folder:
        manifest = make_shards(Path(folder), data, lanes, records_per_tar, shuffle_tars)
        start, over = Position(seed, epoch, 0, *order), Position(seed, epoch + 1, 0, *order)
        whole, end = drain(folder, manifest, start, 1, 10**9, 64)
        assert sorted(whole.values()) == expected_samples(data)
        assert end == over
        counts = Counter(slot % lanes for slot in whole)
        assert set(whole) == {lane + lanes * k for lane in counts for k in range(counts[lane])}, "no gaps in a lane"

        first, middle = drain(folder, manifest, start, world_size, batches, per_rank * world_size)
        assert middle == Position.from_json(middle.to_json())
        second, end = {}, middle
        if middle.epoch == epoch:
            second, end = drain(folder, manifest, middle, other, 10**9, per_rank * other)
        assert not set(first) & set(second)
        assert first | second == whole
        assert end == over


@pytest.mark.processes
@pytest.mark.parametrize(
    ("workers", "prefetch", "window", "world_size"), [(1, 1, 0, 1), (2, 2, 40, 2), (3, 1, 25, 1), (4, 3, 0, 1)]
)
def test_workers_change_nothing(small, workers, prefetch, window, world_size):
    folder, manifest = small
    start = Position(1, 1, 0, window)
    assert drain(folder, manifest, start, world_size, 10**9, 16, workers=workers, prefetch=prefetch) == drain(
        folder, manifest, start, 1, 10**9, 16
    )
    middle = Position(1, 1, 101, window)
    assert drain(folder, manifest, middle, 1, 4, 16, workers=workers) == drain(folder, manifest, middle, 1, 4, 16)


@settings(max_examples=8)
@given(data=st.data())
@pytest.mark.processes
def test_any_rank_reads_the_same_with_any_number_of_workers(data):
    """With workers as without, at random sizes, ranks, windows and places: what holds for none holds for all."""
    workers, world_size = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 16))
    rank, per_rank = data.draw(st.integers(0, world_size - 1)), data.draw(st.integers(1, 6))
    window = data.draw(st.sampled_from([0, 7, 64]))
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder) / "shards"
        users, lanes = data.draw(st.integers(2, 60)), data.draw(st.integers(1, 6))
        manifest = make_shards(folder, histories(data.draw(st.integers(0, 9)), users), lanes=lanes, records_per_tar=4)

        def read(workers):
            stream = Stream(folder, manifest, 0, rank, world_size, workers=workers, length_window=window)
            start = Position(0, 1, place % stream.slots_per_epoch, window)
            return [
                (after, [entry and (entry.slot, entry.key, entry.prefix_end, entry.target) for entry in entries])
                for after, entries in stream.batches(start, per_rank * world_size)
            ]

        place = data.draw(st.integers(0, 500))
        assert read(workers) == read(0)


def test_order_depends_on_seed_epoch_and_window(small):
    folder, manifest = small
    orders = [
        [slots[slot][:2] for slot in range(30)]
        for seed, epoch, window in ((0, 0, 0), (0, 1, 0), (1, 0, 0), (0, 0, 20), (0, 0, 40), (0, 1, 40))
        for slots, _ in [drain(folder, manifest, Position(seed, epoch, 0, window), 1, 10**9, 64)]
    ]
    assert all(orders[a] != orders[b] for a in range(len(orders)) for b in range(a))


def test_slot_is_the_lane(small):
    folder, manifest = small
    lane_of = {}
    for member in manifest.train_members:
        for tar in member.tars:
            with tarfile.open(folder / tar.file) as archive:
                lane_of |= dict.fromkeys((name.removesuffix(".json") for name in archive.getnames()), tar.lane)
    for window in (0, 33):
        slots, _ = drain(folder, manifest, Position(0, 0, 0, window), 1, 10**9, 50)
        assert all(lane_of[content[0]] == slot % manifest.lanes for slot, content in slots.items())
        of_lanes = [sum(slot % manifest.lanes == lane for slot in slots) for lane in range(manifest.lanes)]
        assert Stream(folder, manifest, 0).slots_per_epoch == manifest.lanes * max(of_lanes)


def test_a_rank_reads_only_its_lanes_once_and_skips_groups_before_the_position(small, monkeypatch):
    folder, manifest = small
    read, plain = [], group_module.read_tar

    def watched(folder, tar, *member):
        read.append(tar)
        return plain(folder, tar, *member)

    monkeypatch.setattr(group_module, "read_tar", watched)
    for window in (0, 20):
        read.clear()
        stream = Stream(folder, manifest, 0, rank=2, world_size=6, length_window=window)
        for _ in stream.batches(stream.start(), 12):
            pass
        assert {tar.lane % gcd(3, 6) for tar in read} == {2}
        assert max(Counter(read).values()) == 1
        assert stream.bytes_read == sum(tar.bytes for tar in read)
        read.clear()
        last = Position(0, 0, stream.slots_per_epoch - manifest.lanes, window)
        for _ in Stream(folder, manifest, 0, length_window=window).batches(last, manifest.lanes):
            pass
        assert 0 < len(read) <= 2 * manifest.lanes * manifest.shuffle_tars < sum(len(m.tars) for m in manifest.members)


@pytest.mark.parametrize("world_size", [1, 8, 64, 3, 12, 48])
def test_each_byte_is_read_once_where_the_ranks_divide_the_lanes(wide, world_size):
    folder, manifest = wide
    total = sum(tar.bytes for member in manifest.members for tar in member.tars)
    read = 0
    for rank in range(world_size):
        stream = Stream(folder, manifest, 0, rank, world_size, length_window=16)
        for _ in stream.batches(stream.start(), world_size):
            pass
        read += stream.bytes_read
    assert read / total <= (1.2 if 64 % world_size == 0 else world_size / gcd(64, world_size))
    assert read / total == pytest.approx(read_amplification(64, world_size), rel=0.05)


def test_length_windows_sort_whole_blocks_alike_in_all_lanes():
    draw = np.random.default_rng(0)
    lanes = [draw.permutation(np.arange(1000, 1000 + size)) for size in (200, 205, 203)]
    ranks = [lane[length_order(lane, 200, 5, 1, 4)] - 1000 for lane in lanes]
    together = 200 // LENGTH_BLOCK * LENGTH_BLOCK
    for other, size in zip(ranks, (200, 205, 203), strict=True):
        assert sorted(other) == list(range(size))
        assert other[:together].tolist() == ranks[0][:together].tolist()
        assert other[together:].tolist() == list(range(together, size))
    blocks = ranks[0][:together].reshape(-1, LENGTH_BLOCK)
    assert (np.diff(blocks, axis=1) == 1).all() and blocks[:, 0].tolist() != sorted(blocks[:, 0])
    again = length_order(lanes[0], 200, 5, 1, 4)
    assert (again == length_order(lanes[0], 200, 5, 1, 4)).all()
    assert any((again != length_order(lanes[0], 200, *other)).any() for other in ((5, 1, 5), (5, 2, 4), (6, 1, 4)))


def test_length_windows_keep_equal_lengths_in_shuffled_order():
    assert length_order(np.array([2, 1, 2, 1, 2]), 0, 0, 0, 0).tolist() == [1, 3, 0, 2, 4]


def fill(folder, manifest, window, batch_size):
    """Mean length over longest length, over the batches of an epoch."""
    stream = Stream(folder, manifest, 0, length_window=window)
    lengths = [
        [len(sample.history) for sample in entries if sample is not None]
        for _, entries in stream.batches(stream.start(), batch_size)
    ]
    return sum(map(sum, lengths)) / sum(max(batch) * len(batch) for batch in lengths)


def test_runs_of_prefixes_stand_together_and_share_their_items(wide):
    """A run is consecutive prefixes of one record, rising, in one lane; where it begins differs between epochs."""
    folder, manifest = wide
    found, begins = {}, {}
    for run in (1, 4):
        for epoch in (0, 1):
            slots, _ = drain(folder, manifest, Position(0, epoch, 0, 0, run), 1, 10**9, manifest.lanes * 8)
            for lane in range(manifest.lanes):
                column = [slots[slot] for slot in sorted(slots) if slot % manifest.lanes == lane]
                follows = [
                    later[0] == earlier[0] and later[1] == earlier[1] + 1
                    for earlier, later in zip(column, column[1:], strict=False)
                ]
                found.setdefault(run, []).append(sum(follows) / len(follows))
                starts = (row for row, joined in zip(column[1:], follows, strict=True) if not joined)
                begins.setdefault((run, epoch), set()).update((key, end) for key, end, *_ in starts)
    assert np.mean(found[4]) > 5 * np.mean(found[1])
    assert begins[4, 0] != begins[4, 1]


def test_a_run_is_never_longer_than_asked():
    record = np.repeat(np.arange(40, dtype=np.int32), 9)
    prefix_end = np.tile(np.arange(1, 10, dtype=np.int32), 40)
    order = in_runs(record, prefix_end, 4, generator(0, "test"))
    assert sorted(order.tolist()) == list(range(len(record)))
    longest = current = 1
    for earlier, later in zip(order, order[1:], strict=False):
        # Two runs of a record next to each other, in order, are possible but rare: of 40 records none is here.
        current = current + 1 if later == earlier + 1 and record[later] == record[earlier] else 1
        longest = max(longest, current)
    assert longest == 4


def test_length_windows_fill_batches(tmp_path):
    manifest = make_shards(tmp_path, histories(5, 3000, longest=40), lanes=8, records_per_tar=64, shuffle_tars=4)
    assert fill(tmp_path, manifest, 0, 64) < 0.4
    assert fill(tmp_path, manifest, 512, 64) > 0.8
    assert fill(tmp_path, manifest, 512, 8 * LENGTH_BLOCK) > 0.6


def gone(pids):
    return until(lambda: not [pid for pid in pids if Path(f"/proc/{pid}").exists()])


@pytest.mark.parametrize("how", ["close", "drop", "raise", "end", "damage"])
def test_no_worker_stays_behind(small, how, tmp_path):
    folder, manifest = small
    if how == "damage":
        folder = tmp_path / "shards"
        manifest = make_shards(folder, histories(7, 60))
        lane = Stream(folder, manifest, 0).lanes[0]
        last = lane[generator(0, "tars", 0, 0).permutation(len(lane))[-1]]
        (folder / last.tar.file).write_bytes(b"")
    batches = Stream(folder, manifest, 0, workers=2).batches(Position(0), 6)
    next(batches)
    pids = [process.pid for process in multiprocessing.active_children()]
    assert pids
    if how == "close":
        batches.close()  # type: ignore[attr-defined]
    elif how == "drop":
        del batches
    elif how == "raise":
        with pytest.raises(KeyboardInterrupt):
            batches.throw(KeyboardInterrupt)  # type: ignore[attr-defined]
    elif how == "end":
        list(batches)
    else:
        with pytest.raises(ValueError, match="is not the file that the manifest names"):
            list(batches)
    assert gone(pids)


def test_a_killed_worker_is_an_error_and_no_hang(small):
    folder, manifest = small
    batches = Stream(folder, manifest, 0, workers=2).batches(Position(0), 3)
    next(batches)
    for process in multiprocessing.active_children():
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
    with pytest.raises(RuntimeError, match="a worker process of the stream died.*use fewer stream workers"):
        list(batches)


@pytest.mark.processes
def test_workers_do_not_outlive_a_killed_parent(small):
    program = """if __name__ == "__main__":
        import multiprocessing, sys
        from shards.manifest import Manifest
        from shards.stream.stream import Stream
        folder = sys.argv[1]
        stream = Stream(folder, Manifest.load(folder), 0, workers=2)
        batches = stream.batches(stream.start(), 3)
        next(batches)
        print(*[process.pid for process in multiprocessing.active_children()], flush=True)
        sys.stdin.read()
    """
    command = [sys.executable, "-c", program, str(small[0])]
    root, pipe = Path(__file__).parents[2], subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, cwd=root) as parent:
        assert parent.stdout is not None
        pids = parent.stdout.readline().split()
        assert pids and all(Path(f"/proc/{pid}").exists() for pid in pids)
        parent.kill()
    assert gone(pids)


def test_a_worker_imports_little():
    program = (
        "import sys, shards.stream.group; print(sorted({'torch', 'pyarrow', 'polars', 'duckdb'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2]
    )
    assert done.stdout.strip() == "[]"


def test_errors_name_what_is_wrong(small):
    folder, manifest = small
    with pytest.raises(ValueError, match="multiple of the 2 ranks"):
        Stream(folder, manifest, 0, 1, 2).batches(Position(0), 3)
    with pytest.raises(ValueError, match="seed 1"):
        Stream(folder, manifest, 0).batches(Position(1), 4)
    with pytest.raises(ValueError, match="length_window 8, the stream 0"):
        Stream(folder, manifest, 0).batches(Position(0, length_window=8), 4)
    with pytest.raises(ValueError, match="prefix_run 1, the stream 4"):
        Stream(folder, manifest, 0, prefix_run=4).batches(Position(0), 4)
    with pytest.raises(ValueError, match="outside the epoch"):
        Stream(folder, manifest, 0).batches(Position(0, 0, 10**6), 4)
    with pytest.raises(ValueError, match="rank 2 of 2"):
        Stream(folder, manifest, 0, 2, 2)
    for options in ({"workers": -1}, {"prefetch": 0}, {"length_window": -1}, {"prefix_run": 0}):
        with pytest.raises(ValueError, match=f"{next(iter(options))} "):
            Stream(folder, manifest, 0, **options)


@pytest.mark.parametrize(
    "value",
    [
        {"version": 1, "seed": 0, "epoch": 0, "slot": 0},
        {"version": 2, "seed": 0, "epoch": 0, "slot": 0, "length_window": 0, "prefix_run": 1},
        {"version": 4, "seed": 0, "epoch": 0, "slot": 0, "length_window": 0, "prefix_run": 1},
        {"version": 3, "seed": 0, "epoch": 0, "length_window": 0, "prefix_run": 1},
        {"version": 3, "seed": 0, "epoch": 0, "slot": 0, "length_window": 0, "prefix_run": 1, "rank": 1},
        {"version": 3, "seed": 0, "epoch": -1, "slot": 0, "length_window": 0, "prefix_run": 1},
        {"version": 3, "seed": 0, "epoch": 0, "slot": 0, "length_window": -1, "prefix_run": 1},
        {"version": 3, "seed": 0, "epoch": 0, "slot": 0, "length_window": 0, "prefix_run": 0},
        {"version": 3, "seed": 0, "epoch": 0, "slot": "3", "length_window": 0, "prefix_run": 1},
        {"version": 3, "seed": 0, "epoch": 0, "slot": 0, "length_window": True, "prefix_run": 1},
        "[1]",
        "nonsense",
    ],
)
def test_position_refuses_what_it_does_not_know(value):
    with pytest.raises(ValueError, match="position"):
        Position.from_json(value)


def test_the_position_is_the_object_of_the_contract():
    value = {"version": 3, "seed": 0, "epoch": 1, "slot": 4096, "length_window": 512, "prefix_run": 1}
    assert Position.from_json(value).to_json() == value
