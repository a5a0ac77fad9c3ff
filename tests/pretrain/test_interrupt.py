"""A job that is asked to stop saves between two steps, on all ranks, and ends as if it had not been asked."""

import json
import os
import signal
from pathlib import Path

import pytest

from pretrain.training import checkpoint


def train_until_asked(world, config, rank, waited_for, after, number):
    """Train; `rank` gets the signal once it has said `after` times that it does `waited_for`. Result, and its words."""
    from pretrain.runtime.interrupt import Interrupted
    from pretrain.training.train import train

    seen = 0

    class Listener:
        def line(self, text):
            pass

        def progress(self, what, done, total, unit, note=""):
            nonlocal seen
            seen += what == waited_for
            if what == waited_for and seen == after and world.rank == rank:
                os.kill(os.getpid(), number)

    before = signal.getsignal(number)
    try:
        return "done", str(train(config, world, Listener()))
    except Interrupted as interrupted:
        assert signal.getsignal(number) == before, "the handlers are those of before"
        return interrupted.signal, str(interrupted)


def hashes(folder):
    files = json.loads((Path(folder) / checkpoint.FILES).read_text())
    return {name: digest for name, digest in files.items() if name != "state.json"}


@pytest.fixture(scope="module")
def never_asked(train_config, run_ranks):
    """The last checkpoint of the run on two ranks."""
    [(_, end), _] = run_ranks(train_until_asked, 2, train_config("never-asked"), 0, "nothing", 1, signal.SIGTERM)
    return end


@pytest.mark.parametrize(
    ("rank", "what", "after", "number"),
    [
        (1, "teach generator", 3, signal.SIGTERM),
        (0, "round 1 generator", 1, signal.SIGUSR2),
        (1, "IDs", 1, signal.SIGTERM),
    ],
)
def test_asked_on_one_rank_all_save_and_stop(never_asked, train_config, run_ranks, rank, what, after, number):
    """One signal, once, in a phase or between waves of the ID job; taken up, the end has the same bytes."""
    config = train_config(f"asked-{rank}-{number.name}-{what[:3]}", checkpoint_steps=1000)
    found = run_ranks(train_until_asked, 2, config, rank, what, after, number)
    assert [result for result, _ in found] == [number, number]
    assert all(f"stopped by {number.name}" in said for _, said in found)
    last = checkpoint.newest(Path(config.out))
    assert last is not None
    if what != "IDs":
        assert str(last) in found[0][1], "the step that was under way is saved"
    results = run_ranks(train_until_asked, 2, config, 0, "nothing", 1, number)
    assert [result for result, _ in results] == ["done", "done"]
    assert hashes(results[0][1]) == hashes(never_asked)


def hear(world, numbers):
    from pretrain.runtime.interrupt import Interrupt

    with Interrupt(world) as interrupt:
        heard = [interrupt.agreed()]
        try:
            for number in numbers:
                os.kill(os.getpid(), number)
                heard.append(interrupt.agreed())
        except KeyboardInterrupt:
            return [*heard, "ended"]
    return heard


def test_a_second_ctrl_c_ends_at_once(run_ranks):
    assert run_ranks(hear, 1, [signal.SIGINT, signal.SIGINT]) == [[0, signal.SIGINT, "ended"]]


@pytest.mark.parametrize("others", [[signal.SIGTERM], [signal.SIGTERM, signal.SIGTERM], [signal.SIGUSR2]])
def test_what_a_launcher_sends_meanwhile_makes_no_rank_deaf(run_ranks, others):
    """Ctrl-C reaches the ranks and their launcher, which asks them to end by a signal of its own."""
    numbers = [signal.SIGINT, *others, signal.SIGINT]
    assert run_ranks(hear, 1, numbers) == [[0, signal.SIGINT, *others, "ended"]]
    assert run_ranks(hear, 1, [*others, signal.SIGINT])[0][-1] == signal.SIGINT, "it is the first Ctrl-C"
