"""The local spawner: every rank gets its environment, one that fails stops the others, none is left behind."""

import contextlib
import json
import os
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path

import patience
import pytest
from patience import HANG, until

from launchers.jobs import local
from pretrain.runtime import rendezvous
from shards.workers import cores

RANK = """#!{python} -S
import json, os, signal, sys
sys.path.insert(0, "{patience}")
from patience import until
names = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "OMP_NUM_THREADS", "POLARS_MAX_THREADS")
here = "{folder}/rank" + os.environ["RANK"]
rank = int(os.environ["RANK"])
job = json.load(open(sys.argv[3]))
def stopped(*_):
    open(here + ".stopped", "w").close()
    sys.exit(0)
if not job["config"].get("stubborn"):
    signal.signal(signal.SIGTERM, stopped)
else:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
with open(here + ".part", "w") as out:
    env = {{name: os.environ[name] for name in names}}
    json.dump({{"env": env, "argv": sys.argv[1:], "job": job, "pid": os.getpid()}}, out)
os.rename(here + ".part", here)
if rank == job["config"].get("fails"):
    until(lambda: all(os.path.exists("{folder}/rank%d" % n) for n in range(int(os.environ["WORLD_SIZE"]))))
    sys.exit(job["config"]["status"])
if "fails" in job["config"] or job["config"].get("wait"):
    parent = os.getppid()
    until(lambda: os.getppid() != parent)  # until it is stopped; without the test there is nothing to wait for
"""


@pytest.fixture
def ranks(monkeypatch, tmp_path):
    """`ranks()`: what each fake rank saw. The fake stands in for the Python that runs `launchers.jobs.rank`."""
    script = tmp_path / "python"
    script.write_text(RANK.format(python=sys.executable, folder=tmp_path, patience=Path(patience.__file__).parent))
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(local.sys, "executable", str(script))
    monkeypatch.setattr(local, "GRACE_SECONDS", HANG)
    monkeypatch.setattr(local, "SAVING_SECONDS", HANG)
    return lambda: [json.loads(path.read_text()) for path in sorted(tmp_path.glob("rank?"))]


def gone(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_each_rank_gets_its_place_and_the_job(ranks):
    local.launch("ids", {"a": 1, "b": {"c": [2]}}, 3)
    seen = ranks()
    assert [rank["env"]["RANK"] for rank in seen] == [rank["env"]["LOCAL_RANK"] for rank in seen] == ["0", "1", "2"]
    assert {rank["env"]["WORLD_SIZE"] for rank in seen} == {"3"}
    assert {rank["env"]["MASTER_ADDR"] for rank in seen} == {"127.0.0.1"}
    assert len({rank["env"]["MASTER_PORT"] for rank in seen}) == 1
    share = str(max(1, cores() // 3))
    assert {rank["env"]["OMP_NUM_THREADS"] for rank in seen} == {share}, "each its share of the cores"
    assert all(rank["argv"][:2] == ["-m", "launchers.jobs.rank"] for rank in seen)
    assert all(rank["job"] == {"task": "ids", "config": {"a": 1, "b": {"c": [2]}}} for rank in seen)
    assert not Path(seen[0]["argv"][2]).exists(), "the job file is removed"


def test_one_failing_rank_stops_the_others_and_passes_its_status(ranks, tmp_path):
    with pytest.raises(local.RankFailed, match="rank 1 ended with status 7") as caught:
        local.launch("ids", {"fails": 1, "status": 7}, 3)
    assert caught.value.status == 7
    assert sorted(path.name for path in tmp_path.glob("*.stopped")) == ["rank0.stopped", "rank2.stopped"]
    assert all(gone(rank["pid"]) for rank in ranks())


def test_a_rank_that_does_not_listen_is_killed(ranks, monkeypatch):
    monkeypatch.setattr(local, "GRACE_SECONDS", 0.0)
    with pytest.raises(local.RankFailed):
        local.launch("ids", {"fails": 0, "status": 1, "stubborn": True}, 2)
    assert len(ranks()) == 2 and all(gone(rank["pid"]) for rank in ranks())


def stopped_by(monkeypatch, ranks, stop):
    """`stop` is called as soon as both ranks are there, while this process waits for them."""
    wait_for = local.wait_for

    def wait(started):
        until(lambda: len(ranks()) == 2)
        stop()
        wait_for(started)

    monkeypatch.setattr(local, "wait_for", wait)


def test_ctrl_c_stops_all_ranks(ranks, monkeypatch, tmp_path):
    stopped_by(monkeypatch, ranks, lambda: signal.default_int_handler(signal.SIGINT, None))
    with pytest.raises(KeyboardInterrupt):
        local.launch("ids", {"wait": True}, 2)
    assert len(list(tmp_path.glob("*.stopped"))) == 2
    assert all(gone(rank["pid"]) for rank in ranks())


def test_asked_to_end_it_stops_all_ranks(ranks, monkeypatch, tmp_path):
    stopped_by(monkeypatch, ranks, lambda: os.kill(os.getpid(), signal.SIGTERM))
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as caught:
        local.launch("ids", {"wait": True}, 2)
    assert caught.value.code == 128 + signal.SIGTERM
    assert len(list(tmp_path.glob("*.stopped"))) == 2
    assert all(gone(rank["pid"]) for rank in ranks())
    assert signal.getsignal(signal.SIGTERM) == before


def test_at_least_one_process():
    with pytest.raises(ValueError, match="processes is 0"):
        local.launch("ids", {}, 0)


def test_the_repository_is_importable_in_a_rank(tmp_path):
    environment = rendezvous.environment(1, 2, 1234)
    code = "import launchers.jobs.rank, pretrain.config.run; print(launchers.jobs.rank.__file__)"
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert Path(found.stdout.strip()) == Path(local.__file__).parent / "rank.py"


def test_a_held_port_is_given_to_nobody_who_asks_for_any_and_can_be_listened_at():
    """Ranks import for seconds before rank 0 listens; in that time another job on the machine must not get the port."""
    with contextlib.ExitStack() as stack:
        held = [stack.enter_context(rendezvous.HeldPort()) for _ in range(40)]
        others = set()
        for number in range(10_000):
            with socket.socket() as other:
                if number % 2:
                    other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                other.bind(("127.0.0.1", 0))
                others.add(other.getsockname()[1])
        assert len(others) > 5_000 and not {port.number for port in held} & others
        listener = stack.enter_context(socket.create_server(("", held[0].number)))
        with socket.create_connection(("127.0.0.1", held[0].number)):
            listener.accept()[0].close()
