"""The harness: a checkpoint and a list of tasks become results, ranks and a report, in one call over all ranks.

Enters: an EvaluateConfig. Leaves: `results.json`, `ranks.parquet`, `report.html`, `report.md` and one ID book per
catalogue in the output folder, metrics and report in the checkpoint's MLflow run. Must hold: every recommender is
judged under the same protocols; what the audit finds stands in the results, and a failed check raises AuditFailed after
they are written.
"""

from __future__ import annotations

import shutil
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import polars as pl

from pretrain.ids.book import Book
from pretrain.runtime.progress import Reporter
from pretrain.runtime.world import World
from pretrain.training import checkpoint as checkpoints
from shards.manifest import Manifest
from shards.tables import ItemTable, load_items
from zeroshot.audit.data_checks import data_checks
from zeroshot.audit.exposure import exposure_checks, find_pretraining
from zeroshot.audit.findings import AuditFailed, Check, failed
from zeroshot.baselines.encoder import SentenceEncoder
from zeroshot.judge.checkpoint import Checkpoint, load_checkpoint, user_ids_of
from zeroshot.judge.ranks import save_ranks
from zeroshot.judge.rows import comparisons_from_ranks, rows_from_ranks
from zeroshot.judge.segments import segments_from_ranks
from zeroshot.judge.task_evaluator import TaskEvaluator, TaskResult
from zeroshot.judge.user_blocks import FOLDER
from zeroshot.protocol.config import READS_VECTORS, EvaluateConfig
from zeroshot.protocol.recommender import TOP
from zeroshot.publish import publish, store_of, training_section
from zeroshot.report import results
from zeroshot.report.id_quality import id_section
from zeroshot.report.page import write_report
from zeroshot.report.provenance import provenance
from zeroshot.report.shown_users import browsable_users, titles
from zeroshot.tasks.suite import TaskSpec, resolve
from zeroshot.tasks.task import Task, full_lists, load_task, restricted, task_facts

SHOWN_USERS = 20
SHOWN_CHECKS = (("published data", "note"), ("length of lists", "note"))
"""Checks that the console shows before a task is judged."""


def evaluate(config: EvaluateConfig, world: World, reporter: Reporter) -> Path:
    """Judge everything and return the path of the report. Collective. Raises AuditFailed once all is written."""
    started = time.monotonic()
    manifest = Manifest.load(config.shards)
    folder = checkpoints.resolve(Path(config.checkpoint))
    state = checkpoints.verify(folder)
    run, out = folder.parent.parent, Path(config.out)
    if out.resolve() in (Path(config.shards).resolve(), folder.resolve()):
        raise ValueError(f"--out {out} holds the shards or the checkpoint; give the report a folder of its own")
    store_of(run, config.tracking_uri)  # one that nobody can reach without its password is refused before any work
    specs = resolve(config.tasks, manifest)  # an unknown name is refused before any work
    world.main_says(lambda: check_encoder(config))
    checkpoint = load_checkpoint(folder, run, state, config, world)
    tasks = load_tasks(specs, config)
    checks = world.main_says(lambda: checks_of_data(tasks, folder, state, manifest, config, checkpoint.tokenizer))
    if world.is_main:
        (out / FOLDER).mkdir(parents=True, exist_ok=True)
    world.barrier()
    evaluator, everything = TaskEvaluator(checkpoint, config, world, reporter), TaskResult(checks=checks)
    sections: dict[str, dict[str, Any]] = {"tasks": {}, "ids": {}, "users": {}, "titles": {}}
    for task in tasks:
        reporter.line(f"{task.name}: {len(task.for_models.users):,} users, {len(task.items):,} items")
        for check in checks:
            if check.task == task.name and (check.check, check.verdict) in SHOWN_CHECKS:
                reporter.line(f"  {check.words}")
        items = load_items(config.shards, manifest, task.what.dataset)
        result = evaluator.judge(task, items)
        everything = joined(everything, result)
        book = evaluator.book(task.what.dataset, items)
        for section, entry in task_sections(task, items, book, checkpoint, result, world).items():
            sections[section][task.name] = entry
    failures = failed(everything.checks)
    for check in failures:
        reporter.line(f"AUDIT FAILED: {check.task}, {check.check}: {check.words}")
    if world.is_main:
        facts = provenance(folder, state, manifest.sha256(), config, time.monotonic() - started, world.size)
        write_results(everything, sections, facts, config, run, state, reporter)
        shutil.rmtree(out / FOLDER)
    world.barrier()
    if failures:
        raise AuditFailed(failures)
    return out / "report.html"


def load_tasks(specs: list[TaskSpec], config: EvaluateConfig) -> list[Task]:
    """The tasks, among the candidates that a person gave; ValueError where any list of ten would hold the target."""
    tasks = [load_task(config.shards, spec, config.max_users, config.seed, config.sample) for spec in specs]
    if config.candidates is not None:
        tasks = restricted(tasks, Path(config.candidates))
    for task in tasks:
        if full_lists(task)["all"]:
            ranked = len(task.items) if task.candidates is None else len(task.candidates)
            raise ValueError(
                f"{task.name} has {ranked} items to rank, so that HR@{TOP} is 1 for any list of {TOP}; give more than "
                f"{TOP} candidates, or leave the data set out with --tasks"
            )
    return tasks


def task_sections(
    task: Task, items: ItemTable, book: Book, checkpoint: Checkpoint, result: TaskResult, world: World
) -> dict[str, Any]:
    """What results.json holds of a task beside ranks: facts, IDs, the first users and the words of their items.
    Collective."""
    assert result.shown is not None
    ids, users = id_section(items, book, checkpoint, world), task.for_models
    names = user_ids_of(checkpoint, items, users.histories[:SHOWN_USERS])
    shown = browsable_users(users, book, result.shown, SHOWN_USERS, names)
    return {"tasks": task_facts(task), "ids": ids, "users": shown, "titles": titles(shown, book.texts, task.texts)}


def write_results(
    everything: TaskResult, sections: dict[str, dict[str, Any]], facts: dict[str, Any], config: EvaluateConfig,
    run: Path, state: dict[str, Any], reporter: Reporter,
) -> None:  # fmt: skip
    """`ranks.parquet`, `results.json` and the report into the output folder, and metrics and report into MLflow.
    `facts`: the provenance."""
    out, ranks = Path(config.out), pl.concat(everything.tables)
    save_ranks(ranks, out / "ranks.parquet")
    built = results.build(
        facts,
        rows=rows_from_ranks(ranks, everything.kinds, everything.coverages, config.seed),
        comparisons=comparisons_from_ranks(ranks, everything.kinds, config.seed),
        segments=segments_from_ranks(ranks, everything.kinds, config.seed),
        sweeps=everything.sweeps,
        audit=[asdict(check) for check in everything.checks],
        training=training_section(run),
        **sections,
    )
    results.save(built, out / "results.json")
    html, markdown = write_report(built, ranks, out, reporter)
    publish(built, [html, markdown, out / "results.json"], config, run, state, reporter)


def check_encoder(config: EvaluateConfig) -> None:
    """Load the sentence encoder that a baseline needs, and drop it: ValueError where it is not whole, hours before that
    baseline's turn."""
    if not set(READS_VECTORS).isdisjoint(config.baselines):
        SentenceEncoder(config.encoder or "").load()


def joined(one: TaskResult, other: TaskResult) -> TaskResult:
    """Both, one after the other."""
    return TaskResult(
        one.tables + other.tables, one.coverages | other.coverages, one.kinds | other.kinds, one.checks + other.checks,
        one.sweeps + other.sweeps,
    )  # fmt: skip


def checks_of_data(
    tasks: list[Task],
    checkpoint: Path,
    state: dict[str, Any],
    manifest: Manifest,
    config: EvaluateConfig,
    tokenizer: Any,
) -> list[Check]:
    """What the audit finds in the tasks' data and in those of the checkpoint's training."""
    known = find_pretraining(checkpoint, state["manifest_sha256"], [config.shards], config.pretraining_shards)
    return [
        check
        for task in tasks
        for check in (*data_checks(task, config.shards, manifest, tokenizer), *exposure_checks(task, known))
    ]
