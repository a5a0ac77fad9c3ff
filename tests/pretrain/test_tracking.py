"""What is tracked arrives once, in order, whatever happens to the tracker or to us."""

import json
import threading

import pytest
from patience import rest, until

from pretrain.runtime.progress import SILENT
from pretrain.tracking import tracker as tracker_module
from pretrain.tracking import uploader
from pretrain.tracking.tracker import Tracker, read_lines
from pretrain.tracking.uploader import Address


class FakeStore:
    """Keeps what arrives; fails as often as `failing` says, before it has taken a call or (`late`) after."""

    points_of: dict = {}
    events: list = []
    failing = 0
    late = False
    made = 0

    def __init__(self, uri, experiment, name, key, run_id, artifacts, started_ms):
        self._ask()
        assert (experiment, name) == ("experiment", "name")
        cls = type(self)
        if run_id is None:
            cls.made += 1
        self.run_id = run_id or f"run-of-{key}"

    def _ask(self):
        if type(self).failing:
            type(self).failing -= 1
            raise ConnectionError("nobody is there")

    def points(self, points):
        if not self.late:
            self._ask()
        for key, value, when, step in points:  # MLflow keeps a point of the same value, time and step once
            self.points_of.setdefault(key, set()).add((step, value, when))
        if self.late:
            self._ask()

    def event(self, event):
        if not self.late:
            self._ask()
        self.events.append(event)
        if self.late:
            self._ask()


@pytest.fixture
def store(monkeypatch):
    class Fresh(FakeStore):
        points_of, events = {}, []

    monkeypatch.setattr(uploader, "Store", Fresh)
    monkeypatch.setattr(uploader, "unreachable", lambda: (ConnectionError,))
    monkeypatch.setattr(uploader, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(uploader, "LONGEST_PAUSE", 0.02)
    return Fresh


def track(folder, steps, values=None, run_id=None):
    with Tracker(folder, "fake://", "experiment", "name", run_id, SILENT) as tracker:
        tracker.open({"world_size": 2})
        tracker.parameters({"a": {"b": 1}})
        for step in steps:
            tracker.metrics({"train/loss": (values or {}).get(step, float(step))}, step, group="train")


def given_up():
    """The thread of a tracker that has not waited for the end of its delivery has ended."""
    until(lambda: not any(thread.name == "tracking" for thread in threading.enumerate()))


def steps_of(store):
    return sorted(step for step, _, _ in store.points_of["train/loss"])


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("failing", [0, 1, 7])
def test_each_point_arrives_once_in_spite_of_failures(store, tmp_path, failing, late):
    store.failing, store.late = failing, late
    track(tmp_path, range(40))
    assert steps_of(store) == list(range(40))
    names = [event["event"] for event in store.events]
    assert names[-1] == "closed" and store.events[-1]["status"] == "FINISHED"
    assert [name for index, name in enumerate(names) if names.index(name) == index] == [
        "opened",
        "parameters",
        "closed",
    ]
    assert Address.load(tmp_path).run_id == f"run-of-{Address.load(tmp_path).key}"


def test_a_tracker_that_stays_away_keeps_the_lines_and_sync_delivers_them(store, tmp_path, monkeypatch, capsys):
    said = []

    class Listener:
        def line(self, text):
            said.append(text)

        def progress(self, what, done, total, unit, note=""):
            raise AssertionError

    monkeypatch.setattr(tracker_module, "PATIENCE", 0.2)
    store.failing = 10**9
    with Tracker(tmp_path, "fake://", "experiment", "name", None, Listener()) as tracker:
        tracker.open({})
        for step in range(5):
            tracker.metrics({"train/loss": step}, step, group="train")
        until(lambda: tracker._uploads.problem)
    given_up()
    assert len(said) == 1 and said[0].startswith("7 lines are not in MLflow yet (ConnectionError: nobody is there)")
    assert f"idgenrec track sync {tmp_path}" in said[0] and not store.points_of
    store.failing = 0
    address = Address.load(tmp_path)
    uploader.Uploader(tmp_path, address, None).send()
    assert steps_of(store) == list(range(5)) and store.events[-1]["event"] == "closed"
    again = uploader.Uploader(tmp_path, Address.load(tmp_path), None)
    assert again.waiting == 0
    again.send()
    assert steps_of(store) == list(range(5)) and store.made == 1


def test_two_couriers_of_a_folder_send_one_after_the_other(store, tmp_path, monkeypatch):
    """As `track sync` beside a job that has given up waiting and is in the middle of a request."""
    monkeypatch.setattr(tracker_module, "PATIENCE", 0.1)
    store.failing = 10**9
    track(tmp_path, range(5))
    given_up()
    store.failing = 0
    asked, answer, plain = threading.Event(), threading.Event(), store.points

    def slow(self, points):
        asked.set()
        answer.wait()
        plain(self, points)

    monkeypatch.setattr(store, "points", slow)
    first, second = (uploader.Uploader(tmp_path, Address.load(tmp_path), None) for _ in range(2))
    threads = [threading.Thread(target=uploader.send) for uploader in (first, second)]
    threads[0].start()
    until(asked.is_set)
    threads[1].start()
    rest(0.2)
    assert threads[1].is_alive() and not store.points_of, "it waits"
    answer.set()
    for thread in threads:
        thread.join()
    assert steps_of(store) == list(range(5)) and first.waiting == second.waiting == 0
    assert [event["event"] for event in store.events] == ["opened", "parameters", "closed"], "none of them twice"
    assert Address.load(tmp_path) == second.address and store.made == 1


def test_a_resumed_job_adds_to_the_same_run_and_repeats_no_point(store, tmp_path):
    track(tmp_path, range(10))
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"time": 1.0, "step": 10, "gro')  # as a kill leaves it
    track(tmp_path, range(7, 15), {8: 80.0})
    assert steps_of(store) == list(range(15)) and store.made == 1
    lines = read_lines(tmp_path / "metrics.jsonl")
    assert [line["step"] for line in lines if line.get("again")] == [7, 8, 9], "what was done again is written down"
    opened = [event for event in store.events if event["event"] == "opened"]
    assert [event["tags"]["idgenrec.restarts"] for event in opened] == ["0", "1"]
    assert sum(event["event"] == "parameters" for event in store.events) == 1


def test_steps_done_with_other_samples_are_new_points(store, tmp_path):
    with Tracker(tmp_path, "fake://", "experiment", "name", None, SILENT) as tracker:
        tracker.open({})
    with Tracker(tmp_path, "fake://", "experiment", "name", None, SILENT) as tracker:
        tracker.metrics({"train/loss": 1.0}, 3, group="train")
        tracker.rewound()
        tracker.metrics({"train/loss": 2.0}, 3, group="train")
    assert sorted(value for _, value, _ in store.points_of["train/loss"]) == [1.0, 2.0]


def test_how_a_job_ended_is_said(store, tmp_path):
    for error, status in ((KeyboardInterrupt, "KILLED"), (RuntimeError, "FAILED")):
        tracker = Tracker(tmp_path / status, "fake://", "experiment", "name", None, SILENT)
        tracker.__exit__(error, error(), None)
        assert store.events[-1]["status"] == status


def test_no_password_is_written(store, tmp_path):
    with Tracker(tmp_path, "https://me:hunter2@host/", "experiment", "name", None, SILENT) as tracker:
        tracker.open({})
        tracker.parameters({"tracking_uri": "https://me:hunter2@host/"})
        tracker.dataset("Games", "0" * 64, "https://me:hunter2@host/shards", "training", {})
    for path in tmp_path.iterdir():
        assert "hunter2" not in path.read_text(), path
    assert json.loads((tmp_path / "tracking.json").read_text())["uri"] == "https://***@host/"


def test_a_fault_of_ours_is_not_taken_for_a_tracker_that_is_down(store, tmp_path, monkeypatch):
    monkeypatch.setattr(store, "points", lambda self, points: [][0])
    with pytest.raises(IndexError):
        track(tmp_path, range(3))


def test_a_kill_between_two_lines_of_a_step_loses_the_second_one_not(store, tmp_path):
    """The last step of a phase is logged, then how far the weights have moved, at the same step."""
    track(tmp_path, range(3))
    with Tracker(tmp_path, "fake://", "experiment", "name", None, SILENT) as tracker:
        tracker.metrics({"train/loss": 2.0}, 2, group="train")
        tracker.metrics({"train/share_of_weights_moved": 0.5}, 2, group="train")
    assert steps_of(store) == [0, 1, 2]
    assert [value for _, value, _ in store.points_of["train/share_of_weights_moved"]] == [0.5]


def test_an_error_without_words_is_no_fault(store, tmp_path, monkeypatch):
    asked = []

    def points(self, points):
        asked.append(points)
        if len(asked) < 3:
            raise ConnectionError
        FakeStore.points(self, points)

    monkeypatch.setattr(store, "points", points)
    track(tmp_path, range(3))
    assert steps_of(store) == [0, 1, 2]


def test_one_refused_point_holds_up_no_other(store, tmp_path, monkeypatch):
    from pretrain.tracking.mlflow_store import Refused

    def points(self, points):
        if any(step == 5 for _, _, _, step in points):
            raise Refused("no fives")
        FakeStore.points(self, points)

    monkeypatch.setattr(store, "points", points)
    track(tmp_path, range(40))
    assert steps_of(store) == [step for step in range(40) if step != 5]
    (kept,) = read_lines(tmp_path / "refused.jsonl")
    assert kept["why"] == "no fives" and kept["line"][:2] == ["train/loss", 5.0]
    assert store.events[-1]["event"] == "closed"


def test_a_damaged_line_is_named(tmp_path):
    file = tmp_path / "metrics.jsonl"
    file.write_bytes(b'{"step": 1}\n{"step": \xff\x00}\n{"step": 3}\n{"ste')
    with pytest.raises(ValueError, match=r"metrics.jsonl has a damaged line, '\{\"step\": .*write it anew"):
        read_lines(file)
    assert [line["step"] for line in [*read_lines(tmp_path / "none")]] == []
