"""What a report may say in words, computed from the results.

Enters: a results object. Leaves: one claim per (model, task, protocol, users) and the headline sentences. What must
hold: a model is called better than a baseline only when the 95% interval of the paired difference lies above zero,
worse only when it lies below, on the same users; the wording is the same whichever way it falls.
"""

from dataclasses import dataclass
from typing import Any

METRIC = "HR@10"
PROTOCOL_WORDS = {
    "all": "every item ranked, as in the paper",
    "new": "the history taken out of the list",
}
TEXT_MATCH = "tfidf"
"""Baselines whose name starts so match texts; the strongest of them on a task is the one compared with."""


@dataclass(frozen=True)
class Against:
    """A paired difference, model minus baseline, of HR@10 with its 95% interval."""

    baseline: str
    difference: float
    low: float
    high: float

    @property
    def verdict(self) -> str:
        """`above`, `below` or `no clear difference`."""
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


def claims(results: dict[str, Any], users: str = "all") -> list[Claim]:
    """The claims about every model, by task and protocol in the order of the rows, for one group of users."""
    found: list[Claim] = []
    chosen = [row for row in results["rows"] if row["users"] == users]
    for row in (row for row in chosen if row["kind"] == "model"):
        where = (row["task"], row["protocol"])
        peers = {peer["recommender"]: peer for peer in chosen if (peer["task"], peer["protocol"]) == where}
        against = {
            entry["baseline"]: Against(entry["baseline"], entry["difference"], entry["low"], entry["high"])
            for entry in results["comparisons"]
            if (entry["task"], entry["protocol"]) == where
            and (entry["users"], entry["recommender"], entry["metric"]) == (users, row["recommender"], METRIC)
            and entry["baseline"] in peers
        }
        by_strength = sorted(against, key=lambda name: -peers[name]["metrics"][METRIC])
        texts = [name for name in by_strength if name.startswith(TEXT_MATCH)]
        value = row["metrics"][METRIC]
        low, high = row["intervals"].get(METRIC, (value, value))
        found.append(
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
    return found


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
        said = " and ".join(part for part in counts if part) or "has no baseline beside it, so nothing can be claimed"
        words = PROTOCOL_WORDS.get(protocol, protocol)
        sentences.append(f"By {METRIC}, {words}, {model} {said}.")
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
