"""`idgenrec interpolate`: a checkpoint whose recommender lies between its start and its end.

Enters: a run or checkpoint and a share. Leaves: a checkpoint beside it, and its path on standard output.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from shards.bounds import Share, check


@dataclass(frozen=True)
class Interpolate:
    """Keep a share of what training changed in the recommender: what transfers often lies between start and end.

    In: a run that kept its models from before training, or one of its checkpoints.

    Out: CHECKPOINTS/interpolated-SHARE, which zeroshot, recommend and export take as --checkpoint. Training does not go
    on from it.

    Example: idgenrec interpolate --checkpoint runs/first --share 0.7
    """

    checkpoint: str
    """A checkpoint in its run folder, or the run folder (then its best checkpoint by validation)."""
    share: Share
    """Between 0 (as before training) and 1 (as trained); to be chosen on a held-out category."""

    def __post_init__(self) -> None:
        check(self)

    def run(self) -> None:
        from transformers.utils.logging import disable_progress_bar

        from launchers.line.console import Console
        from pretrain.export.interpolation import interpolate

        disable_progress_bar()
        made = interpolate(Path(self.checkpoint), self.share)
        Console().result(str(made), checkpoint=str(made))
