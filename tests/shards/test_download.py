"""What lies on the disk afterwards: verified files, their checksums, and one clear line where there is none."""

import hashlib
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, cast

import pytest
from bad_server import METADATA, REVIEWS, Answer, BadServer, check, config, only, payload
from patience import until

from shards import registry
from shards.download import download as download_module
from shards.download.download import DownloadConfig, download, read_sums


def test_a_folder_is_filled_and_sha256sum_agrees(server: BadServer, tmp_path: Path):
    for name, seed in ((REVIEWS, 1), (METADATA, 2)):
        server.serve(name, payload(seed))
    lines: list[str] = []
    paths = download(config(tmp_path, categories=("patio",), mirrors=(server.base() + "/",)), lines.append)
    assert paths == [tmp_path / "Patio" / REVIEWS, tmp_path / "Patio" / METADATA]
    assert [path.read_bytes() for path in paths] == [payload(1), payload(2)]
    subprocess.run(["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=tmp_path / "Patio", check=True)
    assert len(server.requests) == 2 and all("verified" in line for line in lines)


def test_a_verified_file_is_not_fetched_again(server: BadServer, one_file: bytes, tmp_path: Path):
    download(config(tmp_path))
    download(config(tmp_path))
    assert len(server.requests) == 1
    check(tmp_path, one_file)


def test_a_killed_download_goes_on_where_it_was(server: BadServer, tmp_path: Path):
    data = payload(3, 3_000_000)
    server.serve(REVIEWS, data)
    server.serve(METADATA, payload(4))
    server.plan = lambda path, number: Answer(stall_after=2_000_000 if number == 0 and REVIEWS in path else None)
    settings = config(tmp_path, categories=("Patio",), mirrors=(server.base(),))
    child = subprocess.Popen(
        [sys.executable, "-c", f"from shards.download.download import *; download({settings!r})"],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    part = tmp_path / "Patio" / f"{REVIEWS}.part"
    until(lambda: part.exists() and part.stat().st_size > 500_000 or child.poll() is not None)
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    assert not (tmp_path / "Patio" / REVIEWS).exists()
    received = part.stat().st_size
    assert 500_000 < received < len(data)
    before = len(server.requests)
    download(settings)
    assert server.requests[before] == (f"/a/{REVIEWS}", f"bytes={received}-")
    assert (tmp_path / "Patio" / REVIEWS).read_bytes() == data
    assert set(read_sums(tmp_path / "Patio" / "SHA256SUMS")) == {REVIEWS, METADATA}


def test_a_whole_part_is_not_fetched_again(server: BadServer, one_file: bytes, tmp_path: Path, monkeypatch):
    """Killed after the last byte and before the rename."""
    with monkeypatch.context() as patch:
        patch.setattr(download_module, "_verify", lambda *args: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            download(config(tmp_path))
    assert (tmp_path / "Patio" / f"{REVIEWS}.part").stat().st_size == len(one_file)
    download(config(tmp_path))
    assert len(server.requests) == 1
    check(tmp_path, one_file)


def test_wrong_bytes_are_deleted_and_the_next_mirror_asked(server: BadServer, one_file: bytes, tmp_path: Path):
    damaged = bytearray(one_file)
    damaged[150_000] ^= 1
    server.serve(REVIEWS, bytes(damaged), "a")
    lines: list[str] = []
    download(config(tmp_path), lines.append)
    assert len(server.asked("/a/")) == 1 and len(server.asked("/b/")) == 1
    assert any("damaged" in line for line in lines)
    check(tmp_path, one_file)


def test_when_all_mirrors_fail_one_line_says_why(server: BadServer, one_file: bytes, tmp_path: Path):
    server.plan = lambda path, number: Answer(status=403) if path.startswith("/a/") else Answer(body=b"<html>")
    with pytest.raises(ValueError, match=f"^{REVIEWS}") as caught:
        download(config(tmp_path))
    line = str(caught.value)
    assert "\n" not in line
    assert f"{server.base('a')}/{REVIEWS}: HTTP 403 Forbidden; {server.base('b')}/{REVIEWS}: answers with" in line
    assert not (tmp_path / "Patio" / REVIEWS).exists() and not (tmp_path / "Patio" / "SHA256SUMS").exists()


def test_a_checksum_given_wins_over_the_first_download(server: BadServer, one_file: bytes, tmp_path: Path):
    download(config(tmp_path / "out"))
    newer = payload(9)
    server.serve(REVIEWS, newer, "b")
    sums = tmp_path / "sums"
    sums.write_text(f"{hashlib.sha256(newer).hexdigest()}  {REVIEWS}\n")
    download(config(tmp_path / "out", checksums=str(sums)))
    check(tmp_path / "out", newer)


def test_a_file_damaged_on_disk_is_fetched_again(server: BadServer, one_file: bytes, tmp_path: Path):
    download(config(tmp_path))
    (tmp_path / "Patio" / REVIEWS).write_bytes(one_file[:-7])
    lines: list[str] = []
    download(config(tmp_path), lines.append)
    assert "has SHA-256" in lines[0] and "fetched again" in lines[0]
    check(tmp_path, one_file)


def test_a_file_that_changed_upstream_is_not_taken_for_the_first_one(
    server: BadServer, one_file: bytes, tmp_path: Path
):
    download(config(tmp_path))
    for mirror in "ab":
        server.serve(REVIEWS, payload(9), mirror)
    (tmp_path / "Patio" / REVIEWS).unlink()
    with pytest.raises(ValueError, match=r"has SHA-256 .*expected is"):
        download(config(tmp_path))
    assert sorted(path.name for path in (tmp_path / "Patio").iterdir()) == ["SHA256SUMS"]


def test_a_file_laid_there_by_hand_is_verified_and_recorded(server: BadServer, one_file: bytes, tmp_path: Path):
    (tmp_path / "Patio").mkdir()
    (tmp_path / "Patio" / REVIEWS).write_bytes(one_file)
    download(config(tmp_path))
    assert not server.requests
    check(tmp_path, one_file)


def test_a_mirror_without_gzip_keeps_its_own_name(server: BadServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    plain = REVIEWS.removesuffix(".gz")
    server.serve(plain, b'{"x": 1}\n')
    only(monkeypatch, registry.RawFile(REVIEWS, (f"{server.base()}/{REVIEWS}", f"{server.base()}/{plain}")))
    for _ in range(2):
        assert download(config(tmp_path)) == [tmp_path / "Patio" / plain]
    assert len(server.asked(plain)) == 5
    server.serve(plain, b"<html>")
    (tmp_path / "Patio" / plain).unlink()
    with pytest.raises(ValueError, match="perhaps a web page"):
        download(config(tmp_path))


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="file/Patio.* cannot be used"):
        download(config(tmp_path / "file", categories=("Patio",)))


def test_what_a_whole_release_lacks_is_said(server: BadServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for release, said in (("2014", "Yelp is given only"), ("2018", "no successor of Instant, Baby, Apps, Health")):
        lines: list[str] = []
        monkeypatch.setattr(download_module, "bring", lambda config, row, raw, *rest: Path(raw.name))
        assert len(download(config(tmp_path, release=release), lines.append)) >= 40
        assert len(lines) == 1 and said in lines[0]


def test_yelp_says_where_to_get_it_and_takes_what_lies_there(tmp_path: Path):
    for settings in (config(tmp_path, release="yelp"), config(tmp_path, categories=("Yelp",))):
        with pytest.raises(ValueError, match="business.yelp.com/data/resources/open-dataset/.*_review.json.*Yelp$"):
            download(settings)
    for raw in registry.row("yelp", "Yelp").files:
        (tmp_path / "Yelp" / raw.name).write_text('{"stars": 5.0}\n')
    assert len(download(config(tmp_path, release="yelp"))) == 2
    assert len(read_sums(tmp_path / "Yelp" / "SHA256SUMS")) == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"release": "2015"}, "no release '2015'"),
        ({"categories": ("Cars",)}, "no category 'Cars'"),
        ({"release": "2018", "categories": ("Baby",)}, "no successor of Baby"),
        ({"mirrors": ("file:///etc",)}, "http"),
        ({"retries": -1}, "retries"),
        ({"timeout_s": 0.0}, "timeout_s"),
    ],
)
def test_impossible_settings_fail_when_built(tmp_path: Path, changes: dict, message: str):
    with pytest.raises(ValueError, match=message):
        config(tmp_path, **changes)


def test_all_of_a_release_is_the_default():
    def chosen(release: str) -> int:
        return len(download_module.chosen_rows(DownloadConfig(out="x", release=cast(Any, release))))

    assert [chosen(release) for release in registry.RELEASES] == [24, 20, 22, 1]
    twice = DownloadConfig(out="x", categories=("beauty", "Beauty", "Yelp"))
    assert [row.category for row in download_module.chosen_rows(twice)] == ["Beauty", "Yelp"]


@pytest.mark.parametrize("text", ["abc  name\n", f"{'0' * 64}\n", f"{'0' * 64}  n\n{'1' * 64}  x/n\n"])
def test_a_bad_checksums_file_is_named(tmp_path: Path, text: str):
    (tmp_path / "sums").write_text(text)
    with pytest.raises(ValueError, match=r"sums:[12]: "):
        download(config(tmp_path, checksums=str(tmp_path / "sums")))
    with pytest.raises(ValueError, match="gone is missing"):
        download(config(tmp_path, checksums=str(tmp_path / "gone")))
