"""No test reads a clock, sleeps or names seconds, but in `patience.py`: found in the source of every test file.

Also in the programs that tests hold as strings. What the check knows, a planted line of each kind shows.
"""

import ast
import re
from pathlib import Path

import pytest
from patience import HANG, limit, until

TESTS = Path(__file__).parent
EXEMPT = {
    "patience.py": "the one place",
    "test_patience.py": "its planted clocks",
    "peers/hugging_face.py": "reports to a benchmark how long it took; no test looks at that",
}
READ = {
    "sleep", "monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns", "process_time", "time_ns", "now", "utcnow",
    "today", "Timer", "alarm", "setitimer",
}  # fmt: skip
WAITING = {"wait", "wait_for", "join", "communicate", "settimeout", "result", "poll", "select"}
"""Calls whose positional numbers are seconds."""
LIMIT = re.compile(r"(^|_)timeout(_s|_min|_seconds)?$")
IN_A_PROGRAM = re.compile(
    r"\btime\.(sleep|time|monotonic|perf_counter)\b|\bfrom time import\b|\bdatetime\.now\("
    r"|[(,]\s*timeout(_s)?=[\d.]*[1-9]|\bsleep [\d.]*[1-9]"
)


def clocks(source: str) -> list[tuple[int, str]]:
    """(line, what is wrong there) of everything in a test file by which it can fail on a slow machine."""
    tree = ast.parse(source)
    nodes = list(ast.walk(tree))
    numbers = {
        target.id
        for node in tree.body
        if isinstance(node, ast.Assign) and _is_number(node.value, set())
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    documents = {
        id(node.value) for node in nodes if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    found = []
    for node in nodes:
        if isinstance(node, ast.Attribute) and _reads(node):
            found.append((node.lineno, f"{ast.unparse(node)}: wait with `until`"))
        elif isinstance(node, ast.ImportFrom) and node.module == "time":
            found.append((node.lineno, "clocks by name: wait with `until`"))
        elif isinstance(node, ast.Import) and any(name.name == "time" and name.asname for name in node.names):
            found.append((node.lineno, "`time` by another name: wait with `until`"))
        elif isinstance(node, ast.Attribute) and ast.unparse(node).endswith("mark.timeout"):
            found.append((node.lineno, "a limit of its own: conftest.py sets one for all"))
        elif isinstance(node, ast.Call):
            found += [(node.lineno, f"{text}: no limit, `HANG` or `limit(...)`") for text in _limits(node, numbers)]
        elif isinstance(node, ast.Dict):
            for key, value in zip(node.keys, node.values, strict=True):
                if isinstance(key, ast.Constant) and LIMIT.search(str(key.value)) and _is_number(value, numbers):
                    found.append((node.lineno, f"{key.value}: no limit, `HANG` or `limit(...)`"))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documents:
            found += [(node.lineno, f"{match[0]} in a program") for match in IN_A_PROGRAM.finditer(node.value)]
        elif isinstance(node, ast.For | ast.While) and _waits_by_hand(node):
            found.append((node.lineno, "a loop that rests until something is so: wait with `until`"))
    return sorted(found)


def _reads(node: ast.Attribute) -> bool:
    """Whether a clock is read, or time passed: by `time` or a module's own `time`."""
    owner = ast.unparse(node.value).rsplit(".", 1)[-1]
    return (
        isinstance(node.ctx, ast.Load)
        and (node.attr in READ if owner in ("time", "datetime", "date", "threading", "signal", "asyncio") else False)
        or (owner, node.attr) == ("time", "time")
    )


def _limits(call: ast.Call, numbers: set[str]) -> list[str]:
    """The seconds that a call names."""
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    values = [word.value for word in call.keywords if word.arg and LIMIT.search(word.arg)]
    values += call.args if name in WAITING else []
    return [f"{name}(... {ast.unparse(value)})" for value in values if _is_number(value, numbers)]


def _is_number(node: ast.expr, numbers: set[str]) -> bool:
    """A number above 0, a sum or a choice of numbers, a timedelta of them, or the name of one. 0 waits for nothing."""
    if isinstance(node, ast.Constant):
        return isinstance(node.value, int | float) and not isinstance(node.value, bool) and node.value > 0
    if isinstance(node, ast.BinOp):
        return _is_number(node.left, numbers) and _is_number(node.right, numbers)
    if isinstance(node, ast.IfExp):
        return _is_number(node.body, numbers) or _is_number(node.orelse, numbers)
    if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("timedelta"):
        return any(_is_number(value, numbers) for value in [*node.args, *(word.value for word in node.keywords)])
    return isinstance(node, ast.Name) and node.id in numbers


def _waits_by_hand(loop: ast.For | ast.While) -> bool:
    inside = [node for part in loop.body for node in ast.walk(part)]
    rests = any(isinstance(node, ast.Call) and ast.unparse(node.func).endswith("rest") for node in inside)
    return rests and (isinstance(loop, ast.While) or any(isinstance(node, ast.Break | ast.Return) for node in inside))


FILES = sorted(path.relative_to(TESTS).as_posix() for path in TESTS.rglob("*.py"))


@pytest.mark.parametrize("name", [name for name in FILES if name not in EXEMPT])
def test_no_test_can_fail_by_the_clock(name):
    found = clocks((TESTS / name).read_text())
    assert not found, "\n".join(f"tests/{name}:{line}: {text}" for line, text in found)


@pytest.mark.parametrize(
    "planted",
    [
        "import time\ndef test():\n    start()\n    time.sleep(1)\n    assert done()",
        "import time\nend = time.monotonic() + 9",
        "pause = local.time.sleep",
        "assert time.time() - started < 30",
        "from time import perf_counter",
        "import time as clock",
        "now = datetime.datetime.now()",
        "threading.Timer(after, kill)",
        "subprocess.run(words, timeout=200)",
        "SECONDS = 60\nprocess.wait(timeout=SECONDS)",
        "SECONDS = 60\nprocess.wait(SECONDS + 5)",
        "slurm.wait(lambda: done, 300)",
        "assert event.wait(30)",
        "thread.join(0.2)",
        "process.join(5 if well else 0)",
        "process.communicate(None, 2 * 60)",
        "dist.init_process_group(timeout=timedelta(seconds=5))",
        "config(tmp_path, timeout_s=2.0)",
        "settings = {'timeout_s': 30.0}",
        "executor.update_parameters(timeout_min=5)",
        "@pytest.mark.timeout(600)\ndef test(): pass",
        "PROGRAM = '''\nimport time\ntime.sleep(60)\n'''",
        "PROGRAM = f'''\nsubprocess.run({words}, timeout=60)\n'''",
        "submit('--setup', 'sleep 300')",
        "for _ in range(100):\n    if done():\n        break\n    rest(0.1)",
        "while not done():\n    patience.rest(0.1)",
    ],
)
def test_a_planted_clock_is_found(planted):
    assert clocks(planted)


@pytest.mark.parametrize(
    "clean",
    [
        '"""Waits, as time.sleep(1) would."""\nuntil(done, pause=0.01)',
        "monkeypatch.setattr(time, 'monotonic', lambda: now[0])",
        "SimpleNamespace(sleep=waited.append, monotonic=clock)",
        "process.wait()\nprocess.join()\nprocess.wait(0)\nevent.wait(HANG)",
        "subprocess.run(words, timeout=limit(20))\nrun(timeout=None)\nrun(timeout=HANG)",
        "' '.join(words)\nos.path.join(folder, name)",
        "({'timeout_s': 0.0}, 'timeout_s')",
        "assert row.time == 5 and review['time'] > 3",
        "rest(0.2)\nassert thread.is_alive()",
        "for part in parts:\n    send(part)\n    rest(0.01)",
        "'--setup', 'sleep infinity'",
        "'sqlite:///runs.db?timeout=5'",
    ],
)
def test_a_clean_line_is_not(clean):
    assert not clocks(clean)


def test_what_is_waited_for_is_returned_and_what_is_replaced_elsewhere_still_waits(monkeypatch):
    import time

    monkeypatch.setattr(time, "sleep", None)
    monkeypatch.setattr(time, "monotonic", None)
    asked = []
    assert until(lambda: asked.append(0) or len(asked) == 3 and "done") == "done" and len(asked) == 3


def test_what_never_happens_is_an_error_that_says_so(monkeypatch):
    import patience

    monkeypatch.setattr(patience, "HANG", 0.0)
    with pytest.raises(AssertionError, match="in vain: the queue is full"):
        until(lambda: False, lambda: "the queue is full")


def test_there_is_one_hang_limit(pytestconfig):
    assert limit(30 * 60) == HANG and not pytestconfig.getini("timeout")
    assert pytestconfig.getoption("timeout") >= HANG, "what `until` waits for is said before the test is ended"
