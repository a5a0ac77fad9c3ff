"""Cores that this process may use: bound to some, or with a quota of its control group."""

import os

import pytest

from shards import workers as module
from shards.workers import cores

OLD = "cpu/job/cpu.cfs_"


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """`machine(group, files)`: the root of a machine of 16 cores, 8 of them this process's, with files of a group."""
    monkeypatch.setattr(module.os, "sched_getaffinity", lambda process: set(range(8)))
    monkeypatch.setattr(module.os, "cpu_count", lambda: 16)

    def make(group, files):
        (tmp_path / "proc/self").mkdir(parents=True)
        (tmp_path / "proc/self/cgroup").write_text(group)
        for name, text in files.items():
            file = tmp_path / "sys/fs/cgroup" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        return tmp_path

    return make


@pytest.mark.parametrize(
    ("group", "files", "usable"),
    [
        ("", {}, 8),
        ("0::/job\n", {"job/cpu.max": "max 100000\n"}, 8),
        ("0::/job\n", {"job/cpu.max": "300000 100000\n"}, 3),
        ("0::/job/step\n", {"job/cpu.max": "250000 100000\n", "job/step/cpu.max": "max 100000\n"}, 2),
        ("0::/job\n", {"job/cpu.max": "50000 100000\n"}, 1),
        ("0::/job\n", {"job/cpu.max": "6400000 100000\n"}, 8),
        ("0::/outside/a/container\n", {"cpu.max": "400000 100000\n"}, 4),
        (
            "4:cpu,cpuacct:/job\n2:memory:/job\n",
            {"cpu/job/cpu.cfs_quota_us": "200000\n", "cpu/job/cpu.cfs_period_us": "100000\n"},
            2,
        ),
        ("4:cpu,cpuacct:/job\n2:memory:/job\n", {f"{OLD}quota_us": "200000\n", f"{OLD}period_us": "100000\n"}, 2),
        ("4:cpu,cpuacct:/job\n", {f"{OLD}quota_us": "-1\n", f"{OLD}period_us": "100000\n"}, 8),
    ],
)
def test_affinity_and_control_group_count(machine, group, files, usable):
    assert cores(machine(group, files)) == usable


def test_ranks_share_the_cores_of_this_process(monkeypatch):
    from pretrain.runtime import rendezvous

    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 5, 6, 7})
    most = cores()
    assert most <= 4
    assert rendezvous.environment(0, 2, 1)["OMP_NUM_THREADS"] == str(max(1, most // 2))
