"""Figures of nodes: each node once, what cannot be told left out, and in the lines of a run."""

from pathlib import Path

import pytest
import torch
from patience import until

from pretrain.runtime.world import World
from pretrain.tracking.node_metrics import NodeMetrics, gpus, numbered, read
from pretrain.tracking.tracker import read_lines

ALONE = World(0, 1, torch.device("cpu"))


def test_a_machine_tells_of_its_processor_and_memory(monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "0")
    watched = NodeMetrics(ALONE)

    def busy():  # a kernel counts whole ticks of a processor's time
        sum(number * number for number in range(300_000))
        report = watched.report()
        return report if report["0/cpu_percent"] > 0 else None

    report = until(busy)
    assert report is not None and set(report) == {"0/cpu_percent", "0/memory_used_gb"}
    assert report["0/cpu_percent"] <= 100
    total = 1e-6 * int(Path("/proc/meminfo").read_text().split()[1])
    assert 0.05 < report["0/memory_used_gb"] < total * 1.024


def test_only_the_first_rank_of_a_node_speaks(monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert NodeMetrics(ALONE).report() == {}


def test_nodes_are_numbered_in_the_order_of_their_ranks():
    parts = [{"cpu_percent": 1.0}, {}, {"cpu_percent": 3.0, "gpu_0_percent": 7.0}, {}]
    assert numbered(parts) == {"0/cpu_percent": 1.0, "1/cpu_percent": 3.0, "1/gpu_0_percent": 7.0}


def test_what_a_driver_will_not_tell_is_left_out():
    def refuses():
        raise RuntimeError("not supported on a part of a GPU")

    def is_a_fault():
        raise KeyError("ours")

    assert read({"gpu_0_percent": refuses, "cpu_percent": lambda: 5}) == {"cpu_percent": 5.0}
    with pytest.raises(KeyError):
        read({"gpu_0_percent": is_a_fault})
    assert gpus(torch.device("cpu")) == {}


def test_two_ranks_of_one_node_are_one_node(run_ranks):
    def body(world):
        from pretrain.tracking.node_metrics import NodeMetrics

        return NodeMetrics(world).report()

    first, second = run_ranks(body, 2)
    assert first == second and set(first) == {"0/cpu_percent", "0/memory_used_gb"}


def test_a_run_logs_them_at_its_log_steps(trained_run):
    lines = read_lines(Path(trained_run[1]) / "metrics.jsonl")
    steps = [line["step"] for line in lines if line["group"] == "recommender" and "recommender/loss" in line]
    told = [line["step"] for line in lines if "system/0/cpu_percent" in line and "system/0/memory_used_gb" in line]
    assert steps and set(steps) <= set(told) and len(told) == len(set(told))
