"""What a report may claim, computed from the results.

Enters: a results object. Leaves: one claim per (model, task, protocol, users), the headline sentences, and the headline
table: a row per unseen set and model with the best training-free baseline, the paired difference, the paper's Table 7
and the ceiling beside the number. What must hold: a model is called better than a baseline only when the 95% interval
of the paired difference lies above zero and the paired test holds after Holm's correction, worse only when it lies
below, on the same users; the wording is the same whichever way it falls; a baseline trained on the unseen set (the
ceiling), or a control, is never counted as training-free; all of a row is under one protocol and about one group of
users; the paper stands beside `all` alone, the protocol it ranks under.
"""

from dataclasses import dataclass
from typing import Any

from zeroshot.report import published_tables

METRIC = "HR@10"
LEVEL = 0.05
"""Largest corrected p value with which a difference is called clear."""
PROTOCOL_WORDS = {
    "all": "every item ranked, as in the paper",
    "new": "the history taken out of the list",
}
TEXT_MATCH = "tfidf"
"""Baselines whose name starts so match texts; the strongest of them on a task is the one compared with."""


HEADLINE_METRICS = ("HR@10", "NDCG@10")
PAPER_MODELS = ("UniSRec", "IDGenRec")


@dataclass(frozen=True)
class Against:
    """A paired difference, model minus baseline, of one metric, with its 95% interval and the corrected p value."""

    baseline: str
    difference: float
    low: float
    high: float
    p_holm: float
    effect: float | None

    @property
    def verdict(self) -> str:
        """`above`, `below` or `no clear difference`."""
        if self.p_holm >= LEVEL:
            return "no clear difference"
        return "above" if self.low > 0 else "below" if self.high < 0 else "no clear difference"


@dataclass(frozen=True)
class Claim:
    """HR@10 of a model on a task with its interval, and how it stands to the baselines."""

    model: str
    task: str
    protocol: str
    users: str
    num_users: int
    value: float
    low: float
    high: float
    popularity: Against | None
    text_match: Against | None
    strongest: Against | None


def full_lists_mark(results: dict[str, Any], task: str, protocol: str) -> str:
    """What stands beside numbers of a task where a list of ten holds all that is left to rank; empty elsewhere, and
    where results of an older version do not say."""
    share = results["tasks"][task].get("full_lists", {}).get(protocol, 0.0)
    return f" (proves nothing for {share:.1%} of the users: their lists hold every item that is left)" if share else ""


def claims(results: dict[str, Any], users: str = "all") -> list[Claim]:
    """The claims about every model, by task and protocol in the order of the rows, for one group of users."""
    made: list[Claim] = []
    chosen = [row for row in results["rows"] if row["users"] == users]
    for row in (row for row in chosen if row["kind"] == "model"):
        against = differences(results, row, METRIC)
        by_strength = sorted(against, key=lambda name: against[name].difference)
        texts = [name for name in by_strength if name.startswith(TEXT_MATCH)]
        value = row["metrics"][METRIC]
        low, high = row["intervals"].get(METRIC, (value, value))
        made.append(
            Claim(
                model=row["recommender"],
                task=row["task"],
                protocol=row["protocol"],
                users=users,
                num_users=row["num_users"],
                value=value,
                low=low,
                high=high,
                popularity=against.get("popularity"),
                text_match=against[texts[0]] if texts else None,
                strongest=against[by_strength[0]] if by_strength else None,
            )
        )
    return made


def differences(
    results: dict[str, Any], row: dict[str, Any], metric: str, kinds: tuple[str, ...] = ("baseline",)
) -> dict[str, Against]:
    """Differences of the row's recommender to each opponent of the kinds, on the same task, protocol and users.

    The opponent with the smallest difference is the strongest on the users of the pairs.
    """
    where = {key: row[key] for key in ("task", "protocol", "users")}
    opponents = {
        peer["recommender"] for peer in results["rows"] if where.items() <= peer.items() and peer["kind"] in kinds
    }
    return {
        entry["baseline"]: Against(
            entry["baseline"], entry["difference"], entry["low"], entry["high"], entry["p_holm"], entry["effect"]
        )
        for entry in results["comparisons"]
        if (where | {"recommender": row["recommender"], "metric": metric}).items() <= entry.items()
        and entry["baseline"] in opponents
    }


def headline(results: dict[str, Any]) -> list[str]:
    """One sentence per (model, protocol) on how many unseen sets the model beats popularity and the text match."""
    sentences: list[str] = []
    judged: dict[tuple[str, str], list[Claim]] = {}
    for claim in claims(results):
        judged.setdefault((claim.model, claim.protocol), []).append(claim)
    for (model, protocol), group in judged.items():
        counts = [
            tally("popularity", [claim.popularity for claim in group]),
            tally("a text match without training (TF-IDF)", [claim.text_match for claim in group]),
        ]
        verdicts = (
            " and ".join(part for part in counts if part) or "has no baseline beside it, so nothing can be claimed"
        )
        words = PROTOCOL_WORDS.get(protocol, protocol)
        sentences.append(f"By {METRIC}, {words}, {model} {verdicts}.")
    return sentences


def tally(baseline: str, group: list[Against | None]) -> str:
    """`beats X on a of n unseen sets (loses on b, undecided on c)`, or nothing when X was not judged."""
    verdicts = [against.verdict for against in group if against is not None]
    if not verdicts:
        return ""
    above, below = verdicts.count("above"), verdicts.count("below")
    sets = "unseen set" if len(verdicts) == 1 else "unseen sets"
    undecided = len(verdicts) - above - below
    return f"beats {baseline} on {above} of {len(verdicts)} {sets} (loses on {below}, undecided on {undecided})"


def sentence(claim: Claim) -> str:
    """One set in words: HR@10 with its interval and the differences to popularity and to the text match."""
    parts = [f"{claim.model} {METRIC} {claim.value:.4f} ({claim.low:.4f} to {claim.high:.4f})"]
    strongest = claim.strongest if claim.strongest not in (claim.popularity, claim.text_match) else None
    for against in (claim.popularity, claim.text_match, strongest):
        if against is not None:
            size = f"{against.difference:+.4f} ({against.low:+.4f} to {against.high:+.4f})".replace("-", "\u2212")
            relation = {"above": "above", "below": "below"}.get(against.verdict, "not clearly different from")
            parts.append(f"{relation} {against.baseline}: {size}")
    return f"{claim.task}, {claim.protocol}: {'; '.join(parts)}."


def headline_rows(results: dict[str, Any], protocol: str, users: str = "all") -> list[dict[str, Any]]:
    """One row per (task, model) judged under the protocol, in the order of the results."""
    return [
        {
            "task": row["task"],
            "model": row["recommender"],
            "num_users": row["num_users"],
            "mark": full_lists_mark(results, row["task"], protocol),
            "values": {metric: (row["metrics"][metric], *row["intervals"][metric]) for metric in HEADLINE_METRICS},
            "best": {metric: best(results, row, metric) for metric in HEADLINE_METRICS},
            "ceiling": {metric: ceiling(results, row, metric) for metric in HEADLINE_METRICS},
            "paper": {model: paper_cells(row["task"], model) for model in PAPER_MODELS} if protocol == "all" else {},
        }
        for row in results["rows"]
        if (row["kind"], row["protocol"], row["users"]) == ("model", protocol, users)
    ]


def best(results: dict[str, Any], row: dict[str, Any], metric: str) -> tuple[float, Against] | None:
    """The strongest training-free baseline on the row's users: (its value there, the difference to it), if any."""
    against = differences(results, row, metric).values()
    if not against:
        return None
    strongest = min(against, key=lambda one: one.difference)
    return row["metrics"][metric] - strongest.difference, strongest


def ceiling(results: dict[str, Any], row: dict[str, Any], metric: str) -> tuple[str, float] | None:
    """The best recommender trained on the set itself: (name, value), if one was judged."""
    where = {key: row[key] for key in ("task", "protocol", "users")} | {"kind": "supervised"}
    values = {peer["recommender"]: peer["metrics"][metric] for peer in results["rows"] if where.items() <= peer.items()}
    return max(values.items(), key=lambda pair: pair[1]) if values else None


def paper_cells(dataset: str, model: str) -> dict[str, published_tables.Cell]:
    """Metric -> the printed cell of Table 7; empty where the paper does not have the data set."""
    return {
        cell.metric: cell
        for cell in published_tables.cells([7])
        if (cell.dataset, cell.model) == (dataset, model) and cell.metric in HEADLINE_METRICS
    }
