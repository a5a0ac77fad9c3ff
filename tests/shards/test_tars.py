import io
import json
import subprocess
import tarfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from made_folders import tar_bytes
from webdataset.tariterators import group_by_keys, tar_file_expander
from webdataset.writer import TarWriter

from shards.records import record_key
from shards.tars import end_bytes, read_records, record_bytes

USERS = st.text(st.characters(exclude_categories=("Cs",)), max_size=30)
ROWS = st.lists(st.integers(0, 2**31 - 1), min_size=2, max_size=30)
RECORDS = st.lists(st.tuples(st.integers(0, 10**9 - 1), USERS, ROWS), max_size=40, unique_by=lambda record: record[0])


def webdataset_bytes(records):
    stream = io.BytesIO()
    with TarWriter(stream, user="shards", group="shards", mtime=0, encoder=False) as writer:  # type: ignore[arg-type]
        for key, user, items in records:
            body = json.dumps({"user": user, "items": items}, ensure_ascii=False, separators=(",", ":")).encode()
            writer.write({"__key__": key, "json": body})
    return stream.getvalue()


@settings(max_examples=150)
@given(records=RECORDS)
@example(records=[])
@example(records=[(0, '"\\/\b\f\n\r\t\x00\x1f\x7f\x80\u2028\ud7ff\U0001f600', [0, 2**31 - 1])])
@example(records=[(number, "u" * (400 + number), [1, 2]) for number in range(64)])
def test_bytes_are_those_of_webdataset_and_come_back(records):
    records = [(record_key("Games_2-x", number), user, items) for number, user, items in records]
    data = tar_bytes(records)
    assert data == webdataset_bytes(records)
    read = read_records(data, "here")
    assert read.keys == [key for key, _, _ in records]
    assert read.offsets.dtype == np.int64 and read.items.dtype == np.int32
    bounds = zip(read.offsets[:-1], read.offsets[1:], strict=True)
    assert [read.items[start:stop].tolist() for start, stop in bounds] == [items for _, _, items in records]


def test_tar_and_webdataset_read_the_file(tmp_path: Path):
    records = [(record_key("Games", number), f"zoë {number}", [number, 7]) for number in range(30)]
    path = tmp_path / "train-0000-000000.tar"
    path.write_bytes(tar_bytes(records))
    names = [f"{key}.json" for key, _, _ in records]
    assert subprocess.run(["tar", "tf", path], check=True, capture_output=True, text=True).stdout.split() == names
    entries = list(group_by_keys(tar_file_expander([{"url": str(path), "stream": io.BytesIO(path.read_bytes())}])))
    bodies = [json.loads(entry["json"]) for entry in entries]
    assert [(entry["__key__"], body["user"], body["items"]) for entry, body in zip(entries, bodies, strict=True)] == (
        records
    )
    with tarfile.open(path) as archive:
        member = archive.getmembers()[0]
    assert (member.mtime, member.mode, member.uname, member.gname) == (0, 0o444, "shards", "shards")


def test_arrays_are_written_as_lists_are():
    rows = np.array([5, 2**31 - 1, 0], dtype=np.int32)
    assert record_bytes("Games/000000000", "u", rows) == record_bytes("Games/000000000", "u", rows.tolist())


def test_a_user_that_is_not_unicode_is_named():
    with pytest.raises(ValueError, match=r"Games/000000001: user '\\ud800'"):
        record_bytes("Games/000000001", "\ud800", [1, 2])


def member(name="Games/000000000.json", body=b'{"user":"u","items":[1,2]}', **fields):
    info = tarfile.TarInfo(name)
    info.size = len(body)
    for field, value in fields.items():
        setattr(info, field, value)
    return info.tobuf(tarfile.USTAR_FORMAT) + body + bytes(-len(body) % 512)


def closed(*members: bytes) -> bytes:
    body = b"".join(members)
    return body + end_bytes(len(body))


def body(text: str) -> bytes:
    return member(body=text.encode())


GOOD = member()
REFUSED = {
    "path above": (closed(GOOD, member("../Games/000000001.json")), "'../Games/000000001.json' is not named"),
    "path inside": (closed(member("Games/../../000000001.json")), "is not named"),
    "absolute path": (closed(member("/Games/000000001.json")), "is not named"),
    "backslash": (closed(member("Games\\000000001.json")), "is not named"),
    "no number": (closed(member("Games/readme.json")), "is not named"),
    "other suffix": (closed(member("Games/000000001.txt")), "is not named"),
    "prefix field": (closed(member("d" * 99 + "/Games/000000001.json")), "not a plain USTAR file"),
    "directory": (closed(member(type=tarfile.DIRTYPE)), "not a plain USTAR file"),
    "symbolic link": (closed(member(type=tarfile.SYMTYPE, linkname="/etc/passwd", body=b"")), "not a plain USTAR"),
    "hard link": (closed(member(linkname="x")), "not a plain USTAR file"),
    "twice": (closed(GOOD, GOOD), "Games/000000000 twice"),
    "cut inside": (closed(GOOD, GOOD)[: len(GOOD) + 512], "is truncated"),
    "cut at a member": (GOOD, "two blocks of zeros"),
    "cut in the end": (GOOD + bytes(512), "two blocks of zeros"),
    "cut in a block": (closed(GOOD)[:-1], "not whole blocks"),
    "behind the end": (closed(GOOD)[:-512] + b"x" * 512, "two blocks of zeros"),
    "empty": (b"", "two blocks of zeros"),
    "random": (b"\x07" * 10240, "no octal size"),
    "size": (closed(GOOD[:124] + b"0000000008 " + GOOD[135:]), "no octal size"),
    "huge size": (closed(GOOD[:124] + b"77777777777" + GOOD[135:]), "is truncated"),
    "checksum": (closed(GOOD[:150] + b"7" + GOOD[151:]), "wrong checksum"),
    "mode": (closed(GOOD[:103] + b"7" + GOOD[104:]), "wrong checksum"),
    "not JSON": (closed(body('{"user":"u","items":[1,2]')), "Games/000000000.json is not JSON"),
    "two values": (closed(body('{"user":"u","items":[1,2]},{}')), "is not JSON"),
    "not UTF-8": (closed(member(body=b'{"user":"\xff","items":[1,2]}')), "is not JSON"),
    "nested": (closed(body('{"user":"u","items":' + "[" * 5000)), "is not JSON"),
    "a list": (closed(body("[1,2]")), "two rows or more"),
    "no user": (closed(body('{"items":[1,2]}')), "two rows or more"),
    "user a number": (closed(body('{"user":1,"items":[1,2]}')), "two rows or more"),
    "one row": (closed(body('{"user":"u","items":[1]}')), "two rows or more"),
    "further key": (closed(body('{"user":"u","items":[1,2],"x":1}')), "two rows or more"),
    "a fraction": (closed(body('{"user":"u","items":[1,2.5]}')), "not integers"),
    "a bool": (closed(body('{"user":"u","items":[1,true]}')), "not integers"),
    "text": (closed(body('{"user":"u","items":[1,"2"]}')), "not integers"),
    "negative": (closed(body('{"user":"u","items":[1,-2]}')), "row -2"),
    "32 bits": (closed(body('{"user":"u","items":[1,2147483648]}')), "beyond 31 bits"),
    "65 bits": (closed(body('{"user":"u","items":[1,36893488147419103232]}')), "not integers"),
}


def test_the_good_member_is_good():
    assert read_records(closed(GOOD), "here").items.tolist() == [1, 2]


@pytest.mark.parametrize("what", REFUSED)
def test_anything_else_is_refused_with_its_file(what):
    data, message = REFUSED[what]
    with pytest.raises(ValueError, match=message) as error:
        read_records(data, "shards/Games/train-0000-000000.tar")
    assert "shards/Games/train-0000-000000.tar" in str(error.value) and "\n" not in str(error.value)


@settings(max_examples=400)
@given(data=st.data())
def test_damaged_headers_and_random_bytes_raise_nothing_but_a_value_error(data):
    good = closed(GOOD, member("Games/000000001.json"))
    raw = bytearray(data.draw(st.one_of(st.just(good), st.binary(max_size=2048))))
    for _ in range(data.draw(st.integers(0, 4))):
        if raw:
            raw[data.draw(st.integers(0, min(len(raw), 2048) - 1))] = data.draw(st.integers(0, 255))
    try:
        records = read_records(bytes(raw), "here")
    except ValueError as error:
        message = str(error)
    else:
        assert len(records.offsets) == len(records.keys) + 1 and records.offsets[-1] == len(records.items)
        message = "here"
    assert "here" in message and "\n" not in message
