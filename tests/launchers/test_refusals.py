"""What the machine refuses is one line, with what to change."""

from importlib.metadata import version

import pytest

from launchers import cli


def refuse_disk():
    raise OSError(28, "No space left on device", "/data/x")


@pytest.mark.parametrize(
    ("refusing", "said"),
    [
        (lambda: version("no-such-package"), "no-such-package is not installed in this environment"),
        (refuse_disk, "no space left for /data/x; make room and give the same command again"),
    ],
)
def test_one_line_and_a_status(monkeypatch, capfd, refusing, said):
    monkeypatch.setattr(cli, "perform", lambda words: refusing())
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    err = capfd.readouterr().err
    assert said in err and len(err.splitlines()) == 1
