"""How the weights of the baseline `text+popularity` were chosen: each pretraining category as an unseen set.

Enters: folders with `user_sequence.txt.gz` and `item_plain_text.txt.gz`. Leaves: a Markdown table, printed and written
to docs/benchmarks/text-popularity.md. Must hold: no test set is among the folders; all settings judge the same users;
differences from the text match are paired.

    python -m benchmarks.zeroshot.text_popularity --data DATA/Games DATA/Phones DATA/Office
"""

import argparse
from pathlib import Path

from benchmarks.tables import table
from benchmarks.zeroshot.sasrec import read_task
from pretrain.ranking.metrics import per_user
from zeroshot.baselines import Popularity, Recommender, TextPopularity, TfidfDecayed, TfidfLast, item_vectors
from zeroshot.baselines.text_popularity import TEXT_WEIGHT
from zeroshot.judge.judge import judge
from zeroshot.judge.significance import bootstrap_interval
from zeroshot.report.formatting import signed_text
from zeroshot.tasks.task import Task, choose_users

METRIC = "HR@10"
POPULARITIES = (0.0, 0.1, 0.2, 0.35, 0.5, 0.7)


def recommenders(task: Task) -> dict[str, Recommender]:
    """The text match first, the others by how a table calls them."""
    vectors, trained = item_vectors(task.texts), task.training_histories
    return {
        "tfidf-decayed": TfidfDecayed(vectors),
        "tfidf-last": TfidfLast(vectors),
        "popularity": Popularity(trained, len(task.items)),
        **{
            f"{TEXT_WEIGHT:g} / {weight:g}": TextPopularity(vectors, trained, popularity_weight=weight)
            for weight in POPULARITIES
        },
    }


def figures(task: Task) -> dict[str, str]:
    """Of each recommender its figure and, behind the text match, the difference from it with a 95% interval."""
    found: dict[str, str] = {}
    match_N = None
    for name, recommender in recommenders(task).items():
        hits_N = per_user(judge(task, recommender, "new").ranks_N)[METRIC]
        if match_N is None:
            match_N, found[name] = hits_N, f"{hits_N.mean():.4f}"
            continue
        low, high = bootstrap_interval(hits_N - match_N, 0)
        difference = signed_text(float((hits_N - match_N).mean()))
        found[name] = f"{hits_N.mean():.4f} ({difference}, {signed_text(low)} to {signed_text(high)})"
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", type=Path, required=True)
    parser.add_argument("--users", type=int, default=3_000, help="of each category, a seeded sample")
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks/text-popularity.md"))
    options = parser.parse_args()
    data = [folder.name for folder in options.data]
    found: dict[str, dict[str, str]] = {}
    for folder in options.data:
        task = read_task(folder)
        task = task.of(choose_users(len(task.users), options.users, 0))
        found[f"{task.name} ({len(task.users):,} users)"] = figures(task)
    names = list(next(iter(found.values())))
    rows = [[name, *(cells[name] for cells in found.values())] for name in names]
    lines = [
        "# Text and popularity without training", "",
        f"`python -m benchmarks.zeroshot.text_popularity --data {' '.join(data)}`", "",
        f"{METRIC} under the protocol `new`, followed by the paired difference from `tfidf-decayed` with a 95% "
        "interval. The last rows vary the weights of `text+popularity`: nats for a cosine of 1, and nats for each "
        "factor e of the count.",
        "",
        *table(["", *found], rows),
    ]  # fmt: skip
    options.out.write_text("\n".join(lines), encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
