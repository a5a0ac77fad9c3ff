"""Reports of one run on different data sets become one: what a job array judged apart is read together.

Enters: folders that `idgenrec zeroshot` wrote. Leaves: one results object and one table of ranks. Must hold: only
reports of the same checkpoint, test data and scoring are joined, none of a data set that another has; comparisons are
corrected over all data sets again, so the joined report is the one that a single job had written.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import polars as pl

from zeroshot.judge.ranks import load_ranks
from zeroshot.judge.rows import comparisons_from_ranks
from zeroshot.report import results

SAME = ("checkpoint", "manifest_sha256", "config_sha256", "scoring", "seed")
"""Of the provenance: what reports of one evaluation agree in."""


def join(folders: list[Path]) -> tuple[dict[str, Any], pl.DataFrame]:
    """The results object and the ranks of all reports, data sets in the order of the folders.

    Raises ValueError for a data set that two reports have, and for reports of different evaluations.
    """
    found = [results.load(folder / "results.json") for folder in folders]
    for folder, other in zip(folders[1:], found[1:], strict=True):
        for key in SAME:
            if other["provenance"][key] != found[0]["provenance"][key]:
                raise ValueError(
                    f"{folders[0]} and {folder} differ in {key}: they are no parts of one evaluation; "
                    "`idgenrec compare` puts runs side by side"
                )
    times = Counter(task for part in found for task in part["tasks"])
    twice = [task for task, count in times.items() if count > 1]
    if twice:
        raise ValueError(f"{', '.join(twice)}: judged in more than one of these folders; leave all but one out")
    ranks = pl.concat([load_ranks(folder / "ranks.parquet") for folder in folders])
    rows = [row for part in found for row in part["rows"]]
    provenance = found[0]["provenance"] | {
        "dirty": any(part["provenance"]["dirty"] for part in found),
        "wall_seconds": round(sum(part["provenance"]["wall_seconds"] for part in found), 1),
    }
    whole: Any = {key: [entry for part in found for entry in part[key]] for key in ("segments", "sweeps", "audit")}
    whole |= {key: {n: v for part in found for n, v in part[key].items()} for key in ("ids", "users", "titles")}
    return results.build(
        provenance,
        {name: facts for part in found for name, facts in part["tasks"].items()},
        rows,
        comparisons_from_ranks(ranks, {row["recommender"]: row["kind"] for row in rows}, provenance["seed"]),
        training=found[0]["training"],
        **whole,
    ), ranks
