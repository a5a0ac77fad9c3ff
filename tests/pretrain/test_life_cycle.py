"""Whatever happens to a run, its end has the bytes of the undisturbed run, and so has every checkpoint of its step."""

import dataclasses
import itertools
import signal
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test
from lives import best_of, content
from toy_run import ToyEngine, bridle, kill, let_go, start

from pretrain.config.run import ScheduleConfig
from pretrain.runtime.interrupt import Interrupted
from pretrain.runtime.world import Agreed
from pretrain.training import checkpoint
from pretrain.training.checkpoint_writer import remove_drafts
from pretrain.training.run import ID_PROGRESS

SCHEDULE = ScheduleConfig(
    teaching_steps=3, warmup_steps=4, rounds=2, generator_steps=3, recommender_steps=7, validation_steps=2
)
MODES = ("skip", "rewind")


@pytest.fixture
def toy(monkeypatch, tokenizer, train_config):
    """`toy(name, **changes)`: the configuration of a toy run, for `toy_run.start`."""
    bridle(monkeypatch, tokenizer)

    def make(name, **changes):
        values = {"schedule": SCHEDULE, "hang_minutes": 0, "recommender_lr": 0.5, "generator_lr": 0.5} | changes
        out = values.pop("out", None)
        config = train_config(name, **values)
        return dataclasses.replace(config, out=out or config.out)

    return make


def undisturbed(config):
    """Contents by name of every step's checkpoint, of a run that nobody disturbs."""
    reins = start(dataclasses.replace(config, checkpoint_steps=1, keep_checkpoints=99))
    reins.go_to_the_end()
    assert isinstance(reins.ends[0], Path), reins.ends[0]
    return {folder.name: content(folder) for folder in checkpoint.checkpoints_of(Path(config.out))}


def machine(toy, expected, folder):
    """Lives of a toy run. expected: by mode, contents of the undisturbed run."""
    lives = itertools.count()

    class Lives(RuleBasedStateMachine):
        @initialize(
            mode=st.sampled_from(MODES), every=st.integers(1, 5), keep=st.integers(1, 3), background=st.booleans(),
            ranks=st.sampled_from((1, 2)),
        )  # fmt: skip
        def begin(self, mode, every, keep, background, ranks):
            self.expected, self.background, self.ranks, self.slow = expected[mode], background, ranks, None
            self.values = {
                "on_bad_step": mode, "spike_factor": 5.0, "checkpoint_steps": every, "keep_checkpoints": keep
            }  # fmt: skip
            self.out = folder / f"life-{next(lives)}"
            self.resume()

        def resume(self):
            config = toy("life", checkpoint_in_background=self.background, **self.values)
            self.reins = start(dataclasses.replace(config, out=str(self.out)), self.ranks)
            self.reins.slow = self.slow

        @rule(count=st.integers(1, 7))
        def steps(self, count):
            if self.reins.go(count):
                self.finished()
                self.out = folder / f"life-{next(lives)}"
                self.resume()

        def finished(self):
            self.reins.join()
            assert all(isinstance(end, Path) for end in self.reins.ends), self.reins.ends
            assert self.reins.ends[0].name == max(self.expected), "it ends where the undisturbed run ends"
            self.look()

        @rule(how=st.sampled_from(("to begin", "to end")))
        def slow_disk(self, how):
            self.reins.slow = self.slow = how

        @rule()
        def quick_disk(self):
            self.reins.slow = self.slow = None
            self.reins.disk.set()

        @rule(ranks=st.sampled_from((1, 2)), background=st.booleans())
        def signal(self, ranks, background):
            self.reins.heard = signal.SIGTERM
            self.reins.go_to_the_end()
            if not isinstance(self.reins.ends[0], Path):
                assert all(isinstance(end, Interrupted) for end in self.reins.ends), self.reins.ends
                message, newest = str(self.reins.ends[0]), checkpoint.newest(self.out)
                waves = len(list((self.out / ID_PROGRESS).glob("*")))
                assert f"{newest} is saved" in message or f"{waves} waves of the ID job are kept" in message, message
                self.all_saved()
            self.again(ranks, background)

        @rule(ranks=st.sampled_from((1, 2)), background=st.booleans())
        def kill(self, ranks, background):
            copy = folder / f"life-{next(lives)}"
            kill(self.reins, self.out, copy)
            self.out = copy
            remove_drafts(copy)
            self.again(ranks, background)

        @rule(ranks=st.sampled_from((1, 2)), background=st.booleans())
        def second_ctrl_c(self, ranks, background):
            self.reins.raise_(KeyboardInterrupt())  # it ends though the disk may be as slow as it likes
            assert isinstance(self.reins.ends[0], KeyboardInterrupt | Path)
            self.again(ranks, background)

        @rule(rank=st.integers(0, 1), ranks=st.sampled_from((1, 2)), background=st.booleans())
        def full_disk(self, rank, ranks, background):
            self.reins.full = rank % self.ranks
            self.reins.go_to_the_end()
            for end in self.reins.ends:
                assert isinstance(end, Path) or (isinstance(end, Agreed) and "cannot write" in str(end)), end
            self.again(ranks, background)

        @rule(ranks=st.sampled_from((1, 2)), background=st.booleans())
        def metrics_cannot_be_written(self, ranks, background):
            self.reins.tracker_fails = True
            self.reins.go_to_the_end()
            assert isinstance(self.reins.ends[0], OSError | Path)
            if self.ranks == 1:
                self.all_saved()
            self.again(ranks, background)

        def all_saved(self):
            begun, newest = self.reins.begun, checkpoint.newest(self.out)
            assert not begun or (newest is not None and newest.name == begun[-1]), "what was begun is finished"

        def again(self, ranks, background):
            self.reins.rest()
            self.look()
            self.ranks, self.background = ranks, background
            self.resume()

        def look(self):
            folders = checkpoint.checkpoints_of(self.out)
            for one in folders:
                assert content(one) == self.expected[one.name], one.name
            if folders:
                best = checkpoint.best(self.out)
                assert best is not None and best.name == best_of(self.expected, folders[-1].name)
            assert not list((self.out / "checkpoints").glob(".*")), "no draft is left"

        def teardown(self):
            if not hasattr(self, "reins"):
                return
            try:
                self.reins.go_to_the_end()
                self.finished()
            finally:
                let_go(self.reins)

    return Lives


@pytest.mark.slow
def test_any_life_ends_as_the_undisturbed_run(toy, monkeypatch, tmp_path):
    monkeypatch.setattr(ToyEngine, "spiking", (("recommender", 9), ("recommender", 16)))
    expected = {mode: undisturbed(toy(f"undisturbed-{mode}", on_bad_step=mode, spike_factor=5.0)) for mode in MODES}
    assert expected["skip"] != expected["rewind"], "a spike is met"
    few = settings(max_examples=15, stateful_step_count=12, derandomize=True, deadline=None)
    run_state_machine_as_test(machine(toy, expected, tmp_path), settings=few)


def test_a_slow_disk_gets_what_was_saved(toy, tmp_path):
    """It writes as late as it can; the other model is the next phase's to train."""
    options = {"checkpoint_in_background": True, "checkpoint_steps": 3, "keep_checkpoints": 99}
    expected = undisturbed(toy("quick"))
    reins = start(toy("slow", out=str(tmp_path), **options))
    reins.slow = "to begin"
    reins.go_to_the_end()
    folders = checkpoint.checkpoints_of(tmp_path)
    assert isinstance(reins.ends[0], Path) and len(folders) > 10
    for folder in folders:
        assert content(folder) == expected[folder.name], folder.name


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_save_is_finished_when_the_next_phase_is_stopped_in_its_id_job(toy, tmp_path, ranks):
    out = tmp_path / "run"
    reins = start(toy(f"ids-{ranks}", out=str(out), checkpoint_in_background=True, checkpoint_steps=99), ranks)
    reins.slow = "to begin"
    reins.go(3)  # the phase before; it waits in the first wave
    reins.heard = signal.SIGTERM
    reins.go_to_the_end()
    assert [type(end) for end in reins.ends] == [Interrupted] * ranks
    assert "1 waves of the ID job are kept" in str(reins.ends[0])
    assert [folder.name for folder in checkpoint.checkpoints_of(out)] == reins.begun == ["step-0000003"]
    assert len(list((out / ID_PROGRESS).iterdir())) == 1, "the wave is kept"


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_save_is_finished_when_a_bad_step_stops_the_run(toy, monkeypatch, tmp_path, ranks):
    monkeypatch.setattr(ToyEngine, "spiking", (("recommender", 9),))
    out = tmp_path / "run"
    options = {"checkpoint_in_background": True, "checkpoint_steps": 1, "on_bad_step": "stop", "spike_factor": 5.0}
    reins = start(toy(f"stop-{ranks}", out=str(out), **options), ranks)
    reins.slow = "to end"
    reins.go_to_the_end()
    assert "the run has stopped before that step" in str(reins.ends[0])
    assert all(isinstance(end, Agreed) for end in reins.ends), "one rank says it"
    newest = checkpoint.newest(out)
    assert newest is not None and newest.name == reins.begun[-1] == "step-0000015"


def skipped(reins):
    return [line for line in reins.lines if "given no weight" in line]


def test_a_phase_is_judged_by_its_own_losses(toy, monkeypatch, tmp_path):
    """Each kind's losses are far above those of the phase before."""
    levels = {"teaching": 1.0, "recommender": 20.0, "generator": 400.0}
    monkeypatch.setattr(ToyEngine, "level", staticmethod(lambda kind, slot: levels[kind]))
    reins = start(toy("levels", out=str(tmp_path), on_bad_step="skip", spike_factor=5.0))
    reins.go_to_the_end()
    assert isinstance(reins.ends[0], Path) and not skipped(reins)


def test_losses_of_skipped_steps_move_the_median(toy, monkeypatch, tmp_path):
    """Losses that stay high are the phase's from then on: two steps of a window of two are skipped, and no more."""
    schedule = dataclasses.replace(SCHEDULE, teaching_steps=12)
    higher = staticmethod(lambda kind, slot: 20.0 if kind == "teaching" and slot > 5 else 1.0)
    monkeypatch.setattr(ToyEngine, "level", higher)
    reins = start(toy("moves", out=str(tmp_path), schedule=schedule, on_bad_step="skip", spike_factor=5.0))
    reins.go_to_the_end()
    assert isinstance(reins.ends[0], Path) and 1 <= len(skipped(reins)) <= 2


def test_a_loss_that_is_no_number_is_in_no_median(toy, monkeypatch, tmp_path):
    monkeypatch.setattr(ToyEngine, "level", staticmethod(lambda kind, slot: float("nan") if slot == 1 else 1.0))
    reins = start(toy("nan", out=str(tmp_path), on_bad_step="skip", spike_factor=5.0))
    reins.go_to_the_end()
    assert isinstance(reins.ends[0], Path) and len(skipped(reins)) == 3
    for folder in checkpoint.checkpoints_of(tmp_path):
        assert "NaN" not in (folder / checkpoint.STATE).read_text()
