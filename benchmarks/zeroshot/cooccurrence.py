"""How the weights of `text+popularity+cooccurrence` were chosen: each pretraining category as an unseen set.

Enters: folders with `user_sequence.txt.gz` and `item_plain_text.txt.gz`. Leaves: a Markdown table, printed and written
to docs/benchmarks/cooccurrence.md. Must hold: no test set is among the folders; all settings judge the same users; the
figure of a left-out category is that of the weights that are best on the others.

    python -m benchmarks.zeroshot.cooccurrence --data DATA/Games DATA/Phones DATA/Office DATA/CDs
"""

import argparse
import itertools
from pathlib import Path

import numpy as np

from benchmarks.tables import table
from benchmarks.zeroshot.sasrec import read_task
from pretrain.ranking.context import Context
from pretrain.ranking.metrics import hit_ratio
from zeroshot.baselines import Recommender, Star, TextPopularity, TextPopularityCooccurrence, item_vectors
from zeroshot.judge.judge import judge
from zeroshot.tasks.task import Task, choose_users

TEXT, POPULARITY, COOCCURRENCE, SATURATION = (2.0, 3.0, 4.0, 5.0), (0.35, 0.5), (2.0,), (20.0, 40.0, 80.0)
Weights = tuple[float, ...]


def settings() -> list[Weights]:
    """(text, popularity, co-occurrence, saturation) of each setting."""
    return list(itertools.product(TEXT, POPULARITY, COOCCURRENCE, SATURATION))


def hits(task: Task) -> dict[str | Weights, float]:
    """HR@10 under `new` of the two baselines beside which it stands, and of each setting."""
    vectors, trained = item_vectors(task.texts), task.training_histories
    context = Context(trained, len(task.items))
    others: dict[str | Weights, Recommender] = {
        "text+popularity": TextPopularity(vectors, trained),
        "star": Star(vectors, context),
    }
    ours = {weights: TextPopularityCooccurrence(vectors, trained, context, *weights) for weights in settings()}
    return {
        name: float(hit_ratio(judge(task, recommender, "new").ranks_N, 10).mean())
        for name, recommender in (others | ours).items()
    }


def best(found: dict[str, dict[str | Weights, float]]) -> Weights:
    """The setting with the highest mean over these categories."""
    return max(settings(), key=lambda weights: np.mean([figures[weights] for figures in found.values()]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", type=Path, required=True)
    parser.add_argument("--users", type=int, default=5_000, help="of each category, a seeded sample")
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks/cooccurrence.md"))
    options = parser.parse_args()
    found: dict[str, dict[str | Weights, float]] = {}
    for folder in options.data:
        task = read_task(folder)
        found[task.name] = hits(task.of(choose_users(len(task.users), options.users, 0)))
    names: list[str | Weights] = list(next(iter(found.values())))
    rows = [
        [name if isinstance(name, str) else " / ".join(f"{weight:g}" for weight in name)]
        + [f"{figures[name]:.4f}" for figures in found.values()]
        + [f"{np.mean([figures[name] for figures in found.values()]):.4f}"]
        for name in names
    ]
    left_out = []
    for name, figures in found.items():
        chosen = best({other: those for other, those in found.items() if other != name})
        left_out.append([name, " / ".join(f"{weight:g}" for weight in chosen), f"{figures[chosen]:.4f}"])
    lines = [
        "# Text, popularity and co-occurrence without training", "",
        f"`python -m benchmarks.zeroshot.cooccurrence --data {' '.join(folder.name for folder in options.data)}`", "",
        f"HR@10 under the protocol `new`, {options.users:,} users of each category (all where it has fewer). A setting "
        "is the weights of text, popularity and co-occurrence in nats, and the saturation of the co-occurrence. The "
        f"baseline has the setting with the highest mean, {' / '.join(f'{weight:g}' for weight in best(found))}.",
        "",
        *table(["", *found, "mean"], rows),
        "",
        "The figure of each category when the others choose the setting:", "",
        *table(["left out", "setting", "HR@10"], left_out),
    ]  # fmt: skip
    options.out.write_text("\n".join(lines), encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
