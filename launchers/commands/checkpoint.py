"""`idgenrec export` and `idgenrec interpolate`: what is made of a checkpoint.

Enters: a checkpoint or run folder. Leaves: Hugging Face folders that anyone's transformers loads, or a checkpoint whose
recommender lies between its start and its end.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from shards.bounds import Share, check


@dataclass(frozen=True)
class Export:
    """Write both models of a checkpoint as Hugging Face folders, with its ID book and model cards.

    In: a checkpoint or a run.

    Out: a new folder with recommender/ and generator/, which transformers loads, book.arrow and README.md.

    Example: idgenrec export --checkpoint runs/first --out first --shards shards
    """

    checkpoint: str
    """A checkpoint, or a run folder (then its best checkpoint by validation). Its hashes are checked first."""
    out: str
    """Folder to write: recommender, generator, book.arrow, README.md. Must not exist, or be empty."""
    shards: str | None = None
    """The run's shard folder, so that the model cards can say what was trained on, and under which terms."""
    precision: Literal["float32", "bf16"] = "float32"
    """Of the weights: float32 is the checkpoint's to the bit, bf16 is half as large and rounded."""

    def run(self) -> None:
        from transformers.utils.logging import disable_progress_bar

        from launchers.line.console import Console
        from pretrain.export.hugging_face import export

        disable_progress_bar()
        console = Console()
        source = export(Path(self.checkpoint), Path(self.out), self.precision, self.shards, console)
        console.result(f"{source} -> {self.out}", checkpoint=str(source))
        for file in sorted(Path(self.out).rglob("*")):
            if file.is_file():
                size = file.stat().st_size
                console.result(f"  {file.relative_to(self.out)}  {size:,} bytes", file=str(file), bytes=size)


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
