"""What a training run tells its tracker: where it runs, its parameters, the data it reads, the models it makes.

Enters: a run. Leaves: lines in its folder, and its MLflow run. Must hold: rank 0 only; a run that goes on adds to the
same MLflow run, which its folder and its checkpoints name.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

from pretrain.config.tracking_uri import default_uri
from pretrain.tracking.tracker import Tracker
from pretrain.training import checkpoint

if TYPE_CHECKING:
    from pretrain.training.run import Run


def open_tracker(run: Run) -> Tracker | None:
    """The tracker of a run that begins or goes on; None on all ranks but the first."""
    if not run.world.is_main:
        return None
    config = run.config
    uri = config.tracking_uri or default_uri(run.folder.parent)
    tracker = Tracker(run.folder, uri, config.experiment, run.folder.name, run.run_id, run.reporter)
    changed = {"changed": "; ".join(run.changed)} if run.changed else {}
    tracker.open({"world_size": run.world.size, "zero_stage": config.engine.zero_stage, **changed})
    tracker.parameters(run.identity | {"shards": config.shards})
    for member in run.manifest.members:
        counts = {"users": member.num_users, "items": member.num_items, "interactions": member.num_interactions}
        tracker.dataset(member.name, member.digest, f"{config.shards}/{member.name}", member.role, counts)
    run.tracker = tracker
    return tracker


def record_models(run: Run, tracker: Tracker) -> None:
    """Both models of the best checkpoint."""
    folder = checkpoint.best(run.folder)
    assert folder is not None
    hashes = json.loads((folder / checkpoint.FILES).read_text())
    for name in run.models:
        weights = {file: sha256 for file, sha256 in hashes.items() if file.startswith(f"{name}/")}
        digest = hashlib.sha256(json.dumps(weights, sort_keys=True).encode()).hexdigest()
        tracker.model(f"{run.folder.name}-{name}", folder / name, digest, run.identity[name])
