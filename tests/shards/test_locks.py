"""A lock is one process's; where a file system has none, that is said and nothing stands still."""

import errno

import pytest

from shards.files import atomic
from shards.files.atomic import locked


@pytest.fixture
def without_locks(monkeypatch):
    """`without_locks(number)`: flock fails with that errno, as on a file system that has none."""

    def make(number):
        def refuse(file, how):
            raise OSError(number, "flock says no")

        monkeypatch.setattr(atomic.fcntl, "flock", refuse)
        monkeypatch.setattr(atomic, "_warned", set())

    return make


def test_a_lock_is_held_by_one_until_its_end(tmp_path):
    file = tmp_path / "new" / "lock"
    with locked(file), pytest.raises(BlockingIOError), locked(file, wait=False):
        pass
    with locked(file, wait=False):
        pass


def test_the_file_of_a_lock_keeps_its_content(tmp_path):
    (tmp_path / "events.jsonl").write_text("a line\n")
    with locked(tmp_path / "events.jsonl"):
        pass
    assert (tmp_path / "events.jsonl").read_text() == "a line\n"


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS])
@pytest.mark.parametrize("wait", [True, False])
def test_a_file_system_without_locks_is_named_once_and_stops_nobody(tmp_path, capsys, without_locks, number, wait):
    without_locks(number)
    done = []
    for _ in range(3):
        with locked(tmp_path / "lock", wait):
            done.append(number)
    assert done == [number] * 3
    errors = capsys.readouterr().err
    assert errors.count("\n") == 1 and f"{tmp_path} is on a file system without locks" in errors


def test_another_error_is_one(tmp_path, without_locks):
    without_locks(errno.EIO)
    with pytest.raises(OSError, match="flock says no"), locked(tmp_path / "lock"):
        pass


def test_who_locks_goes_on_without_locks(tmp_path, capsys, without_locks):
    from launchers.slurm import launch_folder
    from pretrain.tracking import mlflow_store
    from pretrain.tracking.uploader import Address, Uploader

    without_locks(errno.ENOLCK)
    with launch_folder.locked(tmp_path / "run" / "launch"):
        pass
    with mlflow_store._alone(f"sqlite:///{tmp_path}/store/mlflow.db"):
        pass
    (tmp_path / "tracked").mkdir()
    address = Address("sqlite:///nowhere.db", "experiment", "name", "key")
    address.save(tmp_path / "tracked")
    with Uploader(tmp_path / "tracked", address, None)._alone():
        pass
    assert capsys.readouterr().err.count("without locks") == 3
