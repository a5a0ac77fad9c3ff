"""A run over a real link between two hosts: slow, then cut in the middle of a step, then whole again."""

import os
import subprocess

import psutil
import pytest
from patience import HANG, limit, until
from slurm_runs import RUN, SHORT, final, idgenrec, points
from two_hosts import NAMES, TwoHosts


@pytest.fixture(scope="module")
def hosts():
    if os.geteuid() and not os.environ.get("CI"):
        pytest.skip("network namespaces can only be made by root")
    with TwoHosts() as hosts:
        yield hosts


def test_a_link_that_is_slow_and_then_cut_ends_the_run_on_both_sides_and_it_goes_on(hosts, shard_folder, tmp_path):
    hang_seconds = round(limit(24))
    words = ["pretrain", "--shards", shard_folder, *RUN, *SHORT, "--checkpoint-steps", "10"]
    out, err, status = idgenrec(*words, "--out", tmp_path / "whole", "--processes", "2")
    assert status == 0, err
    run, job = tmp_path / "cut", tmp_path / "job.json"
    words += ["--out", run, "--hang-minutes", str(hang_seconds / 60)]
    assert idgenrec("launch", "write", "--job", job, "--ranks", "2", "--", *words)[2] == 0

    ranks = hosts.start(job, tmp_path)
    until(lambda: len(points(run, "recommender")) > 15)
    hosts.slow("1mbit")
    slowed = len(points(run, "recommender"))
    until(lambda: len(points(run, "recommender")) > slowed + 5)
    hosts.cut()
    assert [rank.wait(HANG) for rank in ranks] == [3, 3]
    done = len(points(run, "recommender"))
    assert done < len(points(tmp_path / "whole", "recommender")), "in the middle of the phase"
    left, right = ((tmp_path / f"{name}.log").read_text() for name in NAMES)
    place = "warm-up recommender, "
    assert f"error: no progress for {hang_seconds} s: " in left and place in left
    assert "on left" in left and "on right" in left
    assert f"error: rank 1 on right: no progress for {hang_seconds} s at: {place}" in right
    assert not [process for process in psutil.process_iter(["cmdline"]) if str(job) in (process.info["cmdline"] or [])]

    hosts.mend()
    for rank in hosts.start(job, tmp_path):
        assert rank.wait(HANG) == 0, (tmp_path / "left.log").read_text()
    assert final(run) == final(tmp_path / "whole")


def test_the_namespaces_are_gone():
    with TwoHosts() as hosts:
        made = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout
        assert all(space in made for space in hosts.spaces.values())
    left = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout
    assert not any(space in left for space in hosts.spaces.values())
