"""The inspection: the paper's Tables 2 and 3 beside what a shard folder holds.

Enters a `Manifest`; leave lines of text, 110 columns wide at most. It must hold that every data set of the paper and
every member of the folder stands there, that every difference is marked, and that only what is equal is called so.
"""

from collections.abc import Iterable, Sequence
from itertools import groupby

from shards.manifest import Manifest, Member
from shards.registry import (
    MAX_USERS,
    PAPER,
    PAPER_FUSION,
    PUBLISHED,
    UNCONFIRMED,
    Counts,
    Row,
    fusion_users_by_rule,
    paper_rows,
)

# Widths of a column's number, which ends in a column of its own, and of the mark behind it.
WIDTHS = ((10, 11), (9, 11), (11, 13), (9, 3))
BUILT = "built"
SOURCES = {PAPER: "Table 3", PUBLISHED: "5-core files", UNCONFIRMED: "unconfirmed", BUILT: BUILT}


def inspect_lines(manifest: Manifest) -> list[str]:
    """The comparison, line by line. A member is matched with the paper's data set of its name, in any case."""
    expected = paper_rows()
    named = {row.category.lower() for row in expected}
    lines = [
        "The paper's data sets (Tables 2 and 3) beside what was built.",
        "  =  the same     ≠  built minus expected, which stands below     (n)  expected and not built",
        "",
        _line("", "", ("users", "items", "interactions", "density %"), source="counts of"),
    ]
    for group, rows in groupby(expected, key=lambda row: row.density_group):
        lines += ["", group]
        for row in rows:
            lines += _row_lines(row, _members_of(manifest, row))
    others = [member for member in manifest.members if member.name.lower() not in named]
    if others:
        lines += ["", "Not in the paper"]
        lines += [_line(member.name, member.role, _numbers(_counts([member]))) for member in others]
    return lines + _fusion_lines(manifest) + _notes(manifest, expected)


def _row_lines(row: Row, members: list[Member]) -> list[str]:
    assert row.expected is not None, "the paper's data sets have counts"
    if not members:
        return _comparison(row.category, row.role, None, row.expected)
    return [
        line for member in members for line in _comparison(member.name, member.role, _counts([member]), row.expected)
    ]


def _fusion_lines(manifest: Manifest) -> list[str]:
    train = [row for row in paper_rows() if row.role == "train"]
    built = [row for row in train if any(member.role == "train" for member in _members_of(manifest, row))]
    by_rule = fusion_users_by_rule()
    counts = _counts(manifest.train_members) if manifest.train_members else None
    return [
        "",
        f"Fusion: the sum of the {len(manifest.train_members)} train data sets, beside the paper's",
        *_comparison("Fusion", "train", counts, PAPER_FUSION),
        f"  Of the paper's {len(train)} train categories {len(built)} are there.",
        f"  The paper's total does not follow from its rule: min(users, {MAX_USERS:,}) over these {len(train)}",
        f"  gives {by_rule:,} users, {by_rule - PAPER_FUSION.users:,} more than it prints.",
    ]


def _notes(manifest: Manifest, expected: Sequence[Row]) -> list[str]:
    notes, equal, built = [], 0, 0
    for row in expected:
        assert row.expected is not None
        for member in _members_of(manifest, row):
            built += 1
            equal += _numbers(_counts([member])) == _numbers(row.expected)
            if member.role != row.role:
                notes.append(f"{member.name} is built for {member.role}; in the paper it is a {row.role} set.")
            if member.num_users == MAX_USERS < row.expected.users:
                notes.append(f"{member.name} is cut to {MAX_USERS:,} users, the paper's cap of train categories.")
            if member.source in ("amazon-2018", "amazon-2023"):
                notes.append(f"{member.name} comes from {member.source}; the expected counts are those of 2014.")
    total = len(expected)
    summary = (
        f"{built} of the paper's {total} data sets built: {equal} with the expected counts, {built - equal} without."
    )
    return ["", summary, *(f"  {note}" for note in notes)]


def _comparison(name: str, role: str, built: Counts | None, expected: Counts) -> list[str]:
    """One line where all is equal or nothing built; otherwise the differences, and what was expected below."""
    if built is None:
        return [_line(name, role, [f"({number})" for number in _numbers(expected)], source=SOURCES[expected.source])]
    differences = [
        built.users - expected.users,
        built.items - expected.items,
        built.interactions - expected.interactions,
    ]
    marks = [f"≠ {difference:+,}" if difference else "=" for difference in differences]
    ours, theirs = _numbers(built), _numbers(expected)
    marks.append("=" if ours[-1] == theirs[-1] else "≠")
    if not any(differences):
        return [_line(name, role, ours, marks, SOURCES[expected.source])]
    return [_line(name, role, ours, marks, BUILT), _line("", "", theirs, source=SOURCES[expected.source])]


def _members_of(manifest: Manifest, row: Row) -> list[Member]:
    return [member for member in manifest.members if member.name.lower() == row.category.lower()]


def _counts(members: Iterable[Member]) -> Counts:
    members = list(members)
    return Counts(
        sum(member.num_users for member in members),
        sum(member.num_items for member in members),
        sum(member.num_interactions for member in members),
        BUILT,
    )


def _numbers(counts: Counts) -> tuple[str, str, str, str]:
    return (f"{counts.users:,}", f"{counts.items:,}", f"{counts.interactions:,}", f"{counts.density:.4f}")


def _line(name: str, role: str, numbers: Sequence[str], marks: Sequence[str] = ("",) * 4, source: str = "") -> str:
    cells = []
    for number, mark, (width, behind) in zip(numbers, marks, WIDTHS, strict=True):
        # A number in brackets ends where one without does.
        space = "" if number.endswith(")") else " "
        cells.append(f"{number + space:>{width}}{mark:<{behind}}")
    return f"  {name:<12} {role:<5}{''.join(cells)}{source}".rstrip()
