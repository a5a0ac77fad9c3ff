"""The command line, `idgenrec COMMAND`: the only door a person uses.

Enters: words. Leaves: what the commands write. Must hold: a mistake of the user is one line on standard error and exit
status 2, a failed audit is status 3; heavy libraries are imported only by the command that needs them.
"""

from __future__ import annotations

import functools
import operator
import os
import select
import signal
import sys
import threading
import time
import traceback
from collections.abc import Sequence
from typing import Annotated, Any

import tyro

from launchers.commands.book import Book, Ids
from launchers.commands.checkpoint import Export, Interpolate
from launchers.commands.demo import Demo
from launchers.commands.doctor import Doctor
from launchers.commands.foundation import Foundation
from launchers.commands.jobs import Cancel, Jobs, Logs
from launchers.commands.launch import Launch, split
from launchers.commands.pretrain import Pretrain, with_recipe
from launchers.commands.recommend import Recommend
from launchers.commands.shard import Build, Shard
from launchers.commands.track import Track
from launchers.commands.zeroshot import Compare, Report, Zeroshot
from launchers.jobs.request import IdsConfig
from launchers.line.config_file import FromFile, load, named_file, printed
from launchers.line.console import MODES, OUTPUT, Console
from launchers.line.errors import refusal
from launchers.line.help import DESCRIPTION, completion_words, first_page, version_lines
from launchers.line.usage_errors import usage_errors_raised
from shards.config import BuildConfig
from zeroshot.protocol.config import EvaluateConfig

COMMANDS: dict[str, type] = {
    "demo": Demo,
    "shard": Shard,
    "pretrain": Pretrain,
    "foundation": Foundation,
    "ids": Ids,
    "book": Book,
    "interpolate": Interpolate,
    "export": Export,
    "zeroshot": Zeroshot,
    "report": Report,
    "compare": Compare,
    "recommend": Recommend,
    "launch": Launch,
    "jobs": Jobs,
    "logs": Logs,
    "cancel": Cancel,
    "doctor": Doctor,
    "track": Track,
}
RESUMED = {"shard", "pretrain", "foundation", "ids", "zeroshot"}
"""What goes on where it was when the same command is given again."""
Command = functools.reduce(
    operator.or_, (Annotated[kind, tyro.conf.subcommand(name)] for name, kind in COMMANDS.items())
)


def parse(words: Sequence[str]) -> Any:
    """The command that the words ask for. Raises ValueError of one line for words that ask for none."""
    words = list(words)
    if not words:
        raise ValueError(f"give a command: {', '.join(COMMANDS)}; idgenrec --help says what they do")
    # As the default of the whole, the values of a recipe or a file become those of the command.
    default = with_defaults(words)
    options = {} if default is None else {"default": default}
    with usage_errors_raised(COMMANDS, words):
        return tyro.cli(Command, prog="idgenrec", description=DESCRIPTION, args=words, **options)  # type: ignore[arg-type]


def with_defaults(words: list[str]) -> Any:
    """The command with the values of its recipe or of its `--config` file; None where it has neither."""
    file = named_file(words[1:])
    if words[0] == "pretrain":
        return with_recipe(words[1:], file)
    if file is None:
        return None
    if words[0] == "ids":
        return Ids(load(IdsConfig, file), config_file=file)
    if words[0] == "zeroshot":
        return Zeroshot(load(EvaluateConfig, file), config_file=file)
    if words[:2] == ["shard", "build"]:
        return Shard(Build(load(BuildConfig, file), config_file=file))
    return None


def perform(words: Sequence[str]) -> None:
    """Do what the words ask for."""
    words = list(words)
    while words and words[0] in MODES:
        os.environ[OUTPUT] = MODES[words.pop(0)]  # for the ranks too
    before, behind = split(words)
    if before in (["-h"], ["--help"]):
        print(first_page(COMMANDS))
        return
    if before == ["--version"]:
        Console().results(version_lines())
        return
    if before[:1] == ["--completion"]:
        before = completion_words(before)
    command = parse(before)
    inner = getattr(command, "command", command)
    if isinstance(command, Launch):
        command.launch(parse, behind)
    elif isinstance(inner, FromFile) and inner.print_config:
        print(printed(inner.config))  # type: ignore[attr-defined]
    else:
        command.run()


def main() -> None:
    """The console script."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    sys.unraisablehook = _interrupt_again
    try:
        perform(sys.argv[1:])
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:
        if not _reader_gone():
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(128 + signal.SIGPIPE)
    except KeyboardInterrupt:
        again = RESUMED.intersection(sys.argv)
        print(
            "interrupted; the same command " + ("takes the run up again" if again else "begins anew"), file=sys.stderr
        )
        sys.exit(130)
    except Exception as error:
        from launchers.jobs.local import RankFailed
        from pretrain.runtime.interrupt import STATUS

        if isinstance(error, RankFailed):
            if error.status not in (2, STATUS):  # of these the rank itself has said why
                print(f"error: {error}", file=sys.stderr)
            sys.exit(error.status)
        why = refusal(error)
        if why is None:
            raise
        print(f"error: {why}", file=sys.stderr)
        sys.exit(2)


def _interrupt_again(unraisable: sys.UnraisableHookArgs) -> None:
    """A Ctrl-C that came inside a finalizer, where Python drops every exception, comes once more outside of it."""
    if issubclass(unraisable.exc_type, KeyboardInterrupt):
        threading.Thread(target=_interrupt_outside_of_the_hook, daemon=True).start()
    else:
        sys.__unraisablehook__(unraisable)


def _interrupt_outside_of_the_hook() -> None:
    main = threading.main_thread().ident
    assert main is not None, "it has started"
    while any(
        frame.f_code is _interrupt_again.__code__ for frame, _ in traceback.walk_stack(sys._current_frames()[main])
    ):
        time.sleep(0.001)
    signal.pthread_kill(main, signal.SIGINT)  # a signal, so that whatever the main thread waits in ends


def _reader_gone() -> bool:
    """Whether nobody reads standard output any more, as in `idgenrec --help | head -3`."""
    poll = select.poll()
    poll.register(sys.stdout, 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))


if __name__ == "__main__":
    main()
