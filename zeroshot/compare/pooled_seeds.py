"""The seeds of one recipe taken together: their mean, and what it is above those who were judged beside them.

Enters: the seeds' ranks and their peers' (baselines and controls of each seed's own report). Leaves: entries of
`compare.json`. Must hold: only users that all seeds judged count; a difference's interval is over seeds and users; its
p value is that of the users' means over the seeds, so a user is one observation however many seeds there are.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import polars as pl

from pretrain.ranking.metrics import per_user
from pretrain.runtime.progress import SILENT, Reporter
from zeroshot.judge.rows import COMPARED, corrected, groups
from zeroshot.judge.significance import effect_size, permutation_test, two_way_bootstrap_interval


def pooled(
    recipe: str, seeds: dict[str, pl.DataFrame], seed: int, reporter: Reporter = SILENT
) -> Iterator[dict[str, Any]]:
    """Mean over the seeds on the users common to all, with intervals over seeds and users; an entry for each task,
    protocol and group of users. `seeds`: ranks by run; `seed`: of the bootstrap."""
    for where, users, values in _by_group(recipe, seeds, reporter):
        yield (
            where
            | {"num_users": len(users)}
            | {"metrics": {metric: float(values_SN.mean()) for metric, values_SN in values.items()}}
            | {
                "intervals": {
                    metric: list(two_way_bootstrap_interval(values_SN, seed)) for metric, values_SN in values.items()
                }
            }
            | {"deviations": {metric: float(each.mean(axis=1).std(ddof=1)) for metric, each in values.items()}}
        )


def against_peers(
    recipe: str, seeds: dict[str, pl.DataFrame], peers: dict[str, pl.DataFrame], seed: int, reporter: Reporter = SILENT
) -> list[dict[str, Any]]:
    """The seeds minus each recommender that was judged beside them, on their common users; Holm's correction over tasks
    and peers per metric, users and protocol.

    `peers`: by run, the ranks of everyone else in its report; a control is taken beside its own seed. One that some of
    the reports have, because it does not depend on the seed, stands beside every seed with the mean of theirs.
    """
    entries: list[dict[str, Any]] = []
    for where, users, values in _by_group(recipe, seeds, reporter):
        here = {run: _at(table, where).filter(pl.col("user").is_in(users)) for run, table in peers.items()}
        for other in dict.fromkeys(
            name for table in here.values() for name in table["recommender"].unique(maintain_order=True)
        ):
            tables = [table.filter(recommender=other).sort("user") for table in here.values()]
            tables = [table for table in tables if table.height]
            if any(table.height < len(users) for table in tables):
                continue
            theirs = [per_user(table["rank"].to_numpy()) for table in tables]
            for metric in COMPARED:
                other_SN = np.stack([one[metric] for one in theirs])
                if len(other_SN) < len(seeds):
                    other_SN = np.broadcast_to(other_SN.mean(axis=0), values[metric].shape)
                difference_SN = values[metric] - other_SN
                low, high = two_way_bootstrap_interval(difference_SN, seed)
                mine_N, other_N = values[metric].mean(axis=0), other_SN.mean(axis=0)
                entries.append(
                    where
                    | {"other": other, "metric": metric, "num_users": len(users)}
                    | {"difference": float(difference_SN.mean()), "low": low, "high": high}
                    | {"effect": effect_size(mine_N, other_N), "p": permutation_test(mine_N, other_N, seed)}
                )
    return corrected(entries, ("metric", "users", "protocol"))


def _by_group(
    recipe: str, seeds: dict[str, pl.DataFrame], reporter: Reporter
) -> Iterator[tuple[dict[str, Any], list[int], dict[str, np.ndarray]]]:
    """For each task, protocol and group of users that all seeds judged: what it is called, its common users ascending,
    and of each metric the values, [S, N]."""
    table = pl.concat([own.with_columns(recommender=pl.lit(run)) for run, own in seeds.items()])
    parts = list(groups(table))
    for done, ((task, protocol, group), part) in enumerate(parts):
        reporter.progress(f"seeds of {recipe}", done, len(parts), "groups of users", f"{task}, {protocol}, {group}")
        by_run = [part.filter(recommender=run) for run in seeds]
        users = sorted(set.intersection(*(set(own["user"]) for own in by_run)))
        if not users:
            continue
        values = [per_user(own.filter(pl.col("user").is_in(users)).sort("user")["rank"].to_numpy()) for own in by_run]
        where = {"task": task, "protocol": protocol, "users": group, "recipe": recipe, "runs": list(seeds)}
        where["num_seeds"] = len(seeds)
        yield where, users, {metric: np.stack([one[metric] for one in values]) for metric in COMPARED}
    reporter.progress(f"seeds of {recipe}", len(parts), len(parts), "groups of users")


def _at(table: pl.DataFrame, where: dict[str, Any]) -> pl.DataFrame:
    return table.filter(task=where["task"], protocol=where["protocol"])
