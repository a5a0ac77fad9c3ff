import json
from pathlib import Path

import pytest

from shards.readers.rejects import EARLY_LINES, Rejects

FILE = Path("raw/Games/reviews.json")


def test_counts_samples_and_no_file_without_rejects(tmp_path):
    path = tmp_path / "rejects.jsonl"
    with Rejects(path, 1.0, samples_per_file=2) as rejects:
        rejects.count(FILE, 5)
        rejects.check(FILE)
        assert not path.exists()
        for line in (2, 3, 5):
            rejects.reject(FILE, line, "not JSON", b"{\xff;" + b"x" * 5000)
        rejects.count(Path("other.json"), 1)
        rejects.reject(Path("other.json"), 1, "not UTF-8", "ü\u2028".encode() * 1000)
        rejects.check(FILE)
    assert rejects.counts == {"reviews.json": (5, 3), "other.json": (1, 1)}
    samples = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert [(one["file"], one["line"]) for one in samples] == [
        ("reviews.json", 2),
        ("reviews.json", 3),
        ("other.json", 1),
    ]
    assert samples[0]["reason"] == "not JSON" and samples[0]["text"] == "{\ufffd;" + "x" * 297
    assert samples[2]["text"] == "ü\u2028" * 150


def test_too_large_a_share_stops_with_one_line(tmp_path):
    with Rejects(tmp_path / "rejects.jsonl", 0.01) as rejects:
        rejects.count(FILE, 300)
        for line in range(7, 10):
            rejects.reject(FILE, line, "not JSON", b"x")
        rejects.check(FILE)  # 1% itself is allowed
        for line in range(10, 19):
            rejects.reject(FILE, line, "not a JSON object", b"x")
        with pytest.raises(
            ValueError, match=r"12 of 300 lines \(4.0%\) of raw/Games/reviews.json are malformed"
        ) as error:
            rejects.check(FILE)
        assert "max_reject_share 0.01; first: reviews.json:7: not JSON; see " in str(error.value)
        assert f"see {tmp_path / 'rejects.jsonl'};" in str(error.value)
        assert "\n" not in str(error.value)
        # What it names can be looked at right away.
        assert len((tmp_path / "rejects.jsonl").read_text().splitlines()) == 12


def test_a_hopeless_file_is_not_read_to_its_end(tmp_path):
    with Rejects(tmp_path / "rejects.jsonl", 0.01, samples_per_file=1) as rejects:
        rejects.count(FILE, EARLY_LINES)
        for line in range(1, EARLY_LINES // 50 + 1):
            rejects.reject(FILE, line, "not JSON", b"x")
        rejects.count(FILE, 0)  # twice the share exactly
        rejects.reject(FILE, EARLY_LINES, "not JSON", b"x")
        with pytest.raises(ValueError, match=r"201 of 10,000 lines \(2.0%\) .* malformed so far"):
            rejects.count(FILE, 1)


def test_a_share_of_zero_forgives_nothing(tmp_path):
    with Rejects(tmp_path / "rejects.jsonl", 0.0) as rejects:
        rejects.check(FILE)
        rejects.count(FILE, 2)
        rejects.check(FILE)
        rejects.reject(FILE, 1, "not JSON", b"x")
        with pytest.raises(ValueError, match=r"1 of 2 lines \(50.0%\)"):
            rejects.check(FILE)
