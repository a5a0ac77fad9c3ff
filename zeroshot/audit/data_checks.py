"""What a task's data show by themselves: is it the published data, was it cut before the target, in the right order?

Enters: a task as it will be judged, the shard folder it came from and that folder's manifest. Leaves: checks. Must
hold: histories are compared with the folder's bytes, read anew; what nature does (repeats, ids that rise with time) is
no fault.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats
from transformers.models.t5.tokenization_t5 import T5Tokenizer

from shards.build.sequences import ascending
from shards.manifest import Manifest
from shards.token_coverage import share, token_coverage
from shards.tokenizer import encode_texts
from zeroshot.audit.findings import LEVEL, Check, far_above
from zeroshot.protocol.recommender import TOP
from zeroshot.tasks.fingerprints import counts_match, sequences_match
from zeroshot.tasks.task import Task, full_lists, read_data

# In Toys 18% of the users have rising ids, as ids rise with time; sorted by id, all have.
MOST_SORTED = 0.5
MOST_AT_ONCE = 0.5
# More unknown tokens than a stray sign here and there leaves.
MANY_UNKNOWN = 0.01


def data_checks(task: Task, shards: str | Path, manifest: Manifest, tokenizer: T5Tokenizer) -> list[Check]:
    """Everything that the task's data show by themselves. tokenizer: that of the shards."""
    return [
        published_check(task),
        history_check(task, shards),
        repeats_check(task, manifest),
        names_check(task),
        order_check(task, manifest),
        texts_check(task, tokenizer),
        lists_check(task),
    ]


def published_check(task: Task) -> Check:
    """Are these the data that others publish numbers on?"""
    spec, counts = task.definition, (len(task.training_histories), len(task.items), task.num_interactions)
    same = counts_match(spec, *counts)
    counts_text = "{:,} users, {:,} items, {:,} interactions".format(*counts)
    if same is None:
        return Check(task.name, "published data", "passed", f"{counts_text}; nobody published counts for this task")
    assert spec.expected is not None
    expected = spec.expected
    if not same:
        wanted = f"{expected.users:,}, {expected.items:,} and {expected.interactions:,} ({expected.source})"
        return Check(task.name, "published data", "note", f"{counts_text}: NOT the published counts, {wanted}")
    bytewise = None if task.fingerprints is None else sequences_match(spec, task.fingerprints)
    if bytewise is False:
        words = f"{counts_text} as published, but other sequences than version {spec.version} of this task"
        return Check(task.name, "published data", "note", words)
    more = "; whether the sequences are the same is not known" if bytewise is None else ", sequences to the byte"
    return Check(task.name, "published data", "passed", f"{counts_text} as published ({expected.source}){more}")


def history_check(task: Task, shards: str | Path) -> Check:
    """Is every history the sequence without its target, and every training history without the validation item too, as
    the shard folder's bytes have them?"""
    _, _, holdout = read_data(shards, task.definition)
    row_of = {user: row for row, user in enumerate(holdout.users)}
    wrong_histories = wrong_targets = 0
    for user, history, target in zip(task.users, task.histories, task.targets, strict=True):
        row = row_of.get(user, -1)
        expected = np.append(holdout.histories[row], holdout.valid[row]) if row >= 0 else np.zeros(0, dtype=np.int64)
        wrong_histories += not np.array_equal(history, expected)
        wrong_targets += row < 0 or int(target) != int(holdout.test[row])
    training = [np.asarray(history).tobytes() for history in task.training_histories]
    honest = [history.astype(np.int64).tobytes() for history in holdout.histories]
    wrong_training = len(honest) - sum((Counter(training) & Counter(honest)).values())
    wrong_training = max(wrong_training, len(training) - len(honest))
    if not (wrong_histories or wrong_targets or wrong_training):
        words = (
            "every history ends before its target, every training history before the validation item, as in the shards"
        )
        return Check(task.name, "history", "passed", words)
    differences = [
        f"{count:,} {subject} differ from the shard folder's {part}"
        for count, subject, part in (
            (wrong_histories, "histories", "sequence[:-1]"),
            (wrong_targets, "targets", "sequence[-1]"),
            (wrong_training, "training histories", "sequence[:-2]"),
        )
        if count
    ]
    return Check(task.name, "history", "failed", "; ".join(differences))


def repeats_check(task: Task, manifest: Manifest) -> Check:
    """Do targets stand in the histories more often than nature repeats itself?

    Nature is what the last training items do: they repeat one before them in nearly as long a history. A history that
    was cut wrongly holds the target of nearly everyone. Where interactions were written twice both hold everyone's.
    """
    long_histories = [history for history in task.histories if len(history) >= 3]
    natural = sum(history[-2] in history[:-2] for history in long_histories)
    of_valid = sum(history[-1] in history[:-1] for history in long_histories)
    of_target = int((~task.target_is_new).sum())
    shares = f"{of_target / len(task.users):.1%} of the targets stand in their history"
    if not long_histories:
        return Check(task.name, "target in history", "unknown", f"{shares}; histories are too short to compare with")
    shares += f", {natural / len(long_histories):.1%} of the last training items in theirs"
    shares_of = ((of_target, len(task.users), "targets"), (of_valid, len(long_histories), "validation items"))
    for hits, total, subject in shares_of:
        if far_above(hits, total, natural, len(long_histories)):
            words = f"{shares}: {hits / total:.1%} of the {subject} are in what comes before them"
            words += ", far more than repeats give"
            return Check(task.name, "target in history", "failed", words)
    right_before = sum(target == history[-1] for history, target in zip(task.histories, task.targets, strict=True))
    again = cleaning_of(task, manifest).get("duplicates_removed", 0)
    shares += f"; {again:,} interactions that came twice were taken as one" if again else ""
    if right_before > MOST_AT_ONCE * len(task.users):
        share = f"{right_before / len(task.users):.1%} of the targets are the very item before them"
        return Check(task.name, "target in history", "note", f"{shares}; {share}: was each interaction written twice?")
    return Check(task.name, "target in history", "passed", f"{shares}: repeats as everywhere in these sequences")


def cleaning_of(task: Task, manifest: Manifest) -> Mapping[str, Any]:
    """What the build found and removed in the task's data set; nothing where the manifest does not say."""
    return next((member.cleaning for member in manifest.members if member.name == task.definition.dataset), {})


def names_check(task: Task) -> Check:
    """Do users' names hold their targets, more often than they hold the next user's?"""
    marks = [_marks(task, int(target)) for target in task.targets]
    own = sum(_holds(user, *mark) for user, mark in zip(task.users, marks, strict=True))
    others = sum(_holds(user, *mark) for user, mark in zip(task.users, marks[1:] + marks[:1], strict=True))
    total = len(task.users)
    words = f"{own:,} of {total:,} users' names hold their target's id or a word of its text"
    if far_above(own, total, others, total):
        return Check(task.name, "user names", "failed", f"{words}, {others:,} the next user's: the names give it away")
    return Check(task.name, "user names", "passed", f"{words}, {others:,} the next user's")


def _marks(task: Task, item: int) -> tuple[str, frozenset[str]]:
    """Id of an item without the data set, and the longer words of its text, in lower case."""
    raw = task.items[item].removeprefix(f"{task.definition.dataset}/").lower()
    return raw, frozenset(re.findall(r"[^\W_]{4,}", task.texts[item].lower()))


def _holds(user: str, item: str, words: frozenset[str]) -> bool:
    low = user.lower()
    return (len(item) >= 4 and item in low) or not words.isdisjoint(re.findall(r"[^\W_]{4,}", low))


def order_check(task: Task, manifest: Manifest) -> Check:
    """Are sequences in the order that the task promises, or in that of the item ids?"""
    sequences = [np.append(history, target) for history, target in zip(task.histories, task.targets, strict=True)]
    share, telling = share_sorted([item.removeprefix(f"{task.definition.dataset}/") for item in task.items], sequences)
    chance = float(np.mean([_chance_sorted(rows) for rows in sequences]))
    facts = cleaning_of(task, manifest)
    if facts.get("ties_drawn"):  # a draw hides nothing: the source is judged by the order that it had
        share = max(share, manifest.member(task.definition.dataset).share_sorted_by_id)
    words = f"{share:.1%} of the users have their items in the order of the item ids"
    if task.definition.order == "released":
        sound = share == 1 or not telling
        why = (
            "this task is the released order, which asks for the largest id" if sound else "the released order has all"
        )
        return Check(task.name, "order", "note" if sound else "failed", f"{words}: {why}")
    if manifest.order != "chronological":
        return Check(task.name, "order", "failed", f"the shards were built in {manifest.order} order; {words}")
    if (
        share > MOST_SORTED
        and stats.binomtest(round(share * telling), telling, min(chance, 1.0), "greater").pvalue < LEVEL
    ):
        return Check(task.name, "order", "failed", f"{words}; by chance it would be {chance:.1%}: not chronological")
    data, spec = task.fingerprints, task.definition
    if data is not None and data.interactions == spec.interactions_sha256 and sequences_match(spec, data) is False:
        words = f"the same interactions as version {spec.version} of this task, but in another order; {words}"
        return Check(task.name, "order", "failed", words)
    words, ties = f"{words} (by chance {chance:.1%})", facts.get("ties", 0)
    if facts.get("ties_drawn"):
        words += f"; {ties:,} neighbours of one moment stood in the order of the ids, and their order is drawn"
        return Check(task.name, "order", "note", words)
    words += f"; {ties:,} neighbours of one moment stand as in the source" if ties else ""
    return Check(task.name, "order", "passed", words)


def share_sorted(items: Sequence[str], sequences: Sequence[np.ndarray]) -> tuple[float, int]:
    """(share of the sequences that rise or fall by item id, sequences that could tell): ids as text, or as numbers."""
    offsets = np.cumsum([0, *map(len, sequences)])
    rows = np.concatenate(sequences)
    keys: list[Sequence[str] | Sequence[int]] = [items]
    if all(re.fullmatch(r"[0-9]{1,18}", item) for item in items):
        keys.append([int(item) for item in items])
    shares, telling = [0.0], 0
    for key in keys:
        ranks_I = np.empty(len(items), dtype=np.int64)
        ranks_I[sorted(range(len(items)), key=key.__getitem__)] = np.arange(len(items))
        for direction in (1, -1):
            in_order, says = ascending(offsets, direction * ranks_I[rows])
            telling = int(says.sum())
            shares.append(float(in_order.sum()) / max(telling, 1))
    return max(shares), telling


def _chance_sorted(rows: np.ndarray) -> float:
    """Probability that a shuffled sequence is in order."""
    ways = math.lgamma(len(rows) + 1) - sum(math.lgamma(count + 1) for count in Counter(rows.tolist()).values())
    return math.exp(-ways)


def texts_check(task: Task, tokenizer: T5Tokenizer) -> Check:
    """How many items say the same to a model as another, or nothing? An ID for such an item is a guess."""
    token_ids = encode_texts(tokenizer, list(task.texts))
    counts = Counter(map(tuple, token_ids))
    same = sum(count for count in counts.values() if count > 1)
    read = token_coverage(tokenizer, task.texts, token_ids)
    words = (
        f"{same:,} of {len(task.texts):,} items share their text with another, {sum(read.bare):,} have none; "
        f"unknown tokens: {share(read.unknown, read.tokens)}"
    )
    doubtful = same or any(read.bare) or read.unknown > MANY_UNKNOWN * read.tokens
    return Check(task.name, "texts", "note" if doubtful else "passed", words)


def lists_check(task: Task) -> Check:
    """How many users get a list that holds every item that is left to rank? Such a list proves nothing."""
    shares = [f"{share:.1%} of the users under `{protocol}`" for protocol, share in full_lists(task).items() if share]
    if not shares:
        return Check(task.name, "length of lists", "passed", f"every user has more than {TOP} items to rank")
    words = f"at most {TOP} items are left to rank for {', '.join(shares)}: HR@{TOP} is 1 there for any list"
    return Check(task.name, "length of lists", "note", words)
