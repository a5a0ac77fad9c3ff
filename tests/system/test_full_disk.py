"""A disk that fills up while a run saves: one line, no checkpoint lost, and with room again the run goes on."""

import dataclasses
import json
import subprocess
from pathlib import Path

import pytest

from launchers.jobs.local import RankFailed, launch
from pretrain.training import checkpoint


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 8 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)], check=True)
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def models_of(run: Path) -> list[str]:
    folder = checkpoint.newest(run)
    assert folder is not None and checkpoint.verify(folder)["finished"]
    files = json.loads((folder / checkpoint.FILES).read_text())
    return [files[f"{name}/model.safetensors"] for name in ("recommender", "generator")]


def test_a_full_disk_loses_nothing(small_disk, tmp_path, train_config, capfd):
    config = train_config("roomy", keep_checkpoints=99, checkpoint_steps=1)
    launch("pretrain", dataclasses.asdict(config), 2)
    sizes = [
        sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        for folder in checkpoint.checkpoints_of(Path(config.out))
    ]
    full = dataclasses.replace(config, out=str(small_disk / "run"))
    ballast = small_disk / "ballast"
    # Room for what is written before the first checkpoint (two untrained models) and about four checkpoints.
    ballast.write_bytes(bytes(8 * 2**20 - 6 * max(sizes)))
    capfd.readouterr()
    with pytest.raises(RankFailed) as failed:
        launch("pretrain", dataclasses.asdict(full), 2)
    said = capfd.readouterr().err
    assert failed.value.status == 2
    assert "cannot write checkpoint" in said and "No space left on device" in said and "make room" in said
    assert "Traceback" not in said and len([line for line in said.splitlines() if line.startswith("error:")]) == 1
    kept = checkpoint.checkpoints_of(small_disk / "run")
    assert 1 <= len(kept) < len(sizes)
    for folder in kept:
        checkpoint.verify(folder)
    assert not list((small_disk / "run" / "checkpoints").glob(".step-*")), "the draft has made room again"
    ballast.unlink()
    launch("pretrain", dataclasses.asdict(dataclasses.replace(full, keep_checkpoints=2)), 2)
    assert models_of(small_disk / "run") == models_of(Path(config.out))
