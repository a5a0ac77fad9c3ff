"""The command line as a person gives it, in this process; its ranks are forked where libraries are imported already.

A rank takes its core seven seconds to import what it needs, and most tests of the command line start some. That
`python -m launchers.jobs.rank` starts one is tested in test_local.py and test_launch.py, and by all of tests/system.
"""

import multiprocessing
import operator
import os
import signal
import subprocess
import sys
from multiprocessing import reduction

import pytest
from patience import HANG

from launchers import cli
from launchers.jobs import local


class Inherited:
    """Pickles to a file descriptor of this process; only while a process is being started."""

    def __init__(self, number):
        self.number = number

    def __reduce__(self):
        return operator.methodcaller("detach"), (reduction.DupFd(self.number),)


class ForkedRank:
    """What `local` asks of a `subprocess.Popen`."""

    def __init__(self, job, variables, by_value):
        def body(job, variables, out, err):
            import os
            import runpy
            import sys

            os.environ.clear()
            os.environ.update(variables)
            os.dup2(out, 1)
            os.dup2(err, 2)
            sys.argv = ["launchers.jobs.rank", job]
            from pretrain.tracking import tracker

            tracker.PATIENCE = tracker.HURRY = HANG  # on a busy machine, too, every line arrives
            runpy.run_module("launchers.jobs.rank", run_name="__main__", alter_sys=True)

        words = (str(job), by_value(variables), Inherited(1), Inherited(2))
        self.process = multiprocessing.get_context("forkserver").Process(target=by_value(body), args=words)
        self.process.start()

    def poll(self):
        return self.process.exitcode

    def wait(self, timeout: float | None = None):
        self.process.join(timeout)
        if self.process.exitcode is None:
            raise subprocess.TimeoutExpired("launchers.jobs.rank", timeout or 0.0)
        return self.process.exitcode

    def send_signal(self, number):
        assert self.process.pid is not None
        os.kill(self.process.pid, number)

    def kill(self):
        self.send_signal(signal.SIGKILL)


@pytest.fixture
def forked_ranks(monkeypatch, by_value):
    monkeypatch.setattr(local, "start", lambda job, variables: ForkedRank(job, variables, by_value))


@pytest.fixture
def idgenrec(monkeypatch, capfd, forked_ranks):
    """`idgenrec(*words)`: (exit status, standard output, standard error), of the ranks too."""

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["idgenrec", *map(str, words)])
        monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)  # `main` sets its own
        try:
            cli.main()
            status = 0
        except SystemExit as end:
            status = end.code or 0
        captured = capfd.readouterr()
        return status, captured.out, captured.err

    return run
