"""What a training run tells its tracker: where it runs, its parameters, the data it reads, the models it makes.

Enters: facts of a run. Leaves: lines in its folder, and its MLflow run. Must hold: rank 0 only; a run that goes on adds
to the same MLflow run, which its folder and its checkpoints name.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from pretrain.config.run import PretrainConfig
from pretrain.config.tracking_uri import default_uri
from pretrain.runtime.progress import Reporter
from pretrain.runtime.world import World
from pretrain.tracking.tracker import Tracker
from pretrain.training import checkpoint
from pretrain.training.run_identity import identity
from shards.manifest import Manifest


def open_tracker(
    config: PretrainConfig, manifest: Manifest, world: World, reporter: Reporter, run_id: str | None,
    changed: Sequence[str],
) -> Tracker | None:  # fmt: skip
    """The tracker of a run that begins or goes on; None on all ranks but the first. `run_id`: MLflow's name of the run,
    where a checkpoint knows it. `changed`: the values that are no longer those of the checkpoint."""
    if not world.is_main:
        return None
    folder = Path(config.out)
    uri = config.tracking_uri or default_uri(folder.parent)
    tracker = Tracker(folder, uri, config.experiment, folder.name, run_id, reporter)
    tags = {"changed": "; ".join(changed)} if changed else {}
    tracker.open({"world_size": world.size, "zero_stage": config.engine.zero_stage, **tags})
    tracker.parameters(identity(config) | {"shards": config.shards})
    for member in manifest.members:
        counts = {"users": member.num_users, "items": member.num_items, "interactions": member.num_interactions}
        tracker.dataset(member.name, member.digest, f"{config.shards}/{member.name}", member.role, counts)
    return tracker


def record_models(config: PretrainConfig, tracker: Tracker) -> None:
    """Both models of the best checkpoint."""
    run = Path(config.out)
    folder = checkpoint.best(run)
    assert folder is not None
    hashes = json.loads((folder / checkpoint.FILES).read_text())
    for name in ("recommender", "generator"):
        weights = {file: sha256 for file, sha256 in hashes.items() if file.startswith(f"{name}/")}
        digest = hashlib.sha256(json.dumps(weights, sort_keys=True).encode()).hexdigest()
        tracker.model(f"{run.name}-{name}", folder / name, digest, identity(config)[name])
