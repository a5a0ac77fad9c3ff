"""One task, everyone who is judged on it: the model, its controls, the baselines, and the audit of each.

Enters: a task, the models, the World. Leaves: a `TaskResult`. Must hold: all are judged under the same protocols; the
model and its controls on the task's sample, baselines on everyone; each is audited before it is judged.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from pretrain.ids.book import Book
from pretrain.ranking.generate import GenerativeRecommender, prior_of
from pretrain.runtime.progress import Reporter
from pretrain.runtime.world import World
from shards.tables import ItemTable
from zeroshot.audit.findings import Check, merged
from zeroshot.audit.leakage import filter_check, permutation_check
from zeroshot.baselines import BaselineContext, build
from zeroshot.baselines.blend import Blend, expert_of
from zeroshot.baselines.text_popularity import repeats_itself
from zeroshot.judge.coverage import coverage_of_groups, novelty
from zeroshot.judge.judge import PROTOCOLS
from zeroshot.judge.ranks import ranks_table, training_counts, user_facts
from zeroshot.judge.sweeps import Setting, sweep
from zeroshot.judge.task_evaluator import (
    ByProtocol,
    Checkpoint,
    generative,
    judge_baselines,
    judge_shared,
    model_of,
    task_book,
)
from zeroshot.judge.user_blocks import FOLDER
from zeroshot.protocol.baseline_names import TRAINING_FREE, kind
from zeroshot.protocol.config import BLENDS, EvaluateConfig
from zeroshot.protocol.recommender import Judged, Recommender
from zeroshot.tasks.task import Task

AUDITED_USERS = 16


@dataclass
class TaskResult:
    """Rows of ranks.parquet, coverage by (task, recommender, protocol, users), the kind of each recommender, what the
    audit found, rows of sweeps, and the model's lists under the protocol `all`."""

    tables: list[pl.DataFrame] = field(default_factory=list)
    coverages: dict[tuple[str, str, str, str], float] = field(default_factory=dict)
    kinds: dict[str, str] = field(default_factory=dict)
    checks: list[Check] = field(default_factory=list)
    sweeps: list[dict[str, Any]] = field(default_factory=list)
    shown: Judged | None = None


class Bench:
    """Where the recommenders of one evaluation are judged. All methods are collective."""

    def __init__(self, checkpoint: Checkpoint, config: EvaluateConfig, world: World, reporter: Reporter) -> None:
        self.checkpoint, self.config, self.world, self.reporter = checkpoint, config, world, reporter
        self.out = Path(config.out)
        self._books: dict[tuple[str, bool], Book] = {}
        self._priors: dict[tuple[str, str], list[np.ndarray] | None] = {}

    def book(self, dataset: str, items: ItemTable, untrained: bool = False) -> Book:
        """The ID book of a catalogue, made once: other orders of the same data set have the same IDs."""
        key = dataset, untrained
        if key not in self._books:
            self._books[key] = task_book(
                self.checkpoint,
                items,
                dataset,
                self.out,
                self.world,
                self.reporter,
                untrained,
                Path(self.config.books) if self.config.books else None,
            )
        return self._books[key]

    def judge(self, task: Task, items: ItemTable) -> TaskResult:
        """Everyone on one task."""
        result, book = TaskResult(), self.book(task.what.dataset, items)
        sampled = task.for_models
        names = ("idgenrec", *self.config.blends, *self.config.controls)
        models = {name: self._judge_model(name, sampled, items, result) for name in names}
        baselines = self._judge_baselines(task, result)
        for who, users, found in (("models", sampled, models), ("baselines", task, baselines)):
            ranks = {name: judged["new"].ranks_N for name, judged in found.items()}
            result.checks.append(filter_check(users, who, ranks))
            self._tabulate(users, found, book, result)
        result.shown = models["idgenrec"]["all"]
        if self.config.sweep_users:
            result.sweeps = self._sweep(sampled, book, items)
        # Each rank has audited its own baselines.
        result.checks = merged([check for part in self.world.gather(result.checks) for check in part])
        return result

    def _judge_model(self, name: str, task: Task, items: ItemTable, result: TaskResult) -> ByProtocol:
        book = self.book(task.what.dataset, items, untrained=name == "untrained-ids")
        prior = self._log_prior(name, task.what.dataset, book)

        def make(other: Task) -> Recommender:
            worth = None
            if name in BLENDS:
                expert = expert_of(name, other.texts, other.training_histories)
                worth = Blend(expert, self.config.blends[name])
            return generative(
                self.checkpoint, name, book, items, self.config.search, other.candidates, log_prior=prior, worth=worth,
                never_repeat=self._never_repeat(other),
            )  # fmt: skip

        model = make(task)
        result.checks.append(permutation_check(task, model, make, AUDITED_USERS))
        result.kinds[name] = "model" if name == "idgenrec" else "blend" if name in BLENDS else "control"
        return judge_shared(
            task, model, self.world,
            lambda done, total: self.reporter.progress(f"{task.name}, {name}", done, total, "lists per rank"),
            self.out / FOLDER, self.reporter.line,
        )  # fmt: skip

    def _never_repeat(self, task: Task) -> bool:
        return self.config.repeats == "observed" and not repeats_itself(task.training_histories)

    def _log_prior(self, name: str, dataset: str, book: Book) -> list[np.ndarray] | None:
        """Of a recommender over a book, computed once; a blend has the model's."""
        key = ("idgenrec" if name in BLENDS else name), dataset
        if key not in self._priors:
            model, checkpoint = model_of(self.checkpoint, name), self.checkpoint
            self._priors[key] = prior_of(
                model, checkpoint.tokenizer, book.token_ids, checkpoint.prompt, self.config.search, self.world
            )
        return self._priors[key]

    def _judge_baselines(self, task: Task, result: TaskResult) -> dict[str, ByProtocol]:
        config, world = self.config, self.world
        context = BaselineContext(
            config.pretraining_shards or config.shards, config.seed, world.device, config.threads, config.encoder,
            self.out / "cache", self.reporter,
        )  # fmt: skip
        baselines = build(config.baselines, task, context)
        # What is trained is trained when it is first asked, for as long as that takes: the others wait at a gather.
        for baseline in baselines[world.rank :: world.size]:
            name = baseline.name

            def again(other: Task, name: str = name) -> Recommender:
                return build((name,), other, context)[0]

            # To train a baseline a second time for the audit would double its cost.
            rebuild = again if name in TRAINING_FREE else None
            result.checks.append(permutation_check(task, baseline, rebuild))
        result.kinds |= {baseline.name: kind(baseline.name) for baseline in baselines}
        judged = judge_baselines(task, baselines, world)
        return {baseline.name: judged[baseline.name] for baseline in baselines}  # in one order on any number of ranks

    def _tabulate(self, task: Task, found: dict[str, ByProtocol], book: Book, result: TaskResult) -> None:
        facts = user_facts(task, np.array([len(ids) for ids in book.token_ids]))
        counts_I = training_counts(task)
        candidates = len(task.items) if task.candidates is None else len(task.candidates)
        for name, judgements in found.items():
            scored = result.kinds[name] in ("model", "control") and self.config.search.is_probability
            for protocol in PROTOCOLS:
                judged = judgements[protocol]
                scores_N = judged.scores_NK[:, 0] if scored else None
                surprise_N = novelty(judged.top_NK, counts_I)
                result.tables.append(
                    ranks_table(task.name, name, protocol, facts, judged.ranks_N, surprise_N, scores_N)
                )
                coverages = coverage_of_groups(judged.top_NK, facts.target_is_new_N, candidates)
                result.coverages |= {(task.name, name, protocol, users): share for users, share in coverages.items()}

    def _sweep(self, task: Task, book: Book, items: ItemTable) -> list[dict[str, Any]]:
        search = self.config.search

        def make(setting: Setting, value: int) -> GenerativeRecommender:
            asked = replace(search, beam=value, list_length=None) if setting == "beam" else search
            template = value - 1 if setting == "template" else 0
            prior = self._log_prior("idgenrec", task.what.dataset, book) if template == 0 else None
            return generative(
                self.checkpoint, "idgenrec", book, items, asked, task.candidates, template=template, log_prior=prior,
                never_repeat=self._never_repeat(task),
            )  # fmt: skip

        return sweep(
            task, make, self.config.sweep_users, self.config.seed, self.world,
            lambda what, done, total: self.reporter.progress(f"{task.name}, {what}", done, total, "lists per rank"),
            self.out / FOLDER, self.reporter.line,
        )  # fmt: skip
