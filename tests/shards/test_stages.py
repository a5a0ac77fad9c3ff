import os
import signal

import pytest

from shards.stages import Stage, Stages


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
