"""Runs side by side, from their report folders: metrics of each, paired tests between them, seeds apart and pooled.

Enters: folders with results.json and ranks.parquet. Leaves: one object, `compare.json`. What must hold: two runs are
compared on a task only when they were judged on the same data under the same protocols, and then on their common users;
seeds of one recipe stay visible one by one.
"""

import itertools
import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from pretrain.runtime.progress import SILENT, Reporter
from shards.files.atomic import write_whole
from zeroshot.compare.pooled_seeds import against_peers, pooled
from zeroshot.judge import ranks as ranks_file
from zeroshot.judge.rows import USERS, corrected, groups, paired_entries
from zeroshot.report import results
from zeroshot.report.provenance import json_sha256

VERSION = 2
MUST_AGREE = ("data_sha256", "order", "num_users", "num_items", "candidates")
FACTS = ("target_is_new", "history_length", "target_count")
"""Columns of ranks.parquet that are facts about a user and must be the same in every run."""


@dataclass(frozen=True)
class Judged:
    """One model of one report folder.

    Attributes:
        name: what it is called in the comparison, unique.
        model: its name in its own report.
        results: the results object.
        ranks: the model's rows of ranks.parquet.
        peers: those of the baselines and controls judged beside it.
    """

    name: str
    model: str
    results: dict[str, Any]
    ranks: pl.DataFrame
    peers: pl.DataFrame

    @property
    def protocols(self) -> dict[str, set[str]]:
        """Protocols under which the model was judged, by task."""
        pairs = self.ranks.select("task", "protocol").unique(maintain_order=True).rows()
        return {task: {other for name, other in pairs if name == task} for task, _ in pairs}


def load_runs(folders: list[str]) -> list[Judged]:
    """Every trained model of the report folders, and its blends where there are some.

    Raises:
        ValueError: fewer than two models, a folder named twice or without results, or one without a trained model.
    """
    paths = [Path(folder).resolve() for folder in folders]
    if len(set(paths)) < len(paths):
        raise ValueError("a folder is named twice; a run cannot be compared with itself")
    labels = short_names(paths)
    judged: list[Judged] = []
    for path, label in zip(paths, labels, strict=True):
        judged += load_run(path, label)
    if len(judged) < 2:
        raise ValueError("a comparison needs at least two report folders")
    return judged


def load_run(path: Path, label: str) -> list[Judged]:
    """The trained model of one report folder, and its blends; ValueError without."""
    results_object = results.load(path / "results.json")
    table = ranks_file.load_ranks(path / "ranks.parquet")
    trained = {row["recommender"]: row["kind"] in ("model", "blend") for row in results_object["rows"]}
    models = [name for name, is_model in trained.items() if is_model]
    if not models:
        raise ValueError(f"{path} holds no trained model, only baselines")
    names = [label if len(models) == 1 else f"{label}/{model}" for model in models]
    peers = table.filter(~pl.col("recommender").is_in(models))
    return [
        Judged(name, model, results_object, table.filter(recommender=model), peers)
        for name, model in zip(names, models, strict=True)
    ]


def short_names(paths: list[Path]) -> list[str]:
    """The shortest endings of the paths, in whole parts, that differ; a last part `report` is left out."""
    parts = [path.parts[:-1] if path.name == "report" and len(path.parts) > 2 else path.parts for path in paths]
    for length in range(1, max(map(len, parts)) + 1):
        names = ["/".join(part[-length:]) for part in parts]
        if len(set(names)) == len(names):
            return names
    return [str(path) for path in paths]


def check_comparable(judged: list[Judged]) -> None:
    """ValueError unless the runs share a task, and each shared task was judged on the same data and protocols."""
    shared = [task for task, count in Counter(task for run in judged for task in run.protocols).items() if count > 1]
    if not shared:
        raise ValueError("the runs have no task in common")
    for task in shared:
        first, *others = [run for run in judged if task in run.protocols]
        for other in others:
            where = f"{task}: {first.name} and {other.name}"
            one, two = (run.results["tasks"][task] for run in (first, other))
            for key in MUST_AGREE:
                if one.get(key) != two.get(key):
                    raise ValueError(
                        f"{where} were judged on other data: {key} is {one.get(key)} and {two.get(key)}; judge both "
                        "on the same shards"
                    )
            if first.protocols[task] != other.protocols[task]:
                raise ValueError(
                    f"{where} were judged under other protocols: {', '.join(sorted(first.protocols[task]))} and "
                    f"{', '.join(sorted(other.protocols[task]))}"
                )
            facts = (run.ranks.filter(task=task).select("user", "protocol", *FACTS) for run in (first, other))
            pairs = next(facts).join(next(facts), on=["user", "protocol"], suffix="_other")
            if not pairs.height:
                raise ValueError(f"{where} were judged on no common user; judge both on the same sample")
            for fact in FACTS:
                if not pairs[fact].equals(pairs[f"{fact}_other"]):
                    raise ValueError(f"{where} were judged on other data: {fact} of a common user differs")


def recipes(judged: list[Judged]) -> dict[str, list[Judged]]:
    """The runs by recipe and scoring, named after the first run of each; one seed judged twice makes no two seeds of a
    recipe."""
    by_recipe: dict[tuple[str, str, str], list[Judged]] = {}
    for run in judged:
        origin = run.results["provenance"]
        by_recipe.setdefault((origin["recipe_sha256"], json_sha256(origin["scoring"]), run.model), []).append(run)
    named: dict[str, list[Judged]] = {}
    for runs in by_recipe.values():
        seeds = {run.results["provenance"]["training_seed"] for run in runs}
        for part in [runs] if len(seeds) == len(runs) else [[run] for run in runs]:
            named[part[0].name] = part
    return named


def compare(judged: list[Judged], seed: int = 0, reporter: Reporter = SILENT) -> dict[str, Any]:
    """The comparison of the runs; `seed` is that of the bootstrap and of the tests."""
    check_comparable(judged)
    by_recipe = recipes(judged)
    recipe_of = {run.name: recipe for recipe, runs in by_recipe.items() for run in runs}
    table = pl.concat([run.ranks.with_columns(recommender=pl.lit(run.name)) for run in judged])
    rows = [
        {key: row[key] for key in ("task", "protocol", "users", "num_users", "metrics", "intervals")}
        | {"run": run.name, "recipe": recipe_of[run.name]}
        for run in judged
        for row in run.results["rows"]
        if row["recommender"] == run.model
    ]
    return {
        "version": VERSION,
        "runs": [
            {"run": run.name, "recipe": recipe_of[run.name], "model": run.model}
            | {"provenance": run.results["provenance"]}
            | {"failed_checks": sum(check["verdict"] == "failed" for check in run.results["audit"])}
            for run in judged
        ],
        "tasks": {task: entry for run in reversed(judged) for task, entry in run.results["tasks"].items()},
        "rows": rows,
        "baselines": best_baselines(judged),
        "comparisons": paired_runs(table, seed, reporter),
        **of_seeds({recipe: runs for recipe, runs in by_recipe.items() if len(runs) > 1}, seed, reporter),
    }


def of_seeds(recipes: dict[str, list[Judged]], seed: int, reporter: Reporter) -> dict[str, list[dict[str, Any]]]:
    """What the seeds of each recipe are together, and against those who were judged beside all of them."""
    of_recipes: dict[str, list[dict[str, Any]]] = {"pooled": [], "against": []}
    for recipe, runs in recipes.items():
        seeds = {run.name: run.ranks for run in runs}
        of_recipes["pooled"] += pooled(recipe, seeds, seed, reporter)
        of_recipes["against"] += against_peers(recipe, seeds, {run.name: run.peers for run in runs}, seed, reporter)
    return of_recipes


def paired_runs(table: pl.DataFrame, seed: int, reporter: Reporter) -> list[dict[str, Any]]:
    """Every pair of runs on their common users, corrected over tasks and pairs per metric, users and protocol."""
    entries: list[dict[str, Any]] = []
    parts = list(groups(table))
    for done, ((task, protocol, users), part) in enumerate(parts):
        reporter.progress("compared", done, len(parts), "groups of users", f"{task}, {protocol}, {users}")
        by_run = {str(name): own.sort("user") for (name,), own in part.group_by(["recommender"], maintain_order=True)}
        for one, two in itertools.combinations(by_run, 2):
            own = by_run[one].filter(pl.col("user").is_in(by_run[two]["user"].implode()))
            other = by_run[two].filter(pl.col("user").is_in(by_run[one]["user"].implode()))
            where = {"task": task, "protocol": protocol, "users": users, "run": one, "other": two}
            if own.height:
                entries += [where | entry for entry in paired_entries(own, other, seed)]
    reporter.progress("compared", len(parts), len(parts), "groups of users")
    return corrected(entries, ("metric", "users", "protocol"))


def best_baselines(judged: list[Judged]) -> list[dict[str, Any]]:
    """The strongest training-free baseline by HR@10 of each task, protocol and group of users, in the first run."""
    best_rows: dict[tuple[str, str, str], dict[str, Any]] = {}
    for run in judged:
        rows = [row for row in run.results["rows"] if row["kind"] == "baseline" and row["task"] in run.protocols]
        mine = {(row["task"], row["protocol"], row["users"]) for row in rows}
        for where in mine - best_rows.keys():
            peers = [row for row in rows if (row["task"], row["protocol"], row["users"]) == where]
            best = max(peers, key=lambda row: row["metrics"]["HR@10"])
            best_rows[where] = {
                key: best[key] for key in ("task", "protocol", "users", "recommender", "metrics", "intervals")
            }
    order = [(task, users) for run in judged for task in run.protocols for users in USERS]
    return sorted(best_rows.values(), key=lambda row: (order.index((row["task"], row["users"])), row["protocol"]))


def save(comparison: dict[str, Any], path: Path) -> None:
    """Writes compare.json."""
    text = json.dumps(comparison, indent=1, ensure_ascii=False, allow_nan=False)
    write_whole(path, text + "\n")
