from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import shards.build.clean as cleaning
from shards.build.clean import EVENTS, ITEMS, TEXTS, USERS, Rules, clean
from shards.files.database import Resources, connect, read_parquet
from shards.readers.folder import EVENT_SCHEMA, TEXT_SCHEMA

RULES: dict[str, Any] = {"name": "Tiny", "k_core": 2, "repeats": "keep", "order": "time", "since": None, "until": None}


def run(folder, events, excluded=(), texts=None, **changes):
    """Cleans rows (user, item, rating, time); returns (user -> [(item, time)], item -> text, facts)."""
    raw, out = folder / "raw", folder / "out"
    for path in (raw, out):
        path.mkdir()
    pl.DataFrame(events, schema=EVENT_SCHEMA, orient="row").write_parquet(raw / EVENTS)
    lines = [(item, f"text of {item}") for item in sorted({row[1] for row in events})] if texts is None else texts
    pl.DataFrame(lines, schema=TEXT_SCHEMA, orient="row").write_parquet(raw / TEXTS)
    facts = clean(raw, out, Rules(**(RULES | changes)), excluded, Resources(0.5, 1))
    users, items = read_parquet(out / USERS)["user"].to_list(), read_parquet(out / ITEMS)
    sequences = {user: [] for user in users}
    table = read_parquet(out / EVENTS)
    assert table["user"].is_sorted(), "users stand together, in their order"
    for user, item, time in table.rows():
        sequences[users[user]].append((items["item"][item], time))
    return sequences, dict(zip(items["item"], items["text"], strict=True)), facts


def by_hand(events, k, repeats, order, since, until):
    """The same rules over plain lists and dictionaries."""
    kept = [
        (number, user, item, time)
        for number, (user, item, rating, time) in enumerate(events)
        if (rating is None or rating > 0) and since <= time <= until
    ]
    if repeats != "keep":
        seen, once = set(), []
        for row in sorted(kept, key=lambda row: (row[3], row[0]), reverse=repeats == "last"):
            if row[1:3] not in seen:
                seen.add(row[1:3])
                once.append(row)
        kept = sorted(once)
    once = {(user, item, time): number for number, user, item, time in reversed(kept)}
    kept = [row for row in kept if once[row[1:]] == row[0]]
    while True:
        users, items = [row[1] for row in kept], [row[2] for row in kept]
        left = [row for row in kept if users.count(row[1]) >= k and items.count(row[2]) >= k]
        if left == kept:
            break
        kept = left
    key = (lambda row: (row[3], row[0])) if order == "time" else (lambda row: (row[2], row[0]))
    first_of_all = {}
    for number, user, _, _ in kept:
        first_of_all.setdefault(user, number)
    sequences = {user: [(r[2], r[3]) for r in sorted(kept, key=key) if r[1] == user] for user in first_of_all}
    return {user: sequence for user, sequence in sequences.items() if len(sequence) >= 3}


ROWS = st.tuples(
    st.sampled_from(["u1", "u2", "u3", "ü", "U'5"]),
    st.sampled_from(["B1", "B10", "B2", "a;x"]),
    st.sampled_from([None, 0.0, 1.0, 5.0]),
    st.integers(0, 6),
)


@settings(max_examples=60)
@given(
    st.lists(ROWS, min_size=1, max_size=50),
    st.integers(1, 4),
    st.sampled_from(["keep", "first", "last"]),
    st.sampled_from(["time", "released"]),
    st.sampled_from([(None, None), (1, 5)]),
)
def test_every_rule_against_plain_dictionaries(tmp_path_factory, events, k, repeats, order, dates):
    since, until = dates
    expected = by_hand(
        events, k, repeats, order, -(10**9) if since is None else since, 10**9 if until is None else until
    )
    folder = tmp_path_factory.mktemp("clean")
    changes = {"k_core": k, "repeats": repeats, "order": order, "since": since, "until": until}
    if not expected:
        with pytest.raises(ValueError, match="no user is left after cleaning"):
            run(folder, events, **changes)
        return
    sequences, texts, facts = run(folder, events, **changes)
    assert sequences == expected
    assert all(texts[item] == f"text of {item}" for sequence in expected.values() for item, _ in sequence)
    assert facts["interactions_read"] == len(events)
    removed = [count for name, count in facts.items() if name.endswith("_removed")]
    poor = facts["without_positive_rating"] + facts["outside_dates"] + facts["users_too_short"]
    assert facts["users_too_short"] or len(events) == poor + sum(removed) + facts["interactions_outside_core"] + sum(
        map(len, sequences.values())
    )


def rows(*sequences):
    """Sequences of one user each: u0, u1, ...; times rise."""
    return [(f"u{n}", item, None, time) for n, items in enumerate(sequences) for time, item in enumerate(items)]


def test_ties_keep_the_order_of_the_source(tmp_path):
    events = [("u", item, 5.0, 7) for item in ("c", "a", "b")]
    assert run(tmp_path, events, k_core=1)[0] == {"u": [("c", 7), ("a", 7), ("b", 7)]}


def test_the_same_review_twice_is_one(tmp_path):
    once = [(user, item, 5.0, time) for time, item in enumerate("abc") for user in ("u", "v", "w")]
    sequences, _, facts = run(tmp_path, [*once, *once[::-1], ("u", "a", 5.0, 9)], k_core=3)
    assert sequences["u"] == [("a", 0), ("b", 1), ("c", 2), ("a", 9)], "another moment is another purchase"
    assert sequences["v"] == sequences["w"] == [("a", 0), ("b", 1), ("c", 2)]
    assert facts["duplicates_removed"] == 9 and facts["interactions_outside_core"] == 0
    (tmp_path / "core").mkdir()
    with pytest.raises(ValueError, match="no user is left"):
        run(tmp_path / "core", [*once, *once], k_core=4)


def test_excluded_users_and_items_are_gone_before_the_core(tmp_path):
    events = rows("abc", "abc", "abcd", "dd")
    for name, column in (("user-0", {"user": ["u0"]}), ("item-0", {"item": ["d"]})):
        pl.DataFrame(column).write_parquet(tmp_path / f"{name}.parquet")
    excluded = [str(tmp_path / "user-0.parquet"), str(tmp_path / "item-0.parquet")]
    sequences, texts, facts = run(tmp_path, events, excluded)
    assert sequences == {user: [("a", 0), ("b", 1), ("c", 2)] for user in ("u1", "u2")}
    assert facts["overlap_removed"] == 3 + 1 + 2 and list(texts) == ["a", "b", "c"]


def test_data_taken_as_cleaned_are_checked_not_peeled(tmp_path):
    (tmp_path / "one").mkdir()
    sequences, _, facts = run(tmp_path / "one", rows("abc", "xyz"), k_core=0)
    assert len(sequences) == 2 and facts["peels"] == 0
    (tmp_path / "two").mkdir()
    with pytest.raises(ValueError, match="user 'u1' has 2 item"):
        run(tmp_path / "two", rows("abc", "ab"), k_core=0)
    (tmp_path / "three").mkdir()
    with pytest.raises(ValueError, match="item 'c' has no text"):
        run(tmp_path / "three", rows("abc"), k_core=0, texts=[("a", "A"), ("b", "B")])


def test_the_first_of_two_texts_counts_and_none_is_null(tmp_path):
    texts = [("b", "first"), ("b", "second"), ("z", "untouched")]
    assert run(tmp_path, rows("ab" * 2), k_core=2, texts=texts)[1] == {"a": None, "b": "first"}


def test_the_path_of_a_folder_is_no_pattern_and_no_column(tmp_path):
    """And no file of a neighbour is read, whose name the pattern would fit."""
    expected = {f"u{number}": [("a", 0), ("b", 1), ("a", 2), ("b", 3)] for number in range(2)}
    for name, neighbour in (
        ("run?", "run1"),
        ("run*", "runs"),
        ("[v2]", "v"),
        ('it\'s 100% "x"', "z"),
        ("user=7", "y"),
    ):
        (tmp_path / neighbour / "raw").mkdir(parents=True)
        pl.DataFrame(rows("xyxy", "xyxy"), schema=EVENT_SCHEMA, orient="row").write_parquet(
            tmp_path / neighbour / "raw" / EVENTS
        )
        (tmp_path / name).mkdir()
        assert run(tmp_path / name, rows("abab", "abab"))[0] == expected, name


def test_little_memory_changes_nothing(tmp_path):
    events = [(f"user {n % 4_001}", f"item {n * 7919 % 997}", None, n * 31 % 1_000) for n in range(120_000)]
    rules: dict[str, Any] = RULES | {"k_core": 5}
    found = []
    for name, resources in (("much", Resources(2.0, 2)), ("little", Resources(0.1, 1))):
        (tmp_path / name / "raw").mkdir(parents=True)
        (tmp_path / name / "out").mkdir()
        pl.DataFrame(events, schema=EVENT_SCHEMA, orient="row").write_parquet(tmp_path / name / "raw" / EVENTS)
        pl.DataFrame([("item 1", "x")], schema=TEXT_SCHEMA, orient="row").write_parquet(tmp_path / name / "raw" / TEXTS)
        clean(tmp_path / name / "raw", tmp_path / name / "out", Rules(**rules), (), resources)
        found.append([pl.read_parquet(tmp_path / name / "out" / file) for file in (EVENTS, USERS, ITEMS)])
    assert all(one.equals(other) for one, other in zip(*found, strict=True))
    assert found[0][0].height > 100_000


def test_the_sieve_changes_nothing(tmp_path, monkeypatch):
    """A raw dump, most of it users of one or two: what the sieve lets through gives the very files of no sieve."""
    draw = np.random.default_rng(0)
    users, items = (8_000 * draw.random(12_000) ** 2.5).astype(int), (400 * draw.random(12_000) ** 2).astype(int)
    times = draw.integers(0, 50, 12_000)
    events = [(f"u{u}", f"i{i}", 5.0, int(t)) for u, i, t in zip(users, items, times, strict=True)]
    found = []
    # With 64 buckets every bucket holds many ids, with 1 << 26 hardly any two share one.
    for name, share, bits in (("none", 0.0, 26), ("coarse", 1.0, 8), ("fine", 1.0, 26), ("usual", 0.5, 26)):
        monkeypatch.setattr(cleaning, "SIEVE_PAYS", share)
        monkeypatch.setattr(cleaning, "MAX_SIEVE_BITS", bits)
        (tmp_path / name).mkdir()
        _, _, facts = run(tmp_path / name, events, k_core=5)
        assert facts.pop("peels") >= 3
        found.append((facts, [pl.read_parquet(tmp_path / name / "out" / file) for file in (EVENTS, USERS, ITEMS)]))
    for facts, tables in found[1:]:
        assert facts == found[0][0]
        assert all(one.equals(other) for one, other in zip(tables, found[0][1], strict=True))
    assert 0 < found[0][1][0].height < 6_000


def test_no_bar_is_drawn_over_the_lines_of_a_build(tmp_path):
    with connect(tmp_path, Resources(0.5, 1)) as database:
        [(shown, memory)] = database.execute(
            "SELECT current_setting('enable_progress_bar'), current_setting('memory_limit')"
        ).fetchall()
    assert shown is False and memory.startswith("476")  # 0.5 GB in MiB
