"""The harness: a checkpoint and a list of tasks become results, ranks and a report, in one call over all ranks.

Enters: an EvaluateConfig. Leaves: `results.json`, `ranks.parquet`, `report.html`, `report.md` and one ID book per task
in the
output folder, metrics and report in the checkpoint's MLflow run. Must hold: every recommender is judged under the same
protocols on the same users; before anything is judged, the permutation audit shows that no list depends on a target.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import polars as pl
from transformers import T5ForConditionalGeneration

from pretrain import checkpoint as checkpoints
from pretrain.config import PromptConfig
from pretrain.config_dict import from_dict
from pretrain.ids.book import Book
from pretrain.ids.config import IdConfig
from pretrain.models import load_model, on_device
from pretrain.reporter import Reporter
from pretrain.tracking import Tracker, default_uri, read_lines
from pretrain.world import World
from shards.manifest import TOKENIZER_FOLDER, Manifest
from shards.store import local_copy
from shards.tables import ItemTable, load_items
from shards.tokenizer import fingerprint, load_tokenizer
from zeroshot import results
from zeroshot.baselines import BaselineContext, build, kind
from zeroshot.config import EvaluateConfig
from zeroshot.evaluate import Checkpoint, browsable_users, generative, judge_baselines, judge_shared, task_book
from zeroshot.ids import id_section
from zeroshot.judge import PROTOCOLS, permutation_audit
from zeroshot.provenance import provenance
from zeroshot.report import write_report
from zeroshot.tasks import Task, load_task, restricted

AUDITED_USERS = 16
SHOWN_USERS = 20


def evaluate(config: EvaluateConfig, world: World, reporter: Reporter) -> Path:
    """Judge everything and return the path of the report. Collective."""
    started = time.monotonic()
    manifest = Manifest.load(config.shards)
    folder = checkpoints.resolve(Path(config.checkpoint))
    state = checkpoints.verify(folder)
    run = folder.parent.parent
    judged = load_checkpoint(folder, run, state, config, world)
    names = config.tasks or tuple(member.name for member in manifest.test_members)
    if not names:
        raise ValueError(f"{config.shards} holds no test set; build it with test folders")
    for name in names:
        manifest.member(name)  # an unknown name is refused before any work, with the known ones listed
    out = Path(config.out)
    if world.is_main:
        out.mkdir(parents=True, exist_ok=True)
    world.barrier()
    tasks = [load_task(config.shards, name, config.max_users, config.seed) for name in names]
    if config.candidates is not None:
        tasks = restricted(tasks, Path(config.candidates))
    tables: list[pl.DataFrame] = []
    kinds: dict[str, str] = {}
    found: dict[str, dict[str, Any]] = {"tasks": {}, "ids": {}, "users": {}}
    for task in tasks:
        name = task.name
        reporter.line(f"{name}: {len(task.users):,} users, {len(task.items):,} items, a data set not used in training")
        items = load_items(config.shards, manifest, name)
        book = task_book(judged, items, task, out, world, reporter)
        tables += judge_task(task, book, items, judged, config, world, reporter, kinds)
        shown = generative(judged, "idgenrec", book, items, config.search, task.candidates)
        found["tasks"][name] = {
            "num_users": len(task.training_histories),
            "num_items": len(task.items),
            "users_judged": len(task.users),
        }
        if task.candidates is not None:
            found["tasks"][name]["candidates"] = len(task.candidates)
        found["ids"][name] = id_section(items, book, judged, world)
        if world.is_main:
            found["users"][name] = browsable_users(task, book, shown, SHOWN_USERS)
    if world.is_main:
        ranks = pl.concat(tables)
        results.save_ranks(ranks, out / "ranks.parquet")
        built = results.build(
            provenance(folder, manifest.sha256(), config.seed, time.monotonic() - started, world.size),
            rows=results.rows_from_ranks(ranks, kinds, config.seed),
            comparisons=results.comparisons_from_ranks(ranks, kinds, config.seed),
            training=training_section(run),
            **found,
        )
        results.save(built, out / "results.json")
        html, markdown = write_report(built, ranks, out)
        publish(built, [html, markdown, out / "results.json"], config, run, state)
    world.barrier()
    return out / "report.html"


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
    reporter: Reporter, kinds: dict[str, str],
) -> list[pl.DataFrame]:  # fmt: skip
    """Ranks of the model, of the same model untrained and of the baselines, as tables. Collective."""
    names = ["idgenrec"] + (["untrained"] if judged.untrained is not None else [])
    everyone = {}
    for name in names:
        model = generative(judged, name, book, items, config.search, task.candidates)
        permutation_audit(task, model, num_users=AUDITED_USERS)
        everyone[name] = judge_shared(
            task, model, world,
            lambda done, total, name=name: reporter.progress(f"{task.name}, {name}", done, total, "lists per rank"),
        )  # fmt: skip
        kinds[name] = "model" if name == "idgenrec" else "control"
    context = BaselineContext(
        config.shards, config.seed, world.device, config.threads, config.encoder, Path(config.out) / "cache", reporter
    )
    baselines = build(config.baselines, task, context)
    everyone |= judge_baselines(task, baselines, world)
    kinds |= {baseline.name: kind(baseline.name) for baseline in baselines}
    lengths, new = task.history_lengths, task.target_is_new
    return [
        results.ranks_table(task.name, name, protocol, task.users, everyone[name][protocol], new, lengths)
        for name in (*names, *(baseline.name for baseline in baselines))
        for protocol in PROTOCOLS
    ]


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


def publish(built: dict[str, Any], files: list[Path], config: EvaluateConfig, run: Path, state: dict[str, Any]) -> None:
    """Metrics per data set and the report into the MLflow run that trained the checkpoint."""
    uri = config.tracking_uri or default_uri(run.parent)
    with Tracker(run, uri, "idgenrec", run.name, state["run_id"]) as tracker:
        for row in built["rows"]:
            if row["kind"] == "model" and row["users"] == "all":
                prefix = f"zeroshot/{row['task']}/{row['recommender']}/{row['protocol']}"
                named = {f"{prefix}/{metric.replace('@', '_at_')}": value for metric, value in row["metrics"].items()}
                tracker.metrics(named, 0, group="zeroshot")
        for path in files:
            tracker.artifact(path)
