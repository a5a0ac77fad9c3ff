"""The data card: README.md of a shard folder, for the person who finds it.

Enters a manifest; leaves Markdown. It must hold that the card says nothing that the manifest does not, and that what
was removed or could not be checked is said as plainly as what is there.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from shards.manifest import Manifest, Member
from shards.registry import terms_for
from shards.token_coverage import share

FILE = "README.md"
FORMATS = {
    "amazon-2014": "Amazon reviews, release of 2014",
    "amazon-2018": "Amazon reviews, release of 2018",
    "amazon-2023": "Amazon reviews, release of 2023",
    "yelp": "Yelp open dataset",
    "recbole": "RecBole atomic files",
    "plain": "plain layout (user_sequence.txt, item_plain_text.txt)",
}
REMOVED = {
    "without_positive_rating": "without a rating above 0",
    "outside_dates": "outside the dates",
    "repeats_removed": "repeats",
    "overlap_removed": "shared with a test set",
    "duplicates_removed": "the same review again (user, item and moment)",
    "interactions_outside_core": "outside the core",
}


def data_card(manifest: Manifest) -> str:
    """The whole card."""
    parts = [
        _what(manifest),
        _counts("Pretraining categories (the Fusion)", manifest.train_members, manifest),
        _counts("Unseen data sets", manifest.test_members, manifest),
        _cleaning(manifest),
        _overlap(manifest),
        _files(manifest),
        _licence(manifest),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _what(manifest: Manifest) -> str:
    train, test = len(manifest.train_members), len(manifest.test_members)
    users = sum(member.num_users for member in manifest.train_members)
    return (
        "# Shards for idgenrec\n\n"
        f"Purchase and review histories for pretraining a recommender: {_many(train, 'category', 'categories')} to "
        f"train on ({users:,} users, {manifest.num_items:,} items, {manifest.num_samples:,} training samples) and "
        f"{_many(test, 'unseen data set', 'unseen data sets')} to judge it on. Item texts and their token ids are in "
        "the folder; textual item IDs are not: a model makes them."
    )


def _counts(title: str, members: Sequence[Member], manifest: Manifest) -> str:
    if not members:
        return ""
    rows = [
        [
            member.name,
            FORMATS.get(member.source, member.source),
            f"{member.num_users:,}",
            f"{member.num_items:,}",
            f"{member.num_interactions:,}",
            f"{100 * member.num_interactions / (member.num_users * member.num_items):.4f}%",
            f"{member.num_interactions / member.num_users:.2f}",
        ]
        for member in members
    ]
    header = ["data set", "from", "users", "items", "interactions", "density", "mean length"]
    return f"## {title}\n\n" + _table(header, rows)


def _cleaning(manifest: Manifest) -> str:
    rules = manifest.rules
    order = (
        f"by time; ties keep the order of the source{_drawn(manifest)}"
        if manifest.order == "chronological"
        else "by item id, as the reference released two of its sets; NOT chronological"
    )
    split = (
        "leave-one-out: the last item is the test target, the one before it the validation target"
        if manifest.split == "leave-one-out"
        else f"in time: each data set's last {rules['split_share']:.0%} of interactions come after its moment"
    )
    lines = [
        "## How it was cleaned",
        "",
        f"* Order of a history: {order}.",
        f"* Every user and item keeps at least {rules['k_core']} interactions ({rules['k_core']}-core to the "
        "fixpoint), except in data that came cleaned.",
        f"* Repeated interactions: {_repeats(rules)}.",
        f"* Split: {split}.",
        f"* Users per pretraining category: {_cap(rules)}.",
        "",
        "",
    ]
    rows = [_cleaning_row(member) for member in manifest.members]
    header = ["data set", "interactions read", "removed", "peels of the core", "users drawn", "items without text"]
    return "\n".join(lines) + _table([*header, "unknown tokens", "malformed lines"], rows)


def _drawn(manifest: Manifest) -> str:
    drawn = [
        f"{member.name} ({member.cleaning['ties']:,})"
        for member in manifest.members
        if member.cleaning.get("ties_drawn")
    ]
    if not drawn:
        return ""
    return f", but in {', '.join(drawn)}: there it was that of the item ids, so it is drawn by the seed"


def _repeats(rules: Mapping[str, Any]) -> str:
    return "all kept" if rules["repeats"] == "keep" else f"the {rules['repeats']} one kept"


def _cap(rules: Mapping[str, Any]) -> str:
    cap = f"at most {rules['max_users']:,}, drawn at random by the seed" if rules["max_users"] else "all"
    if rules["total_users"]:
        cap += f"; {rules['total_users']:,} in all, mixture {rules['mixture']}"
    return cap


def _cleaning_row(member: Member) -> list[str]:
    facts = member.cleaning
    removed = [f"{facts[key]:,} {words}" for key, words in REMOVED.items() if facts.get(key)]
    drawn = facts["users_before_sampling"]
    malformed = sum(count for _, count in facts["lines"].values())
    return [
        member.name + (" (came cleaned)" if facts["taken_as_cleaned"] else ""),
        f"{facts['interactions_read']:,}",
        ", ".join(removed) or "none",
        f"{facts['peels']}",
        f"{member.num_users:,} of {drawn:,}" if member.num_users < drawn else "all",
        f"{facts['items_without_text']:,}",
        share(facts["unknown_tokens"], facts["tokens"]) if "tokens" in facts else "not counted",
        f"{malformed:,}",
    ]


def _overlap(manifest: Manifest) -> str:
    if not manifest.overlap:
        return ""
    rows = [
        [
            pair["train"],
            pair["test"],
            _found(pair["items"], pair["items_by"], pair["items_dropped"]),
            _found(pair["users"], pair["users_by"], pair["users_dropped"]),
        ]
        for pair in manifest.overlap
    ]
    return (
        "## Overlap of training and unseen data\n\nWhat a pretraining category and an unseen set both have. "
        "Where ids are of different kinds (another platform, or numbers in their place) users cannot be checked, and "
        "items are compared by equal titles.\n\n" + _table(["category", "unseen set", "items", "users"], rows)
    )


def _found(count: int | None, how: str, dropped: bool) -> str:
    if count is None:
        return "cannot be checked"
    words = f"ids cannot be checked; equal titles: {count or 'none'}" if how == "text" else f"{count:,}"
    return words + ("" if not count else ", dropped from training" if dropped else ", NOT dropped")


def _files(manifest: Manifest) -> str:
    tars = [tar for member in manifest.train_members for tar in member.tars]
    return (
        "## Files\n\n"
        f"* `<data set>/train-LLLL-NNNNNN.tar`: {len(tars):,} WebDataset tars in {manifest.lanes} lanes, "
        f"{sum(tar.bytes for tar in tars):,} bytes; one JSON member a user: "
        '`{"user": ..., "items": [rows]}`, oldest first, without the two held-out items.\n'
        "* `<data set>/items.arrow`: the catalogue, a row an item: item, text, token_ids.\n"
        "* `<data set>/holdout.arrow`: the held-out users: record, user, history, valid, test.\n"
        "* `<data set>/rejects.jsonl`, where lines were malformed: file, line, reason, text of the first of them.\n"
        f"* `tokenizer/`: SentencePiece, {manifest.tokenizer.vocab_size:,} rows with padding.\n"
        "* `manifest.json`: counts, rules, versions, SHA-256 of every input and output. "
        "`idgenrec shard inspect --shards . --verify` checks them."
    )


def _licence(manifest: Manifest) -> str:
    lines = ["## Whose data these are", ""]
    for source in sorted({member.source for member in manifest.members}):
        names = ", ".join(member.name for member in manifest.members if member.source == source)
        terms = terms_for(source)
        lines += [
            f"* **{FORMATS.get(source, source)}** ({names}). {terms.terms}",
            f"  * Home: {terms.homepage}",
            f"  * Cite: {terms.citation}",
        ]
    return "\n".join(lines)


def _many(count: int, one: str, more: str) -> str:
    return f"{count} {one if count == 1 else more}"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])
