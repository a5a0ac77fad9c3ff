"""The tables that the documentation makes of judged runs on real data.

Enters: what is kept of them (`kept.py`). Leaves: tables between the marks of README.md, docs/results.md and its
appendix. Must hold: every figure of a table is computed from kept ranks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path

import polars as pl

from benchmarks.results.choices import PROTOCOLS, ablations, checkpoints, choices, metrics, mixture
from benchmarks.results.curve import curve
from benchmarks.results.kept import KEPT, hits_of, runs_of
from benchmarks.tables import table
from zeroshot.compare.comparison import Judged
from zeroshot.compare.pooled_seeds import against_peers
from zeroshot.judge.rows import COMPARED
from zeroshot.judge.significance import paired_difference, permutation_test
from zeroshot.protocol.config import TEXT_BLEND
from zeroshot.report import published_tables
from zeroshot.report.formatting import p_text, signed_text

ROOT = Path(__file__).parents[2]
PAGES = (ROOT / "README.md", ROOT / "docs" / "results.md", ROOT / "docs" / "results-appendix.md")
SHOWN = ("untrained", "random", "popularity", "repeat", "tfidf-last", "tfidf-decayed", "text+popularity")
"""Whom the released recipe's table names, beside the model and its blend."""
STAND_IN = ("Sports", "Instruments")
"""Sets whose texts are no item texts (words of IDs, words of reviews): never in one table with the others."""


def ranks_of(runs: dict[str, list[Judged]], name: str) -> pl.DataFrame:
    """The ranks of one recommender in the reports of all seeds."""
    beside = (run.peers.filter(recommender=name) for run in runs["idgenrec"])
    return pl.concat([run.ranks for run in runs[name]] if name in runs else beside)


def of_paper(task: str) -> str:
    """The paper's zero-shot cells of a set, with what is wrong with them."""
    cells = [
        cell for metric in COMPARED for cell in published_tables.cells([7])
        if (cell.model, cell.dataset, cell.metric) == ("IDGenRec", task, metric)
    ]  # fmt: skip
    marks = ", ".join(dict.fromkeys(mark for cell in cells for mark in cell.marks))
    values = " / ".join(f"{cell.value:.4f}" for cell in cells)
    return f"{values} ({marks})" if marks else values or "–"


def released(runs: dict[str, list[Judged]], tasks: list[str]) -> list[str]:
    """The released recipe on these sets beside the others, a table for each protocol."""
    lines = []
    for protocol, meaning in PROTOCOLS.items():
        rows = [
            [name, *(metrics(ranks_of(runs, name), task, protocol) or "–" for task in tasks)]
            for name in (*runs, *SHOWN)
        ]
        if protocol == "all":
            rows.append(["the paper's Table 7, IDGenRec", *map(of_paper, tasks)])
        lines += [f"**{protocol}** ({meaning}), HR@10 / NDCG@10:", "", *table(["", *tasks], rows)]
    return lines


def summary(runs: dict[str, list[Judged]], tasks: list[str]) -> list[str]:
    """The released recipe in few columns: HR@10 over every item."""
    shown = {"the model": "idgenrec", "with text and popularity": TEXT_BLEND, "these two alone": "text+popularity",
             "TF-IDF": "tfidf-decayed", "popularity": "popularity", "repeat": "repeat",
             "before training": "untrained"}  # fmt: skip
    rows = []
    for task in tasks:
        cells = [*(metrics(ranks_of(runs, name), task, "all") or "–" for name in shown.values()), of_paper(task)]
        rows.append([task, *(cell.split(" / ")[0] for cell in cells)])
    return table(["unseen set", *shown, "the paper's Table 7"], rows)


def differences(runs: dict[str, list[Judged]], tasks: list[str]) -> list[str]:
    """What model and blend are above each of those beside them on these sets, by HR@10 over seeds and users: a table
    for each protocol, and for users with a new target where they are fewer."""
    found: dict[tuple[str, str], dict[str, dict[str, str]]] = {}
    sizes: dict[str, int] = {}
    for model, judged in runs.items():
        seeds = {run.name: run.ranks.filter(pl.col("task").is_in(tasks)) for run in judged}
        peers = {run.name: run.peers.filter(pl.col("task").is_in(tasks)) for run in judged}
        for entry in against_peers(model, seeds, peers, 0):
            task = entry["task"]
            if entry["metric"] != "HR@10" or entry["other"] not in SHOWN:
                continue
            if entry["num_users"] == sizes.setdefault(task, entry["num_users"]) and entry["users"] != "all":
                continue
            rows = found.setdefault((entry["protocol"], entry["users"]), {})
            rows.setdefault(f"{model} minus {entry['other']}", {})[task] = (
                f"{signed_text(entry['difference'])} ({signed_text(entry['low'])} to {signed_text(entry['high'])}), "
                f"p {p_text(entry['p_holm'])}"
            )
    lines = []
    for (protocol, users), rows in sorted(found.items()):
        held = list(dict.fromkeys(task for cells in rows.values() for task in cells))
        meaning = PROTOCOLS[protocol] + ("; users with a new target alone" if users != "all" else "")
        body = [[who, *(cells.get(task, "–") for task in held)] for who, cells in rows.items()]
        lines += [f"**{protocol}** ({meaning}):", "", *table(["", *held], body)]
    return lines


def beside(
    reference: dict[str, list[Judged]], other: dict[str, list[Judged]], tasks: list[str], names: tuple[str, str],
    shown: Sequence[tuple[str, str]] = (("all", "HR@10"),),
) -> list[str]:  # fmt: skip
    """The seeds of one recipe beside those of another, on the same users of these sets, by protocol and metric: the
    paired difference of the second from the first with interval and p value, uncorrected. A blend that the first has
    not stands beside its model."""
    rows = []
    for protocol, metric in shown:
        for model, task in product(other, tasks):
            seeds = reference[model if model in reference else "idgenrec"]
            hits_SN = hits_of([(run.ranks, run.model) for run in [*seeds, *other[model]]], task, protocol, metric)
            theirs, mine = hits_SN[: len(seeds)].mean(axis=0), hits_SN[len(seeds) :].mean(axis=0)
            mean, low, high = paired_difference(mine, theirs, 0)
            p = permutation_test(mine, theirs, 0)
            rows.append([
                f"{task}, {model}", f"{metric}, {protocol}", f"{theirs.mean():.4f}", f"{mine.mean():.4f}",
                f"{signed_text(mean)} ({signed_text(low)} to {signed_text(high)}), p {p_text(float(p))}",
            ])  # fmt: skip
    return table(["", "metric", *names, "difference"], rows)


def returning(runs: dict[str, list[Judged]], task: str) -> list[str]:
    """How many users' targets stand among the first ten of `all`, the mean over the seeds: targets that are in the
    history, and new ones."""
    seeds, rows, whom = len(runs["idgenrec"]), [], []
    for name in ("idgenrec", TEXT_BLEND, *SHOWN[1:]):
        ranks = ranks_of(runs, name).filter(task=task, protocol="all")
        parts = [ranks.filter(target_is_new=new) for new in (False, True)]
        whom = [f"{parts[0].height // seeds} in the history", f"{parts[1].height // seeds} new"]
        rows.append([name, *(f"{part.filter(pl.col('rank') <= 10).height / seeds:g}" for part in parts)])
    return table([f"targets of {task} found", *whom], rows)


def written(text: str, name: str, lines: list[str]) -> str:
    """The text of a page with these lines between its marks `<!-- NAME -->` and `<!-- end of NAME -->`; as it was
    where it has none."""
    begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    if begin not in text:
        return text
    head, rest = text.split(begin, 1)
    return f"{head}{begin}\n\n{chr(10).join(lines).rstrip()}\n\n{end}{rest.split(end, 1)[1]}"


def pages() -> dict[Path, str]:
    """README.md and the two pages of results with the tables of what is kept; ValueError for a table without
    marks."""
    runs, earlier = runs_of(KEPT / "released"), runs_of(KEPT / "earlier")
    alone, alternation = (runs_of(KEPT / "alternation" / name) for name in ("recommender", "alternation"))
    texts, read = runs_of(KEPT / "texts"), ("released: reads IDs", "reads texts, one seed")
    tasks = list(runs["idgenrec"][0].protocols)
    real, stand_in = ([task for task in tasks if (task in STAND_IN) == is_one] for is_one in (False, True))
    parts: dict[str, Callable[[], list[str]]] = {
        "choices": lambda: choices(KEPT / "choices"),
        "ablations": lambda: ablations(
            {name: KEPT / "alternation" / name / "seed-0" for name in ("recommender", "alternation")}
            | {path.name: path for path in sorted((KEPT / "ablations").iterdir())},
            reference="recommender",
        ),
        "user ids": lambda: ablations(
            {"items": KEPT / "ablations" / "titles"}
            | {name: KEPT / "user-ids" / name for name in ("users-and-items", "users")},
            reference="items",
        ),
        "training": lambda: ablations(
            {"released": KEPT / "ablations" / "titles"}
            | {path.name: path for path in sorted((KEPT / "training").iterdir())},
            reference="released",
        ),
        "reading": lambda: ablations(
            {name: KEPT / "reading" / name for name in ("ids", "texts")}, reference="ids", metric="NDCG@10"
        ),
        "released": lambda: released(runs, real),
        "stand-in texts": lambda: released(runs, stand_in),
        "differences": lambda: differences(runs, real),
        "differences, stand-in texts": lambda: differences(runs, stand_in),
        "summary": lambda: summary(runs, real),
        "reading, Phones": lambda: ablations(
            {name: KEPT / "phones" / name for name in ("ids", "texts")}, reference="ids", metric="NDCG@10"
        ),
        "prior, Phones": lambda: ablations(
            {"0.75": KEPT / "phones" / "ids"}
            | {weight: KEPT / "phones" / f"prior-{weight}" for weight in ("0", "0.5", "1")},
            reference="0.75",
        ),
        "checkpoints": checkpoints,
        "mixture": mixture,
        "returning": lambda: returning(runs, "Yelp"),
        "soft ids": lambda: ablations(
            {"softmax(logits) E": KEPT / "alternation" / "alternation" / "seed-0"}
            | {path.name: path for path in sorted((KEPT / "soft-ids").iterdir())},
            reference="softmax(logits) E",
        ),
        "texts": lambda: beside(runs, texts, real, read, list(product(["all"], COMPARED))),
        "texts, stand-in texts": lambda: beside(runs, texts, stand_in, read, list(product(["all"], COMPARED))),
        "gpu": lambda: beside(
            runs, runs_of(KEPT / "gpu"), real, ("released, 9,600 samples", "one GPU, 115,200 samples")
        ),
        "share": lambda: beside(runs, runs_of(KEPT / "share"), real, ("released", "0.7 of the change, one seed")),
        "earlier": lambda: summary(earlier, list(earlier["idgenrec"][0].protocols)),
        "alternation": lambda: beside(
            alone, alternation, ["Office"], ("recommender alone", "alternation"), list(product(PROTOCOLS, COMPARED))
        ),
        "curve": lambda: curve(KEPT / "curve"),
        "curve beside": lambda: ablations(
            {path.name: path for path in sorted((KEPT / "curve").iterdir(), key=lambda path: int(path.name))}, "150"
        ),
    }
    found = {page: page.read_text(encoding="utf-8") for page in PAGES}
    for name in parts:  # before anything is computed
        if not any(f"<!-- {name} -->" in text for text in found.values()):
            raise ValueError(f"no page has the marks <!-- {name} --> and <!-- end of {name} -->")
    for name, made in parts.items():
        lines = made()
        found = {page: written(text, name, lines) for page, text in found.items()}
    return found
