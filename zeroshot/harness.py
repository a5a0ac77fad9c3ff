"""The harness: a checkpoint and a list of tasks become results, ranks and a report, in one call over all ranks.

Enters: an EvaluateConfig. Leaves: `results.json`, `ranks.parquet`, `report.html`, `report.md` and one ID book per task
in the
output folder, metrics and report in the checkpoint's MLflow run. Must hold: every recommender is judged under the same
protocols, models on the task's sample where there is one, classic baselines on everyone; the audit is always on, its
checks stand in the results, and a failed one is raised when everything is written.
"""

from __future__ import annotations

import shutil
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from transformers import T5ForConditionalGeneration

from pretrain import checkpoint as checkpoints
from pretrain.config import PromptConfig
from pretrain.config_dict import from_dict
from pretrain.ids.book import Book
from pretrain.ids.config import IdConfig
from pretrain.models import load_model, on_device
from pretrain.ranking import GenerativeRecommender
from pretrain.reporter import Reporter
from pretrain.tracking import Tracker, default_uri, read_lines, tracked_at
from pretrain.world import World
from shards.manifest import TOKENIZER_FOLDER, Manifest
from shards.store import local_copy
from shards.tables import ItemTable, load_items
from shards.tokenizer import fingerprint, load_tokenizer
from zeroshot import results
from zeroshot.audit import AuditFailed, Check, failed, merged
from zeroshot.baselines import standard
from zeroshot.browse import titles
from zeroshot.config import EvaluateConfig
from zeroshot.data_checks import data_checks
from zeroshot.evaluate import Checkpoint, browsable_users, generative, judge_baselines, judge_shared, task_book
from zeroshot.exposure import exposure_checks, find_pretraining
from zeroshot.ids import id_section
from zeroshot.interface import Recommender
from zeroshot.judge import PROTOCOLS
from zeroshot.permutation import filter_check, permutation_check
from zeroshot.provenance import provenance
from zeroshot.report import write_report
from zeroshot.suite import resolve
from zeroshot.tasks import Task, load_task, restricted, task_facts

AUDITED_USERS = 16
SHOWN_USERS = 20


def evaluate(config: EvaluateConfig, world: World, reporter: Reporter) -> Path:
    """Judge everything and return the path of the report. Collective. Raises AuditFailed, with all results written,
    where a check of the audit failed."""
    started = time.monotonic()
    manifest = Manifest.load(config.shards)
    folder = checkpoints.resolve(Path(config.checkpoint))
    state = checkpoints.verify(folder)
    run = folder.parent.parent
    judged = load_checkpoint(folder, run, state, config, world)
    specs = resolve(config.tasks, manifest)  # an unknown name is refused before any work
    out = Path(config.out)
    if world.is_main:
        (out / FOLDER).mkdir(parents=True, exist_ok=True)
    world.barrier()
    tasks = [load_task(config.shards, spec, config.max_users, config.seed, config.sample) for spec in specs]
    if config.candidates is not None:
        tasks = restricted(tasks, Path(config.candidates))
    tables: list[pl.DataFrame] = []
    kinds: dict[str, str] = {}
    books: dict[str, Book] = {}
    checks = world.main_says(lambda: checks_of_data(tasks, folder, state, manifest, config))
    found: dict[str, dict[str, Any]] = {"tasks": {}, "ids": {}, "users": {}}
    for task in tasks:
        name = task.name
        reporter.line(f"{name}: {len(task.for_models.users):,} users, {len(task.items):,} items")
        for check in checks:
            if (check.task, check.check, check.verdict) == (name, "published data", "note"):
                reporter.line(f"  {check.words}")
        items = load_items(config.shards, manifest, task.what.dataset)
        if task.what.dataset not in books:  # other orders of the same catalogue have the same IDs
            books[task.what.dataset] = task_book(judged, items, task, out, world, reporter)
        book = books[task.what.dataset]
        tables += judge_task(task, book, items, judged, config, world, reporter, kinds, checks)
        shown = generative(judged, "idgenrec", book, items, config.search, task.candidates)
        found["tasks"][name] = task_facts(task)
        found["ids"][name] = id_section(items, book, judged, world)
        if world.is_main:
            found["users"][name] = browsable_users(task.for_models, book, shown, SHOWN_USERS)
    guilty = failed(checks)
    for check in guilty:
        reporter.line(f"AUDIT FAILED: {check.task}, {check.check}: {check.words}")
    if world.is_main:
        ranks = pl.concat(tables)
        save_ranks(ranks, out / "ranks.parquet")
        built = results.build(
            provenance(folder, state, manifest.sha256(), config.seed, time.monotonic() - started, world.size),
            rows=rows_from_ranks(ranks, kinds, seed=config.seed),
            comparisons=comparisons_from_ranks(ranks, kinds, config.seed),
            segments=segments_from_ranks(ranks, kinds, config.seed),
            training=training_section(run),
            audit=[asdict(check) for check in checks],
            **found,
        ) | {"sweeps": swept}
        results.save(built, out / "results.json")
        html, markdown = write_report(built, ranks, out)
        publish(built, [html, markdown, out / "results.json"], config, run, state, reporter)
    world.barrier()
    if guilty:
        raise AuditFailed(guilty)
    return out / "report.html"


def checks_of_data(
    tasks: list[Task], checkpoint: Path, state: dict[str, Any], manifest: Manifest, config: EvaluateConfig
) -> list[Check]:
    """What the audit finds in the tasks' data and in those of the checkpoint's training."""
    known = find_pretraining(checkpoint, state["manifest_sha256"], [config.shards], config.pretraining_shards)
    return [
        check
        for task in tasks
        for check in (*data_checks(task, config.shards, manifest), *exposure_checks(task, known))
    ]


def load_checkpoint(folder: Path, run: Path, state: dict[str, Any], config: EvaluateConfig, world: World) -> Checkpoint:
    """Both models of a verified checkpoint and the recommender it started from. Raises ValueError for other shards'
    tokenizer."""
    tokenizer = load_tokenizer(local_copy(config.shards, TOKENIZER_FOLDER))
    if fingerprint(load_tokenizer(folder / "recommender")) != fingerprint(tokenizer):
        raise ValueError(f"{config.shards} was built with another tokenizer than {folder}; build it with --tokenizer")

    def load(source: Path) -> T5ForConditionalGeneration:
        return on_device(load_model(str(source), tokenizer), world.device)

    untrained, first_generator = run / "untrained" / "recommender", run / "untrained" / "generator"
    return Checkpoint(
        recommender=load(folder / "recommender"),
        generator=load(folder / "generator"),
        untrained=load(untrained) if untrained.is_dir() else None,
        untrained_generator=load(first_generator) if first_generator.is_dir() else None,
        tokenizer=tokenizer,
        ids=from_dict(IdConfig, state["config"]["ids"]),
        prompt=from_dict(PromptConfig, state["config"]["prompt"]),
    )


def judge_task(
    task: Task, book: Book, items: ItemTable, judged: Checkpoint, config: EvaluateConfig, world: World,
    reporter: Reporter, kinds: dict[str, str], checks: list[Check],
) -> list[pl.DataFrame]:  # fmt: skip
    """Ranks of the model, of the same model untrained and of the baselines, as tables; adds to `checks` what the audit
    finds of each. Collective."""
    names = ["idgenrec"] + (["untrained"] if judged.untrained is not None else [])
    sampled, everyone, found = task.for_models, {}, []
    for name in names:

        def build(other: Task, name: str = name) -> Recommender:
            return generative(judged, name, book, items, config.search, other.candidates)

        model = build(sampled)
        found.append(permutation_check(sampled, model, build, AUDITED_USERS))
        everyone[name] = judge_shared(
            sampled, model, world,
            lambda done, total, name=name: reporter.progress(f"{task.name}, {name}", done, total, "lists per rank"),
            Path(config.out) / FOLDER, reporter.line,
        )  # fmt: skip
        kinds[name] = "model" if name == "idgenrec" else "control"
    baselines = standard(task, config.seed)
    for place in range(world.rank, len(baselines), world.size):
        found.append(
            permutation_check(task, baselines[place], lambda other, at=place: standard(other, config.seed)[at])
        )
    found.append(filter_check(sampled, "models", {name: ranks["new"] for name, ranks in everyone.items()}))
    classic = judge_baselines(task, baselines, world)
    found.append(filter_check(task, "baselines", {name: ranks["new"] for name, ranks in classic.items()}))
    checks += merged([check for part in world.gather(found) for check in part])
    kinds |= {baseline.name: "baseline" for baseline in baselines}
    return [
        results.ranks_table(
            task.name, name, protocol, users.users, ranks[protocol], users.target_is_new, users.history_lengths
        )
        for users, judgements in ((sampled, everyone), (task, classic))
        for name, ranks in judgements.items()
        for protocol in PROTOCOLS
    ], everyone["idgenrec"]["all"]


def sweep_task(
    task: Task, book: Book, items: ItemTable, judged: Checkpoint, config: EvaluateConfig, world: World,
    reporter: Reporter,
) -> list[dict[str, Any]]:  # fmt: skip
    """The model at other beams and with the other templates, as rows of `sweeps`. Collective."""

    def make(setting: Setting, value: int) -> GenerativeRecommender:
        if setting == "beam":
            search = replace(config.search, beam=value, list_length=None)
            return generative(judged, "idgenrec", book, items, search, task.candidates)
        return generative(judged, "idgenrec", book, items, config.search, task.candidates, template=value - 1)

    return sweep(
        task, make, config.sweep_users, config.seed, world,
        lambda what, done, total: reporter.progress(f"{task.name}, {what}", done, total, "lists per rank"),
        Path(config.out) / FOLDER, reporter.line,
    )  # fmt: skip


def training_section(run: Path) -> dict[str, list[dict[str, Any]]]:
    """Loss curves and validations of the run, from its JSON lines."""
    losses, validation = [], []
    for line in read_lines(run / "metrics.jsonl"):
        group = line["group"]
        if f"{group}/loss" in line:
            losses.append({"phase": group, "step": line["step"], "loss": line[f"{group}/loss"]})
        if group == "validation":
            values = {
                key.split("/")[1].replace("_at_", "@"): line[key] for key in line if key.startswith("validation/")
            }
            validation.append({"phase": group, "step": line["step"], **values})
    return {"losses": losses, "validation": validation}


def publish(
    built: dict[str, Any],
    files: list[Path],
    config: EvaluateConfig,
    run: Path,
    state: dict[str, Any],
    reporter: Reporter,
) -> None:
    """Metrics per data set and the report into the MLflow run that trained the checkpoint."""
    uri, trained = config.tracking_uri or default_uri(run.parent), tracked_at(run)
    experiment, key = (trained.experiment, trained.key) if trained else ("idgenrec", None)
    run_id = (trained.run_id if trained else None) or state["run_id"]
    out = Path(config.out)
    with Tracker(out, uri, experiment, run.name, run_id, reporter, key=key, owns_run=False) as tracker:
        for row in built["rows"]:
            if row["kind"] == "model" and row["users"] == "all":
                prefix = f"zeroshot/{row['task']}/{row['recommender']}/{row['protocol']}"
                named = {
                    f"{prefix}/{metric}".replace("@", "_at_"): value  # MLflow's names have no "@"
                    for metric, value in row["metrics"].items()
                }
                tracker.metrics(named, 0, group="zeroshot")
        for path in files:
            tracker.artifact(path)
