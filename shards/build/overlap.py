"""The overlap audit: which users and items of a test set does a train category have too?

Enter the ids and texts of one train category and of each test set; leaves, for each pair, how it was looked up and what
was found, and Parquet files of what was found. It must hold that nothing is called 0 that could not be looked up: ids
of different platforms, or numbers that somebody put in the place of ids, cannot be compared. Items are then compared by
the normalised text of their first field (title or name); users cannot be checked.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb

from shards.files.database import Resources, connect, parquet, quoted

# Whole-id patterns of the known id spaces; a data set is of the first one that nearly all of its ids have.
ITEM_SPACES = {"anonymous": "[A-Za-z]?[0-9]{1,7}", "amazon": "[A-Z0-9]{10}", "yelp": "[A-Za-z0-9_-]{22}"}
USER_SPACES = {
    "anonymous": "[A-Za-z]?[0-9]{1,7}",
    "amazon": "A[A-Z0-9]{8,20}",
    "amazon-2023": "A[A-Z0-9]{27}",
    "yelp": "[A-Za-z0-9_-]{22}",
}
NEARLY_ALL = 0.98
# Shorter titles ("headphones") are equal by chance.
MIN_WORDS = 3


@dataclass(frozen=True)
class Overlap:
    """One pair. items_by: "id", "text" or "cannot be checked"; users_by: "id" or "cannot be checked".

    items, users: how many distinct ones of the train category, before cleaning, the test set has too; None is unknown,
    not 0. dropped: whether they were left out of training.
    """

    train: str
    test: str
    items_by: str
    items: int | None
    items_dropped: bool
    users_by: str
    users: int | None
    users_dropped: bool

    def line(self) -> str:
        """One readable line."""
        return f"{self.train} / {self.test}: {self._words('item')}; {self._words('user')}"

    def _words(self, kind: str) -> str:
        count, how = getattr(self, f"{kind}s"), getattr(self, f"{kind}s_by")
        if count is None:
            return f"{kind}s cannot be checked (ids of different kinds)"
        dropped = getattr(self, f"{kind}s_dropped") and count
        done = (", dropped from training" if dropped else ", NOT dropped") if count else ""
        if how == "text":
            return f"{kind} ids cannot be checked, {count or 'no'} equal title{'s' * (count != 1)}{done}"
        return f"{count:,} {kind}{'s' * (count != 1)} in both{done}"


@dataclass(frozen=True)
class Ids:
    """Where the ids of a data set stand, in Parquet files.

    users: a column `user`. items: columns `item` and `text`. touched: a column `item` of those that count, where the
    item file holds more.
    """

    name: str
    users: Path
    items: Path
    touched: Path | None = None


def find_overlap(
    train: Ids, tests: Sequence[Ids], out: Path, drop: Mapping[str, bool], resources: Resources
) -> tuple[list[Overlap], list[Path]]:
    """Audits one train category against all test sets; writes `user-N.parquet`, `item-N.parquet` of what is to drop.

    drop: {"user": bool, "item": bool}. Returns (audit, files written).
    """
    audit, files = [], []
    with connect(out, resources) as database:
        database.execute(f"CREATE TABLE train_user AS SELECT DISTINCT user FROM {parquet(train.users)}")
        database.execute(
            f"CREATE TABLE train_item AS SELECT item, any_value({_TITLE}) AS title "
            f"FROM (SELECT DISTINCT item FROM {parquet(train.touched or train.items)}) "
            f"LEFT JOIN {parquet(train.items)} USING (item) GROUP BY item"
        )
        spaces = (_space(database, "train_item", "item"), _space(database, "train_user", "user"))
        for number, test in enumerate(tests):
            database.execute(f"CREATE OR REPLACE TABLE test_user AS SELECT DISTINCT user FROM {parquet(test.users)}")
            database.execute(f"CREATE OR REPLACE TABLE test_item AS SELECT item, {_TITLE} AS title "
                             f"FROM {parquet(test.items)}")  # fmt: skip
            others = (_space(database, "test_item", "item"), _space(database, "test_user", "user"))
            items_by = "id" if _comparable(spaces[0], others[0]) else "text"
            users_by = "id" if _comparable(spaces[1], others[1]) else "cannot be checked"
            if items_by == "text" and not _titled(database):
                items_by = "cannot be checked"
            counts: dict[str, int | None] = {"item": None, "user": None}
            on = {"item": "item" if items_by == "id" else "title", "user": "user"}
            for kind, how in (("item", items_by), ("user", users_by)):
                if how == "cannot be checked":
                    continue
                path = out / f"{kind}-{number}.parquet"
                database.execute(
                    f"COPY (SELECT {kind} FROM train_{kind} SEMI JOIN test_{kind} USING ({on[kind]}) ORDER BY {kind}) "
                    f"TO '{quoted(path)}' (FORMAT parquet)"
                )
                counts[kind] = int(database.execute(f"SELECT count(*) FROM {parquet(path)}").fetchall()[0][0])
                if drop[kind] and counts[kind]:
                    files.append(path)
            audit.append(
                Overlap(
                    *(train.name, test.name, items_by, counts["item"], drop["item"] and bool(counts["item"])),
                    *(users_by, counts["user"], drop["user"] and bool(counts["user"])),
                )
            )
    return audit, files


# The words of the first field ("title: ..." up to the next ";"), where there are enough of them to tell a thing.
_WORDS = r"""trim(regexp_replace(lower(regexp_extract(text, '^[^:;]*: ([^;]*)', 1)), '[^\p{L}\p{N}]+', ' ', 'g'))"""
_TITLE = f"CASE WHEN length({_WORDS}) - length(replace({_WORDS}, ' ', '')) >= {MIN_WORDS - 1} THEN {_WORDS} END"


def _space(database: duckdb.DuckDBPyConnection, table: str, kind: str) -> str:
    spaces = ITEM_SPACES if kind == "item" else USER_SPACES
    shares = ", ".join(
        f"avg(CASE WHEN regexp_full_match({kind}, '{pattern}') THEN 1 ELSE 0 END)" for pattern in spaces.values()
    )
    row = database.execute(f"SELECT {shares} FROM {table}").fetchall()[0]
    return next((name for name, share in zip(spaces, row, strict=True) if share and share >= NEARLY_ALL), "other")


def _comparable(one: str, other: str) -> bool:
    return one == other != "anonymous"


def _titled(database: duckdb.DuckDBPyConnection) -> bool:
    query = "SELECT (SELECT count(title) FROM train_item) > 0 AND (SELECT count(title) FROM test_item) > 0"
    return bool(database.execute(query).fetchall()[0][0])
