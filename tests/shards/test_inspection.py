"""The inspection beside hand-made manifests: what is equal, what differs, what is missing, what is not the paper's."""

from shards.inspect.statistics import inspect_lines
from shards.manifest import Manifest, Member, TokenizerInfo
from shards.registry import Counts, paper_rows


def member(name: str, role: str, counts: Counts | tuple[int, int, int], source: str = "amazon-2014") -> Member:
    if isinstance(counts, Counts):
        counts = (counts.users, counts.items, counts.interactions)
    users, items, interactions = counts
    return Member(
        name=name,
        role=role,
        source=source,
        num_users=users,
        num_items=items,
        num_interactions=interactions,
        row_offset=0,
        share_sorted_by_id=0.0,
        tars=(),
        files={},
        inputs={},
        cleaning={},
    )


def lines_of(*members: Member) -> list[str]:
    return inspect_lines(
        Manifest(tokenizer=TokenizerInfo("f", 128), lanes=1, shuffle_tars=1, seed=0, members=tuple(members))
    )


def line_of(lines: list[str], name: str) -> str:
    """The one line of the comparison that begins with `name`."""
    (line,) = [line for line in lines if line.startswith(f"  {name} ")]
    return line


def paper_members() -> list[Member]:
    return [member(row.category, row.role, row.expected) for row in paper_rows() if row.expected]


def test_an_empty_folder_shows_the_papers_tables_in_brackets():
    lines = lines_of()
    for row in paper_rows():
        assert row.expected is not None
        line = line_of(lines, row.category)
        assert f"({row.expected.users:,})" in line and f"({row.expected.interactions:,})" in line
        assert row.role in line and "=" not in line and "≠" not in line
    assert "(183,918)" in line_of(lines, "Fusion")
    headings = [lines.index(row.density_group) for row in paper_rows()]
    assert headings == sorted(headings)
    assert "0 of the paper's 25 data sets built: 0 with the expected counts, 0 without." in lines


def test_the_papers_own_counts_are_equal_throughout():
    lines = lines_of(*paper_members())
    for row in paper_rows():
        assert line_of(lines, row.category).count("=") == 4, row.category
    assert "25 of the paper's 25 data sets built: 25 with the expected counts, 0 without." in lines
    assert "Table 3" in line_of(lines, "Beauty") and "5-core files" in line_of(lines, "Books")


def test_each_difference_is_marked_alone():
    for changed, mark in (
        ((22_362, 12_101, 198_502), "22,362 ≠ -1 "),
        ((22_363, 13_335, 198_502), "13,335 ≠ +1,234 "),
        ((22_363, 12_101, 198_503), "198,503 ≠ +1 "),
    ):
        lines = lines_of(member("Beauty", "test", changed))
        line = line_of(lines, "Beauty")
        assert mark in line and line.count("=") + line.count("≠") == 4 and line.endswith("built")
        below = lines[lines.index(line) + 1]
        assert below.split() == ["22,363", "12,101", "198,502", "0.0734", "Table", "3"]
        assert "1 of the paper's 25 data sets built: 0 with the expected counts, 1 without." in lines


def test_numbers_stand_below_each_other():
    lines = lines_of(member("Beauty", "test", (12_363, 12_101, 98_502)), member("Shop", "train", (7, 7, 7)))
    below = lines[lines.index(line_of(lines, "Beauty")) + 1]
    for ours, theirs in (("12,363", "22,363"), ("12,101", "12,101"), ("98,502", "198,502")):
        end = below.index(theirs) + len(theirs)
        assert line_of(lines, "Beauty")[:end].endswith(ours)
    assert line_of(lines, "Toys").index(")") == below.index("22,363") + len("22,363")


def test_names_match_in_any_case_and_strangers_stand_apart():
    lines = lines_of(member("beauty", "test", (22_363, 12_101, 198_502)), member("Shop", "train", (70, 50, 1_000)))
    assert line_of(lines, "beauty").count("=") == 4
    assert not [line for line in lines if line.startswith("  Beauty")]
    assert lines.index(line_of(lines, "Shop")) > lines.index("Not in the paper")
    assert "Not in the paper" not in lines_of()


def test_the_fusion_stands_beside_the_papers_and_its_rule():
    lines = lines_of(*paper_members(), member("Shop", "train", (1, 1, 1)))
    train = [row.expected for row in paper_rows() if row.role == "train" and row.expected]
    users = sum(counts.users for counts in train) + 1
    assert f"{users:,} ≠ {users - 183_918:+,}" in line_of(lines, "Fusion")
    below = lines[lines.index(line_of(lines, "Fusion")) + 1]
    assert below.split()[:4] == ["183,918", "233,323", "2,875,446", "0.0067"]
    text = "\n".join(lines)
    assert "the sum of the 20 train data sets" in text and "19 train categories 19 are there" in text
    assert "407,451 users, 223,533 more" in text
    assert "19 train categories 0 are there" in "\n".join(lines_of(member("Games", "test", (9, 9, 45))))
    equal = lines_of(member("Shop", "train", (183_918, 233_323, 2_875_446)))
    assert line_of(equal, "Fusion").count("=") == 4


def test_notes_say_what_the_numbers_cannot():
    text = "\n".join(
        lines_of(
            member("Music", "train", (5_541, 3_568, 64_706)),
            member("Games", "train", (24_303, 10_672, 231_780), source="amazon-2018"),
            member("Books", "train", (30_000, 100_000, 800_000)),
        )
    )
    assert "Music is built for train; in the paper it is a test set." in text
    assert "Games comes from amazon-2018" in text
    assert "Books is cut to 30,000 users" in text
    assert "built for" not in "\n".join(lines_of(*paper_members()))


def test_no_line_is_wider_than_a_terminal():
    largest = [member(row.category, row.role, (9, 9, 99)) for row in paper_rows()]
    for lines in (lines_of(), lines_of(*paper_members()), lines_of(*largest)):
        assert max(map(len, lines)) <= 110
        assert all(line == line.rstrip() for line in lines)
