import os
import signal
import subprocess
import sys

import pytest
from patience import HANG

from shards.build.stages import Stage, Stages


def write(out, text, times=1):
    assert not list(out.iterdir()), "a stage that was cut short starts from an empty folder"
    (out / "text").write_text(text)
    with open(out.parent / "runs", "a") as runs:
        runs.write(text)
    if text == "wrong":
        raise ValueError("this one is wrong")
    if text == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    return {"text": text * times}


@pytest.mark.parametrize("workers", [1, 2])
def test_results_in_order_and_once(tmp_path, workers):
    stages = [Stage(f"stage.{text}", write, (text, 2)) for text in "abc"]
    for seen in ([], []):
        with Stages(tmp_path, workers) as runner:
            results = runner.run(stages, lambda stage, result, seen=seen: seen.append((stage.name, result["text"])))
        assert [result["text"] for result in results] == ["aa", "bb", "cc"]
        assert seen == [("stage.a", "aa"), ("stage.b", "bb"), ("stage.c", "cc")]
    assert sorted((tmp_path / "runs").read_text()) == ["a", "b", "c"], "what was done is not done again"


def test_how_far_it_is_counts_what_was_done_before_a_kill(tmp_path):
    stages, said = [Stage(f"stage.{text}", write, (text,)) for text in "abc"], []
    for some in (stages[:1], stages):
        with Stages(tmp_path, 1, lambda done, total, last: said.append((done, total, last))) as runner:
            runner.expect(3)
            runner.run(some)
    assert said == [(0, 3, ""), (1, 3, "stage.a"), (1, 3, ""), (2, 3, "stage.b"), (3, 3, "stage.c")]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_failure_keeps_what_was_done(tmp_path, workers):
    stages = [Stage(f"stage.{text}", write, (text,)) for text in ("a", "wrong", "b")]
    with pytest.raises(ValueError, match="this one is wrong"), Stages(tmp_path, workers) as runner:
        runner.run(stages)
    assert (tmp_path / "stage.a" / "result.json").is_file()
    assert not (tmp_path / "stage.wrong" / "result.json").exists()


def test_a_killed_process_is_one_line(tmp_path):
    stages = [Stage(f"stage.{text}", write, (text,)) for text in ("killed", "b")]
    killed = pytest.raises(ValueError, match=r"a worker process was killed.*goes on where it was")
    with killed, Stages(tmp_path, 2) as runner:
        runner.run(stages)
    with Stages(tmp_path, 1) as runner:
        assert runner.run([Stage("stage.killed", write, ("back",))]) == [{"text": "back"}]


PROGRAM = """
import signal, sys
from pathlib import Path
from shards.build.stages import Stage, Stages

class Closing:
    def __del__(self):  # what is raised here, Python prints and drops
        print("works", flush=True)
        signal.pause()

def wait(out):
    Closing()

if __name__ == "__main__":
    try:
        with Stages(Path(sys.argv[1]), workers=2) as stages:
            stages.run([Stage("a", wait, ()), Stage("b", wait, ())])
    except KeyboardInterrupt:
        print("stopped")
"""


@pytest.mark.parametrize(("number", "send", "expected"), [(2, os.killpg, "stopped\n"), (9, os.kill, "")])
def test_workers_end_with_their_parent(number, send, expected, tmp_path):
    """Ctrl-C reaches the whole group, a kill the parent alone; the pipes are at their end when no worker is left."""
    (tmp_path / "program.py").write_text(PROGRAM)
    words = [sys.executable, str(tmp_path / "program.py"), str(tmp_path / "out")]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
    assert process.stdout is not None
    assert [process.stdout.readline() for _ in range(2)] == ["works\n"] * 2
    send(process.pid, number)
    out, err = process.communicate(timeout=HANG)
    assert out == expected and "Traceback" not in err
