"""Checkpoints: only a whole and unchanged folder is used; a write that fails leaves none."""

import errno
import json

import pytest
import torch

from pretrain.runtime.world import Agreed, World
from pretrain.training import checkpoint
from pretrain.training.checkpoint_writer import CheckpointWriter

ALONE = World(0, 1, torch.device("cpu"))


@pytest.fixture
def save(tmp_path):
    """`save(step, score)`: a small checkpoint of the run in tmp_path. `more`: of the schedule's state."""

    def save(step, score=None, keep=9, fail=False, top=None, **more):
        def write(folder):
            (folder / "engines" / "recommender").mkdir(parents=True)
            (folder / "engines" / "recommender" / "rank0.safetensors").write_bytes(bytes(range(256)) + bytes([step]))
            (folder / "recommender").mkdir()
            (folder / "recommender" / "weights").write_bytes(b"w" * 100 + bytes([step]))
            if fail:
                raise OSError(errno.ENOSPC, "No space left on device")
            validation = None if score is None else {"NDCG@10": score}
            state = {"version": 3, "state": {"phase": step // 10, "step": step % 10} | more, "validation": validation}
            state |= top or {}
            (folder / "state.json").write_text(json.dumps(state))

        saver = CheckpointWriter(tmp_path, ALONE, keep)
        saver.begin(step, write)
        return saver.finish()

    return save


def test_what_was_saved_is_there(save, tmp_path):
    folder = save(7)
    assert folder == tmp_path / "checkpoints" / "step-0000007"
    assert checkpoint.verify(folder) == {"version": 3, "state": {"phase": 0, "step": 7}, "validation": None}
    files = json.loads((folder / "files.json").read_text())
    assert set(files) == {"engines/recommender/rank0.safetensors", "recommender/weights", "state.json"}
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-0000007"], "no draft is left"


def test_without_the_marker_it_is_refused_and_not_found(save, tmp_path):
    save(1)
    folder = save(2)
    (folder / "COMPLETE").unlink()
    with pytest.raises(ValueError, match="not a complete checkpoint"):
        checkpoint.verify(folder)
    assert checkpoint.newest(tmp_path) == tmp_path / "checkpoints" / "step-0000001"
    assert checkpoint.best(tmp_path) == tmp_path / "checkpoints" / "step-0000001"
    with pytest.raises(ValueError, match="not a complete checkpoint"):
        checkpoint.verify(checkpoint.resolve(folder))


@pytest.mark.parametrize("name", ["engines/recommender/rank0.safetensors", "recommender/weights", "state.json"])
def test_damage_is_named(save, name):
    folder = save(3)
    data = (folder / name).read_bytes()
    middle = len(data) // 2
    (folder / name).write_bytes(data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :])
    with pytest.raises(ValueError, match=f"{name} is damaged"):
        checkpoint.verify(folder)
    (folder / name).unlink()
    with pytest.raises(ValueError, match=f"{name} is missing"):
        checkpoint.verify(folder)


def test_a_changed_list_of_files_is_refused(save):
    folder = save(4)
    files = json.loads((folder / "files.json").read_text())
    del files["recommender/weights"]
    (folder / "files.json").write_text(json.dumps(files))
    with pytest.raises(ValueError, match="files.json does not have the hash in COMPLETE"):
        checkpoint.verify(folder)


@pytest.mark.parametrize("more", [{}, {"as_good": None}], ids=["before", "resumed since"])
def test_newest_best_and_how_many_are_kept(save, tmp_path, more):
    """Of a run that does not know what is as good as its best."""
    for step, score in ((1, 0.1), (2, 0.5), (3, None), (12, 0.2)):
        save(step, score, keep=9, **more)
    names = [folder.name for folder in checkpoint.checkpoints_of(tmp_path)]
    assert names == [f"step-{step:07d}" for step in (1, 2, 3, 12)]
    assert checkpoint.newest(tmp_path).name == "step-0000012"  # type: ignore[union-attr]
    assert checkpoint.resolve(tmp_path) == checkpoint.best(tmp_path) == tmp_path / "checkpoints" / "step-0000002"
    save(20, 0.3, keep=2, **more)
    left = [int(folder.name[5:]) for folder in checkpoint.checkpoints_of(tmp_path)]
    assert left == [2, 12, 20], "the two newest and the best"
    assert [path.name for path in sorted((tmp_path / "checkpoints").iterdir())] == [f"step-{n:07d}" for n in left]


def test_of_those_as_good_as_the_best_the_newest_is_taken(save, tmp_path):
    taken = []
    for step, score, as_good in (
        (1, 0.5, 0.4),
        (2, 0.45, 0.4),
        (3, 0.38, 0.4),
        (4, None, 0.4),
        (5, 0.7, 0.6),
        (6, 0.1, 0.6),
    ):
        save(step, score, keep=1, as_good=as_good)
        taken.append(int(checkpoint.best(tmp_path).name[5:]))  # type: ignore[union-attr]
    assert taken == [1, 2, 2, 2, 5, 5], "0.38 is as good as 0.45, but not as the 0.5 that has made way"
    assert [int(folder.name[5:]) for folder in checkpoint.checkpoints_of(tmp_path)] == [5, 6]


def test_scores_that_older_versions_passed_on_make_no_best(save, tmp_path):
    """Of version 2: what was not validated had the score of the validation before."""
    config = {"config": {"schedule": {"validation_steps": 4}}}
    for step, score in ((10, 0.5), (13, 0.5), (14, 0.5), (20, 0.2), (23, 0.2), (24, 0.3)):
        save(step, score, top={"version": 2, **config}, as_good=0.45)
    assert checkpoint.best(tmp_path) == tmp_path / "checkpoints" / "step-0000010"
    scores = [state["validation"] is not None for _, state in checkpoint.sound(tmp_path)]
    assert scores == [True, False, True, True, False, True], "in the middle of a phase, where none is due, nobody knows"
    for step in (31, 32, 33):
        save(step, 0.3, keep=1, top={"version": 2, **config}, as_good=0.45)
    assert [int(folder.name[5:]) for folder in checkpoint.checkpoints_of(tmp_path)] == [10, 20, 33], "and it stays"


def test_equal_scores_of_two_validations_are_two(save, tmp_path):
    save(10, 0.5, as_good=0.45)
    save(20, 0.5, as_good=0.45)
    assert checkpoint.best(tmp_path) == tmp_path / "checkpoints" / "step-0000020"


def test_the_start_of_a_phase_is_kept_while_the_phase_lasts(save, tmp_path):
    for step in (8, 10, 11, 12, 13):
        save(step, keep=1)
    left = [int(folder.name[5:]) for folder in checkpoint.checkpoints_of(tmp_path)]
    assert left == [10, 13] and checkpoint.phase_start(tmp_path, 1) == tmp_path / "checkpoints" / "step-0000010"
    assert checkpoint.phase_start(tmp_path, 2) is None
    for step in (20, 21):
        save(step, keep=1)
    assert [int(folder.name[5:]) for folder in checkpoint.checkpoints_of(tmp_path)] == [20, 21]


def test_an_old_checkpoint_with_a_damaged_state_stops_nothing(save, tmp_path):
    """It is not the best and no phase's start, and it goes when its time has come."""
    save(1, 0.9)
    save(2, 0.5)
    (tmp_path / "checkpoints" / "step-0000001" / "state.json").write_text("{")
    assert checkpoint.best(tmp_path) == tmp_path / "checkpoints" / "step-0000002"
    assert [folder.name for folder, _ in checkpoint.sound(tmp_path)] == ["step-0000002"]
    save(3, 0.1, keep=1)
    assert [int(folder.name[5:]) for folder in checkpoint.checkpoints_of(tmp_path)] == [2, 3]


def test_without_validation_the_newest_is_the_best(save, tmp_path):
    save(1)
    save(2)
    assert checkpoint.best(tmp_path) == checkpoint.newest(tmp_path)


def test_a_write_that_fails_leaves_no_complete_folder(save, tmp_path):
    save(1)
    with pytest.raises(Agreed, match=r"cannot write checkpoint .*step-0000002 .*No space left on device.*make room"):
        save(2, fail=True)
    assert [folder.name for folder in checkpoint.checkpoints_of(tmp_path)] == ["step-0000001"]
    assert not list(tmp_path.rglob("step-0000002/COMPLETE"))
    checkpoint.verify(save(2))
    assert [folder.name for folder in checkpoint.checkpoints_of(tmp_path)] == ["step-0000001", "step-0000002"]
    assert len(list((tmp_path / "checkpoints").iterdir())) == 2, "the failed draft is gone"


def full_at_the_end(world, folder):
    """Rank 0 can write its files, but not the list of them."""
    import errno
    from pathlib import Path

    import pretrain.training.checkpoint_writer
    from pretrain.runtime.world import Agreed

    def full(path, content):
        raise OSError(errno.ENOSPC, "No space left on device")

    pretrain.training.checkpoint_writer.write_whole = full  # type: ignore[assignment]
    saver = pretrain.training.checkpoint_writer.CheckpointWriter(Path(folder), world, 1)
    saver.begin(5, lambda own: (own / f"rank{world.rank}").touch())
    try:
        saver.finish()
    except Agreed as error:
        return str(error)


def test_a_disk_that_is_full_at_the_last_file(run_ranks, tmp_path):
    one, other = run_ranks(full_at_the_end, 2, str(tmp_path))
    assert one == other and "rank 0: No space left on device" in one
    assert not list((tmp_path / "checkpoints").iterdir()), "the draft has made room again"


def test_what_is_no_checkpoint(tmp_path):
    assert checkpoint.newest(tmp_path) is None and checkpoint.best(tmp_path) is None
    with pytest.raises(ValueError, match="neither a checkpoint nor a run folder"):
        checkpoint.resolve(tmp_path)


def save_on_two_ranks(world, folder):
    from pathlib import Path

    from pretrain.training import checkpoint

    def write(own):
        (own / f"rank{world.rank}").write_text("x")
        if world.is_main:
            (own / "state.json").write_text('{"version": 3, "state": {"phase": 0, "step": 5}, "validation": null}')

    saver = CheckpointWriter(Path(folder), world, 1)
    saver.begin(5, write)
    final = saver.finish()
    assert final is not None and saver.finish() is None
    return sorted(path.name for path in final.iterdir()), checkpoint.verify(final)


def test_all_ranks_write_into_one_checkpoint(run_ranks, tmp_path):
    names = ["COMPLETE", "files.json", "rank0", "rank1", "state.json"]
    assert (
        run_ranks(save_on_two_ranks, 2, str(tmp_path))
        == [(names, {"version": 3, "state": {"phase": 0, "step": 5}, "validation": None})] * 2
    )
