"""Lives of real tiny runs, each in processes of its own: whatever happens to them, every byte is the undisturbed run's.

    IDGENREC_LIVES=300 IDGENREC_LIVES_SEED=0 python -m pytest tests/soak/test_lives.py -s

A life is started until it ends well. At each start but the last something happens to it, at a moment that is drawn:
SIGKILL, SIGKILL while a checkpoint is being written, SIGTERM, SIGUSR2, Ctrl-C twice, a full disk; the disk is slow or
not, checkpoints are written in the background or not. After every start each checkpoint is compared with the one that
the undisturbed run wrote at that step, and `best` with the rule of one standard error. One rank, since bits are the
same at one number of ranks only; no MLflow, which has tests of its own.
"""

import dataclasses
import errno
import json
import multiprocessing
import os
import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from lives import best_of, content

from pretrain.config.run import ScheduleConfig
from pretrain.runtime.interrupt import STATUS
from pretrain.training import checkpoint

LIVES = int(os.environ.get("IDGENREC_LIVES", "300"))
SEED = int(os.environ.get("IDGENREC_LIVES_SEED", "0"))
AT_ONCE = int(os.environ.get("IDGENREC_LIVES_AT_ONCE", "2"))

SCHEDULE = ScheduleConfig(
    teaching_steps=3, warmup_steps=4, generator_steps=3, recommender_steps=5, validation_steps=2, validation_users=8
)
ENDS = {
    "SIGKILL": {-9}, "SIGKILL in a save": {-9}, "SIGTERM": {STATUS}, "SIGUSR2": {STATUS}, "Ctrl-C twice": {130},
    "full disk": {2}, "nothing": {0},
}  # fmt: skip
"""Exit statuses by what happens."""


def start(config, event, at, slow, log, counts=None):
    """One start of a run, in its own process.

    at: the number of the sign of progress, or of the checkpoint, at which the event happens. slow: seconds that the
    disk takes before and after a checkpoint's files.
    """
    import signal
    import sys
    import traceback
    import warnings

    from patience import rest

    file = open(log, "a")  # noqa: SIM115 (it lives as long as the process)
    os.dup2(file.fileno(), 1)
    os.dup2(file.fileno(), 2)
    warnings.simplefilter("ignore")
    from launchers.jobs.rank import _quiet
    from pretrain.runtime.interrupt import STATUS, Interrupted
    from pretrain.runtime.world import joined_world
    from pretrain.training import train
    from pretrain.training.checkpoint_writer import CheckpointWriter

    _quiet()
    seen = saves = 0
    begin = CheckpointWriter.begin

    def begin_on_this_disk(saver, step, write):
        nonlocal saves
        saves += 1
        number = saves

        def write_here(folder):
            rest(slow)
            write(folder)
            if number == at and event == "SIGKILL in a save":
                os.kill(os.getpid(), signal.SIGKILL)
            if number == at and event == "full disk":
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            rest(slow)

        begin(saver, step, write_here)

    class Listener:
        def line(self, text):
            print(text, flush=True)

        def progress(self, what, done, total, unit, note=""):
            nonlocal seen
            seen += 1
            if seen == at and event in ("SIGKILL", "SIGTERM", "SIGUSR2"):
                os.kill(os.getpid(), getattr(signal, event))
            if seen == at and event == "Ctrl-C twice":
                os.kill(os.getpid(), signal.SIGINT)
                os.kill(os.getpid(), signal.SIGINT)

    CheckpointWriter.begin = begin_on_this_disk  # type: ignore[method-assign]
    train.open_tracker = lambda run: None  # type: ignore[assignment]
    status = 1
    try:
        with joined_world(1) as world:
            train.train(config, world, Listener())
        status = 0
    except Interrupted as interrupted:
        print(interrupted, flush=True)
        status = STATUS
    except KeyboardInterrupt:
        status = 130
    except ValueError as error:
        print(error, flush=True)
        status = 2
    except BaseException:
        traceback.print_exc()
    if counts:
        Path(counts).write_text(json.dumps([seen, saves]))
    sys.exit(status)


@pytest.fixture
def begin(run_ranks, by_value):
    """`begin(...)` as `start`, and its exit status."""
    context = multiprocessing.get_context("forkserver")

    def begin(*arguments):
        process = context.Process(target=by_value(start), args=tuple(map(by_value, arguments)))
        process.start()
        process.join()
        return process.exitcode

    return begin


def drafts_of(out):
    return set((out / "checkpoints").glob(".*"))


def one_life(number, config, expected, moments, folder, begin):
    """Returns what happened to it."""
    draw, happened = random.Random(f"{SEED}-{number}"), []
    out, log = folder / f"life-{number}", folder / f"life-{number}.log"
    while True:
        event = draw.choice([*ENDS]) if len(happened) < 4 else "nothing"
        at = 1 + int(draw.random() * (moments[1] if event in ("SIGKILL in a save", "full disk") else moments[0]))
        slow = draw.choice((0.0, 0.0, 0.2))
        changed = dataclasses.replace(
            config, out=str(out), checkpoint_in_background=draw.random() < 0.6, checkpoint_steps=draw.randint(1, 4),
            keep_checkpoints=draw.randint(1, 3),
        )  # fmt: skip
        before = drafts_of(out)
        status = begin(changed, event, at, slow, str(log))
        where = f"life {number}, seed {SEED}, after {happened}: {event} at {at}; see {log}"
        assert status in ENDS[event] | {0}, f"status {status}: {where}\n{log.read_text()[-2000:]}"
        folders = checkpoint.checkpoints_of(out)
        for one in folders:
            assert content(one) == expected[one.name], f"{one} is another than the undisturbed run's: {where}"
        if folders:
            best = checkpoint.best(out)
            assert best is not None and best.name == best_of(expected, folders[-1].name), where
        drafts = drafts_of(out) - before  # those of a killed start go with the next save
        assert not drafts or status == -9, f"{drafts} are left: {where}"
        if status == STATUS:
            last = log.read_text().splitlines()[-1]
            assert (folders and f"{folders[-1]} is saved" in last) or "waves of the ID job are kept" in last, where
        if status == 0:
            assert folders[-1].name == max(expected), where
            return happened
        happened.append(event)


def test_lives(begin, train_config, tmp_path):
    config = train_config("lives", schedule=SCHEDULE, hang_minutes=0, recommender_lr=1e-2)
    whole = dataclasses.replace(config, out=str(tmp_path / "whole"), checkpoint_steps=1, keep_checkpoints=99)
    counts, log = tmp_path / "counts", tmp_path / "whole.log"
    assert begin(whole, "nothing", 0, 0.0, str(log), str(counts)) == 0, log.read_text()[-3000:]
    expected = {folder.name: content(folder) for folder in checkpoint.checkpoints_of(tmp_path / "whole")}
    assert len(expected) == 15 and best_of(expected, max(expected)) in expected
    moments = json.loads(counts.read_text())
    done, happened = 0, []
    with ThreadPoolExecutor(AT_ONCE) as lives:
        for events in lives.map(
            lambda number: one_life(number, config, expected, moments, tmp_path, begin), range(LIVES)
        ):
            done, happened = done + 1, happened + events
            print(f"life {done}: {', '.join(events) or 'undisturbed'}", flush=True)
    each = ", ".join(f"{happened.count(event)} {event}" for event in ENDS if event != "nothing")
    print(f"{done} lives, seed {SEED}: {each}; every byte as in the undisturbed run")
