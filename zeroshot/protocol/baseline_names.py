"""The names of the baselines and what they need, without importing them.

Enters: names that a person gives. Leaves: the same names, or one line that says what is wrong with them.
"""

from __future__ import annotations

from collections.abc import Sequence

TRAINING_FREE = (
    "random", "popularity", "repeat", "neighbours", "item-order", "tfidf-last", "tfidf-decayed", "text+popularity",
    "text+popularity+cooccurrence", "star",
)  # fmt: skip
"""Those of every report: nothing is trained and nothing has to be given."""
ENCODER = ("encoder-last", "encoder-decayed")
"""Training-free too, but a sentence encoder has to be given."""
TRAINED = ("frozen-text", "ranker")
"""Trained on the Fusion, as the model is, and never on the unseen set."""
READS_VECTORS = (*ENCODER, "frozen-text")
"""Those that need a sentence encoder."""
SUPERVISED = ("sasrec",)
"""Trained on the unseen set itself: a ceiling, not a peer."""
KNOWN = (*TRAINING_FREE, *ENCODER, *TRAINED, *SUPERVISED)


def check_names(names: Sequence[str], encoder: str | None) -> None:
    """ValueError for a name that is not known, one that comes twice, or one that needs an encoder without one."""
    unknown = [name for name in names if name not in KNOWN]
    if unknown:
        raise ValueError(f"no baseline is called {', '.join(unknown)}; known are {', '.join(KNOWN)}")
    twice = sorted({name for name in names if list(names).count(name) > 1})
    if twice:
        raise ValueError(f"baseline {', '.join(twice)} is named twice")
    wanting = [name for name in names if name in READS_VECTORS]
    if wanting and encoder is None:
        raise ValueError(f"{', '.join(wanting)}: a sentence encoder is needed; give its name or folder with --encoder")


def kind(name: str) -> str:
    """The kind of a baseline in results: "supervised" or "baseline"."""
    return "supervised" if name in SUPERVISED else "baseline"
