"""The command line as a person gives it, in this process."""

import sys

import pytest

from launchers import cli


@pytest.fixture
def idgenrec(monkeypatch, capfd):
    """`idgenrec(*words)`: (exit status, standard output, standard error), of the ranks too."""

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["idgenrec", *map(str, words)])
        try:
            cli.main()
            status = 0
        except SystemExit as end:
            status = end.code or 0
        captured = capfd.readouterr()
        return status, captured.out, captured.err

    return run
