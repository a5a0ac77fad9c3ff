"""The supervised ceiling on real data: SASRec with cross-entropy over all items, tuned on validation items alone.

Enters: folders with `user_sequence.txt.gz` and `item_plain_text.txt.gz`. Leaves: a Markdown table, printed and written
to docs/benchmarks/sasrec.md. Must hold: choices are made on the validation items (sequence[-2]) of the first folder;
test items (sequence[-1]) are looked at once, with what was chosen. Weights and epochs are kept in --work as they come:
the same command takes up where it was stopped.

    python -m benchmarks.zeroshot.sasrec --data DATA/Beauty DATA/Toys DATA/Sports [--work runs/sasrec] [--no-grid]
"""

import argparse
import dataclasses
import gzip
import json
import os
import platform
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import torch

from benchmarks.tables import table
from pretrain.ranking.metrics import summary
from shards.tables import Holdout
from zeroshot.baselines.cache import hash_of
from zeroshot.baselines.fit import JUDGED_BY, Epoch, best_epoch
from zeroshot.baselines.sasrec import Sasrec, SasrecConfig
from zeroshot.judge.judge import PROTOCOLS, judge
from zeroshot.tasks.task import Task, task_from_holdout

DROPOUTS = (0.3, 0.5)
WEIGHT_DECAYS = (0.0, 0.1)
PUBLISHED = {  # HR@10, NDCG@10
    "Beauty": ".0821/.0405 (LETTER, cross-entropy), .0605/.0318 (usually reported)",
    "Toys": ".0675/.0374 (usually reported), .0970/.0580 (eSASRec's, sampled softmax)",
    "Sports": ".0350/.0192 (usually reported), .0569/.0314 (eSASRec's, sampled softmax)",
}


def read_task(folder: Path) -> Task:
    """The task of a plain folder, everyone judged."""

    def lines(file: str) -> list[str]:
        with gzip.open(folder / file, "rt", encoding="utf-8") as source:
            return source.read().splitlines()

    texts = dict(line.split(" ", 1) for line in lines("item_plain_text.txt.gz"))
    row_of = {item: row for row, item in enumerate(texts)}
    users = [line.split() for line in lines("user_sequence.txt.gz")]
    rows = [np.array([row_of[item] for item in sequence], dtype=np.int32) for _, *sequence in users]
    holdout = Holdout(
        records=[user for user, *_ in users],
        users=[user for user, *_ in users],
        histories=[row[:-2] for row in rows],
        valid=np.array([row[-2] for row in rows], dtype=np.int32),
        test=np.array([row[-1] for row in rows], dtype=np.int32),
    )
    return task_from_holdout(folder.name, list(texts), list(texts.values()), holdout)


def trained(task: Task, config: SasrecConfig, options: argparse.Namespace) -> tuple[Sasrec, list[Epoch]]:
    """SASRec of this configuration and its epochs, from --work where they are there."""
    name = hash_of([task.name, json.dumps(dataclasses.asdict(config)), str(options.seed), str(options.threads)])[:16]
    file = Path(options.work) / f"{task.name}-{name}.jsonl"
    epochs: list[Epoch] = []

    def note(epoch: Epoch) -> None:
        epochs.append(epoch)
        file.write_text("".join(json.dumps(dataclasses.asdict(one)) + "\n" for one in epochs), encoding="utf-8")
        figures = ", ".join(f"{metric} {value:.4f}" for metric, value in epoch.validation.items())
        print(
            f"{task.name} {described(config)}: epoch {epoch.number + 1}, {epoch.seconds:.0f} s, {figures}", flush=True
        )

    recommender = Sasrec(task, options.seed, config, threads=options.threads, cache=options.work, progress=note)
    recommender.rank(task.histories[:1], ("all",))
    kept = [Epoch(**json.loads(line)) for line in file.read_text(encoding="utf-8").splitlines()]
    return recommender, kept


def described(config: SasrecConfig) -> str:
    """What the grid varies."""
    return f"dropout {config.shape.dropout:g}, weight decay {config.fit.weight_decay:g}"


def row_of_epochs(task: Task, config: SasrecConfig, epochs: list[Epoch]) -> list[str]:
    best = best_epoch(epochs)
    figures = "/".join(f"{best.validation[metric]:.4f}" for metric in ("HR@10", "NDCG@10"))
    return [f"{task.name}, {described(config)}", figures, str(best.number + 1), str(len(epochs)),
            f"{epochs[-1].seconds:,.0f}"]  # fmt: skip


def write(options: argparse.Namespace, load: float, choices: list[list[str]], tests: list[list[str]]) -> None:
    """The page as far as it has come."""
    config = SasrecConfig()
    shape, fit = config.shape, config.fit
    command = f"--data {' '.join(folder.name for folder in options.data)}{' --no-grid' * options.no_grid}"
    lines = [
        "# SASRec with cross-entropy over all items: the supervised ceiling", "",
        f"`python -m benchmarks.zeroshot.sasrec {command}`, {options.threads} thread of {platform.machine()} (load "
        f"{load:.1f} when it began), torch {torch.__version__}, seed {options.seed}.", "",
        f"{shape.layers} layers of {shape.width} with {shape.heads} heads, the last {shape.max_length} items, AdamW at "
        f"{fit.learning_rate:g}, {fit.batch_users} users a step, running average of the weights ({fit.average:g}), "
        f"trained on `sequence[:-2]`, ended after {fit.patience} epochs without a better {JUDGED_BY} of "
        "`sequence[-2]`; then trained anew, as many epochs, with `sequence[-2]` too. Seconds are those of the first "
        "training, beside other work on the machine.",
        "", "What was chosen, on validation items alone:", "",
        *table(["data set, setting", "validation HR@10/NDCG@10", "best epoch", "epochs", "seconds"], choices),
        "The chosen setting on the test items (HR@10/NDCG@10):", "",
        *table(["data set", "all", "new", "published"], tests),
    ]  # fmt: skip
    options.out.write_text("\n".join(lines), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=Path("runs/sasrec"))
    parser.add_argument("--no-grid", action="store_true", help="the default setting alone")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks/sasrec.md"))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    options.work.mkdir(parents=True, exist_ok=True)
    load, base = os.getloadavg()[0], SasrecConfig()
    configs = [base] if options.no_grid else [
        replace(base, shape=replace(base.shape, dropout=dropout), fit=replace(base.fit, weight_decay=decay))
        for dropout, decay in product(DROPOUTS, WEIGHT_DECAYS)
    ]  # fmt: skip
    choices: list[list[str]] = []
    tests: list[list[str]] = []
    for place, folder in enumerate(options.data):
        task = read_task(folder)
        found = []
        for config in configs:
            recommender, epochs = trained(task, config, options)
            found.append((best_epoch(epochs).validation[JUDGED_BY], config, recommender))
            choices.append(row_of_epochs(task, config, epochs))
            write(options, load, choices, tests)
        _, chosen, recommender = max(found, key=lambda entry: entry[0])
        if place == 0:
            configs = [chosen]
        figures = [summary(judge(task, recommender, protocol).ranks_N) for protocol in PROTOCOLS]
        shown = ["/".join(f"{figure[metric]:.4f}" for metric in ("HR@10", "NDCG@10")) for figure in figures]
        tests.append([f"{task.name}, {described(chosen)}", *shown, PUBLISHED.get(task.name, "-")])
        write(options, load, choices, tests)
    print(options.out.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
