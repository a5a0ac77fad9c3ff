"""Exposure: which users and items of an unseen task did the checkpoint meet in training?

Enters: a task, the checkpoint (its ID book names every item of the pretraining catalogue) and, where it is at hand, the
shard folder of its training, known by the manifest hash in the checkpoint. Leaves: checks. Must hold: ids of different
kinds are not compared, and what could not be looked up is "unknown", never 0.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from shards.build.overlap import ITEM_SPACES, MIN_WORDS, NEARLY_ALL, USER_SPACES, Overlap
from shards.manifest import Manifest
from shards.tables import load_holdout, load_items
from zeroshot.audit.findings import Check, Verdict, heaviest
from zeroshot.tasks.task import Task

BOOK = "book.arrow"
ASK = "give the shard folder of its training with --pretraining-shards"


@dataclass(frozen=True)
class Pretraining:
    """What is known of a checkpoint's training data, by category.

    items: raw ids. texts, users: None where the shard folder is not at hand. manifest: that folder's.
    """

    items: Mapping[str, list[str]]
    texts: Mapping[str, list[str]] | None = None
    users: Mapping[str, list[str]] | None = None
    manifest: Manifest | None = None


def find_pretraining(checkpoint: Path, manifest_sha256: str, folders: Sequence[str], given: str | None) -> Pretraining:
    """What the checkpoint was trained on, from the first of `folders` that has its manifest hash, else from its book.

    Raises:
        ValueError: the folder `given` by a person is not that of the checkpoint's training.
    """
    for folder in [*([given] if given else []), *folders]:
        manifest = as_trained(Manifest.load(folder), manifest_sha256)
        if manifest is not None:
            return from_shards(folder, manifest)
        if folder == given:
            raise ValueError(f"{checkpoint} was not trained on {given}: its manifest has another hash")
    if not (checkpoint / BOOK).is_file():
        return Pretraining({})
    with pa.memory_map(str(checkpoint / BOOK)) as source:
        names = pa.ipc.open_file(source).read_all().column("item").to_pylist()
    items_of: dict[str, list[str]] = {}
    for name in names:
        category, item = name.split("/", 1)
        items_of.setdefault(category, []).append(item)
    return Pretraining(items_of)


def as_trained(manifest: Manifest, sha256: str) -> Manifest | None:
    """The manifest with that hash: this one, or this one before data sets were added to its folder; None otherwise."""
    for count in range(len(manifest.members), 0, -1):
        names = {member.name for member in manifest.members[:count]}
        overlap = tuple(pair for pair in manifest.overlap if names >= {pair["train"], pair["test"]})
        before = replace(manifest, members=manifest.members[:count], overlap=overlap)
        if before.sha256() == sha256:
            return before
    return None


def from_shards(folder: str, manifest: Manifest) -> Pretraining:
    """All that a shard folder says of its train categories."""
    tables = {member.name: load_items(folder, manifest, member.name) for member in manifest.train_members}
    return Pretraining(
        items={name: [item.removeprefix(f"{name}/") for item in table.items] for name, table in tables.items()},
        texts={name: table.texts for name, table in tables.items()},
        users={member.name: load_holdout(folder, member).users for member in manifest.train_members},
        manifest=manifest,
    )


def exposure_checks(task: Task, known: Pretraining) -> list[Check]:
    """Items, users and periods of the task against the checkpoint's training data."""
    return [items_check(task, known), users_check(task, known), later_check(task, known)]


def items_check(task: Task, known: Pretraining) -> Check:
    """Items of the task that were trained on: failed where there is one."""
    name = "items in pretraining"
    if not known.items:
        return Check(task.name, name, "unknown", f"the checkpoint does not say which items it was trained on; {ASK}")
    raw = [item.removeprefix(f"{task.definition.dataset}/") for item in task.items]
    titles = {title for text in task.texts if (title := title_words(text))}
    verdicts: list[Verdict] = []
    parts: list[str] = []
    for category, items in known.items.items():
        texts = None if known.texts is None else known.texts[category]
        equal = sum(title_words(text) in titles for text in texts or ())
        if comparable(space(items, ITEM_SPACES), space(raw, ITEM_SPACES)):
            both = len(set(items) & set(raw))
            verdicts.append("failed" if both else "note" if equal else "passed")
            parts.append(f"{both:,} items of {category}" + (f" ({equal:,} titles are equal)" if equal else ""))
        elif texts is not None and titles and any(title_words(text) for text in texts):
            verdicts.append("failed" if equal else "unknown")
            parts.append(f"{category}: ids cannot be compared, {equal or 'no'} titles are equal")
        else:
            verdicts.append("unknown")
            parts.append(f"{category}: cannot be checked" + ("" if known.manifest else f", {ASK}"))
    return Check(task.name, name, heaviest(verdicts), _sentence("trained on and judged", parts, recorded(task, known)))


def users_check(task: Task, known: Pretraining) -> Check:
    """Users of the task that were trained on: a note, as what they did elsewhere is no answer here."""
    name = "users in pretraining"
    if known.users is None:
        return Check(task.name, name, "unknown", f"the checkpoint does not say which users it was trained on; {ASK}")
    verdicts: list[Verdict] = []
    parts: list[str] = []
    # Under a split in time the shards name the held-out users alone, so of the others nothing is known.
    all_named = known.manifest is not None and known.manifest.split == "leave-one-out"
    for category, users in known.users.items():
        if not comparable(space(users, USER_SPACES), space(task.users, USER_SPACES)):
            verdicts.append("unknown")
            parts.append(f"{category}: cannot be checked, ids of different kinds")
            continue
        both = len(set(users) & set(task.users))
        verdicts.append("note" if both else "passed" if all_named else "unknown")
        parts.append(f"{both:,} users of {category}" + ("" if all_named else " among those held out there"))
    return Check(task.name, name, heaviest(verdicts), _sentence("trained on and judged", parts, recorded(task, known)))


def recorded(task: Task, known: Pretraining) -> list[str]:
    """What the build of the training shards found, dropped or could not check against the data set of this name."""
    names = {field.name for field in fields(Overlap)}
    pairs = known.manifest.overlap if known.manifest else ()
    mine = [Overlap(**pair) for pair in pairs if pair["test"] == task.definition.dataset and set(pair) == names]
    return [pair.line() for pair in mine if (pair.items, pair.users) != (0, 0)]


def later_check(task: Task, known: Pretraining) -> Check:
    """Was there training on events later than the test period? Only a split in time records a moment."""
    name = "later events"
    manifest = known.manifest
    members = [] if manifest is None else [*manifest.train_members]
    moments: list[Any] = [member.cleaning.get("split_moment") for member in members]
    test = [member for member in (manifest.test_members if manifest else ()) if member.name == task.definition.dataset]
    begins = test[0].cleaning.get("split_moment") if test else None
    if begins is None or not moments or any(moment is None for moment in moments):
        words = "the shards hold no times, so training may have seen events later than the test items"
        return Check(task.name, name, "unknown", words)
    late = [member.name for member, moment in zip(members, moments, strict=True) if moment > begins]
    if late:
        words = f"training ends later than this task's targets begin in {', '.join(late)}"
        return Check(task.name, name, "note", words)
    return Check(task.name, name, "passed", "every training event is earlier than every target of this task")


def space(ids: Sequence[str], spaces: Mapping[str, str]) -> str:
    """The kind of ids that nearly all of these are, "other" where none fits, as the overlap audit of a build has it."""
    for name, pattern in spaces.items():
        matches = re.compile(pattern).fullmatch
        if ids and sum(matches(one) is not None for one in ids) >= NEARLY_ALL * len(ids):
            return name
    return "other"


def comparable(one: str, other: str) -> bool:
    """Whether equal ids mean the same thing: numbers that somebody put in the place of ids never do."""
    return one == other != "anonymous"


def title_words(text: str) -> str | None:
    """The words of the first field, lower case, where there are enough to tell a thing; as the build's audit has it."""
    field = re.match(r"[^:;]*: ([^;]*)", text)
    words = re.sub(r"[\W_]+", " ", field.group(1).lower()).split() if field else []
    return " ".join(words) if len(words) >= MIN_WORDS else None


def _sentence(relation: str, parts: list[str], built: list[str]) -> str:
    return f"{relation}: {'; '.join(parts)}" + (f" (the build of its shards: {'; '.join(built)})" if built else "")
