"""Planted faults, each named on a line of its own with what to do; and a machine that is well."""

import dataclasses
import http.server
import json
import os
import shutil
import threading
from pathlib import Path

import pytest
from patience import HANG

from launchers.checks import doctor, probes
from launchers.checks.machine import Machine
from launchers.checks.preflight import look
from pretrain.config.run import ModelConfig, PretrainConfig


@pytest.fixture(autouse=True)
def patient(monkeypatch):
    """Ranks and servers of a busy machine take long to answer."""
    monkeypatch.setattr(probes, "ROUND_TRIP_SECONDS", HANG)
    monkeypatch.setattr(probes, "HEALTH_SECONDS", HANG)


GB = 10**9


@pytest.fixture(autouse=True)
def sbatch(monkeypatch, tmp_path):
    """`sbatch(script)`: this machine has an sbatch that does so; else it has none, whatever is installed."""
    found = shutil.which
    monkeypatch.setattr(shutil, "which", lambda name, *more: None if name == "sbatch" else found(name, *more))

    def make(script):
        programs = tmp_path / "bin"
        programs.mkdir(exist_ok=True)
        (programs / "sbatch").write_text(f"#!/bin/sh\n{script}\n")
        (programs / "sbatch").chmod(0o755)
        monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
        monkeypatch.setattr(shutil, "which", found)

    return make


@pytest.mark.processes
def test_sbatch_is_asked_whether_it_takes_the_job(idgenrec, sbatch, tmp_path):
    sbatch('grep -q -- "#SBATCH --partition=gpu" "$2" && echo "sbatch: Job 7 to start at 2026-12-01" >&2 && exit 0\n'
           'echo "allocation failure: Invalid partition name specified" >&2; exit 1')  # fmt: skip
    asked = ["doctor", "--run", tmp_path / "runs", "--slurm.partition"]
    status, out, _ = idgenrec(*asked, "gpu")
    assert status == 0 and "OK      sbatch takes the job: Job 7 to start at 2026-12-01\n" in out
    status, out, _ = idgenrec(*asked, "nope")
    assert status == 1 and "ERROR   sbatch refuses the job: Invalid partition name specified; change --slurm.*" in out


def levels(findings):
    return [finding.level for finding in findings]


def test_versions():
    wanted = ["torch>=2.10,<2.14", "Jinja2>=3.1", "fsspec[http]>=2025.1"]
    well = {"torch": "2.13.0+cpu", "jinja2": "3.1.6", "fsspec": "2025.3.0"}
    assert levels(doctor.judge_versions("3.11.7", ">=3.11", wanted, well)) == ["OK"]
    new, missing = doctor.judge_versions("3.11.7", ">=3.11", wanted, {"torch": "2.14.0", "fsspec": "2025.3.0"})
    assert str(new) == "ERROR   torch 2.14.0, wanted is <2.14,>=2.10; pip install 'torch>=2.10,<2.14'"
    assert str(missing) == "ERROR   Jinja2 is not installed; pip install 'Jinja2>=3.1'"
    (old,) = doctor.judge_versions("3.10.1", ">=3.11", wanted, well)
    assert old.level == "ERROR" and "Python 3.10.1" in old.text


def test_this_environment_is_of_wanted_versions():
    python, wanted = probes.requirements()
    assert "torch>=2.10,<2.14" in wanted
    assert levels(doctor.judge_versions("3.11.7", python, wanted, probes.installed())) == ["OK"]


def test_gpus():
    assert doctor.judge_gpus(False, [], 4).level == "OK"
    assert doctor.judge_gpus(True, [], 1).cure == "install torch with CUDA"
    assert doctor.judge_gpus(True, ["H100"] * 4, 4).level == "OK"
    few = doctor.judge_gpus(True, ["H100"] * 2, 4)
    assert few.level == "ERROR" and "--processes 2" in few.cure
    assert doctor.judge_gpus(True, ["H100", "V100"], 2).level == "WARNING"


def test_lanes_and_ranks():
    assert [doctor.judge_lanes(8, ranks).level for ranks in (1, 2, 4, 8)] == ["OK"] * 4
    odd = doctor.judge_lanes(8, 6)
    assert odd.level == "WARNING" and "each byte 3 times" in odd.text and odd.cure.startswith("take 4 ranks")


def test_memory(shard_folder, tmp_path):
    shape = ModelConfig(d_model=16, d_ff=32, num_layers=1, num_heads=2)
    config = PretrainConfig(str(shard_folder), str(tmp_path / "run"), shape, shape, batch_size=8)
    outlook = look(config, 2)
    needs = [outlook.needed(stage)[0] for stage in (0, 1, 2, 3)]

    def judged(memory):
        (finding,) = doctor.judge_memory(dataclasses.replace(outlook, machine=Machine("CPU", False, memory, 16 << 20)))
        return finding

    assert judged(64 * GB).level == "OK" and "(too much)" not in judged(64 * GB).text
    assert judged(GB // 1000).level == "ERROR"
    between = judged(int((min(needs) + outlook.needed(outlook.zero_stage)[0]) / 2))
    assert between.level == "WARNING" and "--engine.zero-stage" in between.cure


def test_signal_delay():
    assert doctor.judge_signal(2.0, 10.0, 90.0).level == "OK"
    assert doctor.judge_signal(10.0, 50.0, 90.0).level == "WARNING"
    late = doctor.judge_signal(10.0, 100.0, 90.0)
    assert late.level == "ERROR" and "let it come 220 s before" in late.cure


def test_disk_shm_and_open_files():
    assert levels(doctor.judge_disk("runs", 5e8, 100 * GB, 10 * GB)) == ["OK", "OK"]
    slow, full = doctor.judge_disk("runs", 5e6, 5 * GB, 10 * GB)
    assert (slow.level, full.level) == ("WARNING", "ERROR") and "--keep-checkpoints" in full.cure
    assert doctor.judge_disk("runs", 5e7, 100 * GB, 0)[0].cure == "give --checkpoint-in-background"
    assert doctor.judge_shm(64 << 20, 8).level == "WARNING" and doctor.judge_shm(1 << 30, 8).level == "OK"
    assert doctor.judge_open_files(256).level == "WARNING" and doctor.judge_open_files(1024).level == "OK"


def test_round_trip_verdicts():
    well = {"backend": "nccl", "seconds": 0.002, "blind": []}
    assert str(doctor.judge_round_trip(2, well, "")) == "OK      2 ranks sum a megabyte over nccl in 2.0 ms"
    assert "[1]" in doctor.judge_round_trip(2, well | {"blind": [1]}, "").text
    assert "refused" in doctor.judge_round_trip(2, None, "Connection refused").text


@pytest.mark.processes
def test_ranks_that_do_not_reach_each_other(tmp_path, monkeypatch):
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "nosuch0")
    answer, said = probes.round_trip(2, tmp_path)
    assert answer is None and said
    finding = doctor.judge_round_trip(2, answer, said)
    assert finding.level == "ERROR" and "GLOO_SOCKET_IFNAME" in finding.cure


def run_with(folder, step_seconds, save_seconds):
    """A run folder as a run leaves it: log lines every five steps, and a checkpoint."""
    saved = folder / "checkpoints" / "step-0000010"
    saved.mkdir(parents=True)
    lines, now = [], 1000.0
    for step in (5, 10, 15):
        now += 5 * step_seconds
        lines.append({"time": now, "step": step, "group": "recommender", "recommender/loss": 1.0})
        lines.append({"time": now, "step": step, "group": "system", "system/0/cpu_percent": 1.0})
    lines.append({"time": now + 1000, "step": 20, "group": "validation", "validation/NDCG_at_10": 0.1})
    lines.append({"time": now + 2000, "step": 25, "group": "generator", "generator/loss": 1.0})
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    for number, name in enumerate(("model.safetensors", "COMPLETE")):
        (saved / name).write_text("x" * 100)
        os.utime(saved / name, (2000 + number * save_seconds, 2000 + number * save_seconds))


def test_step_and_save_are_those_of_the_run(tmp_path):
    run_with(tmp_path, 3.0, 40.0)
    assert probes.longest_step(tmp_path) == pytest.approx(3.0), "validation is no step"
    assert probes.save_seconds(tmp_path, 1e9) == pytest.approx(40.0)
    assert probes.save_seconds(tmp_path, 1.0) == pytest.approx(200.0), "a slower disk takes longer"
    assert probes.longest_step(tmp_path / "none") is None and probes.save_seconds(tmp_path / "none", 1.0) is None


def test_step_and_save_of_a_real_run(trained_run):
    step, save = probes.longest_step(Path(trained_run[1])), probes.save_seconds(Path(trained_run[1]), 1e9)
    assert step is not None and step > 0 and save is not None and save > 0


@pytest.fixture
def health():
    """A server that is asked for its health; `status` is its answer."""

    class Handler(http.server.BaseHTTPRequestHandler):
        status = 200

        def do_GET(self):
            self.send_response(self.status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format, *args):
            del format, args

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield Handler, server.server_address[1]
    server.shutdown()
    server.server_close()


def test_mlflow(health, tmp_path):
    handler, port = health
    assert probes.mlflow(f"http://127.0.0.1:{port}").level == "OK"
    handler.status = 503
    ill = probes.mlflow(f"http://me:hunter2@127.0.0.1:{port}/")
    assert ill.level == "WARNING" and "status 503" in ill.text and "hunter2" not in str(ill)
    assert "ConnectionError" in probes.mlflow("http://127.0.0.1:1").text
    assert probes.mlflow(f"sqlite:///{tmp_path}/new/mlflow.db").level == "OK"


@pytest.mark.processes
def test_the_command_on_a_machine_that_is_well(idgenrec, shard_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path / "extensions"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    run_with(tmp_path / "runs", 0.5, 2.0)
    (tmp_path / "runs" / "checkpoints" / "step-0000010" / "COMPLETE").unlink()
    status, out, err = idgenrec(
        "doctor", "--shards", shard_folder, "--run", tmp_path / "runs", "--processes", 2, "--tracking-uri",
        f"sqlite:///{tmp_path}/mlflow.db",
    )  # fmt: skip
    assert status == 0 and not err, out
    lines = out.splitlines()
    assert all(line.split()[0] in ("OK", "WARNING") for line in lines)
    for said in ("2 ranks read 4 lanes, each byte 1 time an epoch", "2 ranks sum a megabyte over gloo", "ZeRO stage"):
        assert sum(said in line for line in lines) == 1, said
    assert not list((tmp_path / "runs").glob(".doctor*"))


@pytest.mark.processes
def test_the_command_names_planted_faults(idgenrec, shard_folder, tmp_path, monkeypatch):
    lock = tmp_path / "extensions" / "py311_cpu" / "shm" / "lock"
    lock.parent.mkdir(parents=True)
    lock.write_text("")
    os.utime(lock, (0, 0))  # of 1970
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path / "extensions"))
    run_with(tmp_path / "run", 30.0, 80.0)
    status, out, _ = idgenrec(
        "doctor", "--run", tmp_path / "run", "--tracking-uri", "http://me:hunter2@127.0.0.1:1",
        "--slurm.signal-seconds", 90,
    )  # fmt: skip
    assert status == 1 and "hunter2" not in out
    errors = [line for line in out.splitlines() if line.startswith("ERROR")]
    assert len(errors) == 2 and f"rm '{lock}'" in errors[0]
    assert "nothing would be saved: let it come 220 s before" in errors[1]
    assert "WARNING http://***@127.0.0.1:1 does not answer" in out


def test_a_run_that_has_ended(idgenrec, shard_folder, trained_run):
    """Its own models, step and save are looked at."""
    status, out, _ = idgenrec("doctor", "--shards", shard_folder, "--run", trained_run[1])
    assert status == 0 and "needed at ZeRO stage 0" in out and "a signal comes 120 s before the end" in out
    assert not (Path(trained_run[1]) / "doctor").exists()


def test_shards_that_are_not_there_are_an_error(idgenrec, tmp_path):
    status, out, _ = idgenrec("doctor", "--shards", tmp_path / "none", "--run", tmp_path / "run")
    assert status == 1 and out.splitlines()[-1].startswith("ERROR") and str(tmp_path / "none") in out
