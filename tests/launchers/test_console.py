"""The console: plain lines in a log, only from rank 0, a live bar on a terminal alone."""

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

import launchers.line.console as console_module
from launchers.line.console import Console

ROOT = Path(console_module.__file__).resolve().parents[2]


def work(console):
    console.line("a line")
    for done in range(1, 6):
        console.progress("phase one", done, 5, "steps", f"loss {1 / done:.2f}")
    console.progress("phase two", 1200, 3000, "users")
    console.progress("phase two", 3000, 3000, "users")


def test_a_log_gets_plain_lines(capsys, monkeypatch):
    monkeypatch.setattr(console_module, "LOG_INTERVAL", 0.0)
    work(Console())
    out = capsys.readouterr().out
    assert "\x1b" not in out and "\r" not in out
    lines = out.splitlines()
    assert lines[0] == "a line" and len(lines) == 1 + 5 + 2
    assert "phase one: 5 of 5 steps" in lines[5] and lines[5].endswith("loss 0.20")
    assert "phase two: 1,200 of 3,000 users" in lines[6] and "3,000 of 3,000" in lines[7]


def test_a_log_is_not_flooded(capsys, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(console_module.time, "monotonic", lambda: now[0])
    console = Console()
    for done in range(1, 1001):
        now[0] += 0.1
        console.progress("long", done, 1000, "steps")
    lines = capsys.readouterr().out.splitlines()
    assert 5 <= len(lines) <= 100 / console_module.LOG_INTERVAL + 2
    assert "1,000 of 1,000" in lines[-1]
    assert "s left" in lines[1] and "s left" not in lines[-1]
    assert "10.0/s" in lines[-1] and " GB" in lines[-1]


def test_a_work_that_is_taken_up_again_is_as_fast_as_it_is_now(capsys, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(console_module.time, "monotonic", lambda: now[0])
    console = Console()
    console.progress("long", 900, 1000, "steps")
    now[0] += 20
    console.progress("long", 910, 1000, "steps")
    assert "910 of 1,000 steps, 0.5/s, 180 s left" in capsys.readouterr().out


def test_quiet_says_results_alone(capsys, monkeypatch):
    monkeypatch.setenv(console_module.OUTPUT, "quiet")
    work(Console())
    Console().result("report: here")
    assert capsys.readouterr().out == "report: here\n"


def test_json_is_an_object_a_line(capsys, monkeypatch):
    monkeypatch.setenv(console_module.OUTPUT, "json")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    work(Console())
    Console().result("report: here")
    said = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert said[0] == {"line": "a line"} and said[-1] == {"result": "report: here"}
    (last,) = (one for one in said if one.get("what") == "phase two" and one["done"] == 3000)
    assert last["total"] == 3000 and last["unit"] == "users" and last["memory_gb"] > 0
    assert {"per_second", "seconds_left", "note"} < set(last)


def test_a_dumb_terminal_gets_plain_lines(monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "dumb")
    assert not Console().live


def test_other_ranks_say_nothing(capsys):
    work(Console(speaks=False))
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""


def test_a_terminal_gets_a_bar_that_ends(capsys, monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    console = Console()
    assert console.live
    work(console)
    out = capsys.readouterr().out
    assert "a line" in out and "phase one" in out and "phase two" in out
    assert console._bar is None, "no bar is left open"


def test_work_that_gives_way_to_other_work_gives_its_bar_away(monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    console = Console()
    console.progress("warm-up recommender", 40, 100, "steps")
    console.progress("IDs", 10, 5000, "items", "wave 1")
    assert console._bar is not None
    (task,) = console._bar.tasks
    assert (task.description, task.completed, task.total) == ("IDs", 10, 5000)
    assert task.fields["unit"] == "items" and task.fields["note"] == "wave 1"
    console.progress("warm-up recommender", 41, 100, "steps")
    assert (task.description, task.completed, task.total) == ("warm-up recommender", 41, 100)
    console.progress("warm-up recommender", 100, 100, "steps")
    assert console._bar is None


@pytest.mark.parametrize("total", [0, 1])
def test_work_without_steps_ends(capsys, total):
    Console().progress("nothing", total, total, "items")
    assert f"{total} of {total} items" in capsys.readouterr().out


def test_the_cursor_comes_back_when_a_process_ends_under_a_bar():
    code = "from launchers.line.console import Console\nConsole().progress('long', 1, 9, 'steps')\nraise SystemExit(2)"
    terminal, its_end = pty.openpty()
    environment = os.environ | {"TERM": "xterm-256color", console_module.OUTPUT: ""}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, stdout=its_end, env=environment, check=False)
    os.close(its_end)
    said = os.read(terminal, 1 << 16)
    os.close(terminal)
    assert done.returncode == 2
    assert said.rfind(b"\x1b[?25l") < said.rfind(b"\x1b[?25h"), "hidden, then shown"
