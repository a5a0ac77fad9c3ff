"""Cleaning out of core: from raw interactions to sequences in order, by the rules of DECISIONS.

Enter the Parquet files of `ingest.py`; leave `events.parquet` (user, item, time: codes, sorted by user and order),
`users.parquet` and `items.parquet` (by code) and the facts of what was removed. It must hold that the result is a
function of the input alone, not of memory, threads or spilling. Strings, joins and sorts are DuckDB's and go to disk
when memory is short; only the peeling holds two int32 an interaction.

A user's code is its place by first appearance in the raw file, an item's code its place by item id, so that "sorted by
id" is a statement about codes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from shards.build.k_core import Core, k_core
from shards.build.sequences import MIN_LENGTH, follow_ids
from shards.files.database import Resources, connect, parquet, quoted

# Buckets of the sieve: one or two for each interaction, 64 million at most (half a GB to count them).
MAX_SIEVE_BITS = 26
# Writing what the sieve lets through pays when it is less than this share.
SIEVE_PAYS = 0.5
EVENTS, USERS, ITEMS, TEXTS = "events.parquet", "users.parquet", "items.parquet", "texts.parquet"


@dataclass(frozen=True)
class Rules:
    """How one data set is cleaned. since, until: milliseconds since 1970, both included. k_core 0: cleaned already.
    seed: of the order among ties, where the source has them in the order of the ids."""

    name: str
    k_core: int
    repeats: str
    order: str
    since: int | None
    until: int | None
    seed: int = 0


def clean(raw: Path, out: Path, rules: Rules, excluded: Sequence[str], resources: Resources) -> dict[str, Any]:
    """Cleans the data set in `raw` into `out`; returns the facts.

    excluded: Parquet files with a column `user` or `item` of those to leave out of this data set (the overlap with
    test sets). ValueError when nothing is left, or when data taken as cleaned are not.
    """
    with connect(out, resources) as database:
        return _Cleaning(database, raw, out, rules, excluded).run()


class _Cleaning:
    """One run over one database; each method is one step and leaves tables for the next."""

    def __init__(
        self, database: duckdb.DuckDBPyConnection, raw: Path, out: Path, rules: Rules, excluded: Sequence[str]
    ) -> None:
        self.database, self.raw, self.out, self.rules, self.excluded = database, raw, out, rules, excluded
        self.facts: dict[str, Any] = {}
        self.left, self.sieved = 0, False

    def run(self) -> dict[str, Any]:
        self.filter()
        if not self.rules.k_core:
            self.check_cleaned()
        self.exclude()
        self.sieve()
        self.encode()
        self.peel()
        self.write()
        return self.facts

    def filter(self) -> None:
        """Table `kept`: rating above 0, inside the dates, one of each pair where repeats are not kept."""
        since, until = self.rules.since, self.rules.until
        events = parquet(self.raw / EVENTS, row_numbers=True)
        rated = "coalesce(rating, 1) > 0"
        dated = f"time >= {-(2**62) if since is None else since} AND time <= {2**62 if until is None else until}"
        read, poor, outside = self._row(
            f"SELECT count(*), count_if(NOT ({rated})), count_if(({rated}) AND NOT ({dated})) FROM {events}"
        )
        self.facts |= {"interactions_read": read, "without_positive_rating": poor, "outside_dates": outside}
        once = ""
        if self.rules.repeats != "keep":
            latest = "DESC" if self.rules.repeats == "last" else ""
            ranked = f"PARTITION BY user, item ORDER BY time {latest}, file_row_number {latest}"
            once = f"QUALIFY row_number() OVER ({ranked}) = 1"
        # A view where nothing must be remembered: the strings are not copied a second time.
        kind = "TABLE" if once else "VIEW"
        self.database.execute(
            f"CREATE {kind} filtered AS SELECT user, item, time, file_row_number AS number FROM {events} "
            f"WHERE {rated} AND {dated} {once}"
        )
        left = self._row("SELECT count(*) FROM filtered")[0] if once else read - poor - outside
        self.facts["repeats_removed"] = read - poor - outside - left

    def check_cleaned(self) -> None:
        """Data taken as cleaned: no user under three items, every item has text."""
        short = self.database.execute(
            f"SELECT user, count(*) FROM filtered GROUP BY user HAVING count(*) < {MIN_LENGTH} "
            "ORDER BY min(number) LIMIT 1"
        ).fetchall()
        if short:
            raise ValueError(
                f"{self.rules.name}: user {short[0][0]!r} has {short[0][1]} item(s); leave-one-out needs {MIN_LENGTH}, "
                "remove the user (or have the folder cleaned: clean_plain)"
            )
        bare = self.database.execute(
            f"SELECT item FROM filtered ANTI JOIN {parquet(self.raw / TEXTS)} USING (item) ORDER BY number LIMIT 1"
        ).fetchall()
        if bare:
            raise ValueError(f"{self.rules.name}: item {bare[0][0]!r} has no text; add its line to the item texts")

    def exclude(self) -> None:
        """View `kept`: without the users and items that a test set has too."""
        conditions = []
        for column in ("user", "item"):
            files = [file for file in self.excluded if Path(file).name.startswith(column)]
            if files:
                conditions.append(f"{column} NOT IN (SELECT {column} FROM {parquet(*files)})")
        where = " AND ".join(conditions) or "true"
        self.database.execute(f"CREATE VIEW kept AS SELECT * FROM filtered WHERE {where}")
        before = self.facts["interactions_read"] - self.facts["without_positive_rating"] - self.facts["outside_dates"]
        left = self._row("SELECT count(*) FROM kept")[0] if conditions else before - self.facts["repeats_removed"]
        self.facts["overlap_removed"] = before - self.facts["repeats_removed"] - left
        self.left = left

    def sieve(self) -> None:
        """`sieved`: the interactions that may be in the core, by the core of hash buckets in place of users and items.

        A bucket has at least the interactions of each id in it, so what falls here is not in the core; few others stay.
        Most of a raw dump falls, and only what stays pays for exact codes, that is for joins of strings.
        """
        self.facts["peels"] = 0
        self.database.execute("CREATE VIEW sieved AS SELECT * FROM kept")
        if self.rules.k_core < 2:
            return
        mask = (1 << min(self.left.bit_length(), MAX_SIEVE_BITS)) - 1
        core = self._core(f"SELECT (hash(user) & {mask})::INTEGER, (hash(item) & {mask})::INTEGER FROM kept", self.left)
        if core.left > SIEVE_PAYS * self.left:
            return
        self.sieved, self.facts["peels"] = True, core.peels
        for kind, stay in (("user", core.users), ("item", core.items)):
            self._table(f"{kind}_buckets", {f"{kind}_bucket": np.flatnonzero(stay).astype(np.int32)})
        self.database.execute(
            "DROP VIEW sieved; CREATE TABLE sieved AS SELECT user, item, time, number FROM (SELECT *, "
            f"(hash(user) & {mask})::INTEGER AS user_bucket, (hash(item) & {mask})::INTEGER AS item_bucket FROM kept) "
            "SEMI JOIN user_buckets USING (user_bucket) SEMI JOIN item_buckets USING (item_bucket)"
        )

    def encode(self) -> None:
        """Table `edges`: int32 codes for users and items, in no particular order."""
        # A user's first appearance counts even where it is with an item outside the core.
        among = "kept SEMI JOIN sieved USING (user)" if self.sieved else "kept"
        firsts = f"SELECT user, min(number) AS first FROM {among} GROUP BY user"
        for code, column, order, ids in (
            ("u", "user", "first", firsts),
            ("i", "item", "item", "SELECT DISTINCT item FROM sieved"),
        ):
            self.database.execute(
                f"CREATE TABLE {column}s AS SELECT {column}, (row_number() OVER (ORDER BY {order}) - 1)::INTEGER AS "
                f"{code} FROM ({ids})"
            )
        coded = "FROM sieved JOIN users USING (user) JOIN items USING (item)"
        self.facts["duplicates_removed"] = 0
        if not self.rules.k_core:  # data taken as cleaned have places for moments, none twice
            self.database.execute(f"CREATE TABLE edges AS SELECT u, i, time, number {coded}")
            return
        # The same user, item and moment is the same review, however often a source holds it. The sieve may have counted
        # both: it only lets more through.
        self.database.execute(
            f"CREATE TABLE edges AS SELECT u, i, time, min(number) AS number {coded} GROUP BY u, i, time"
        )
        [different] = self._row("SELECT count(*) FROM (SELECT DISTINCT user, item, time FROM kept)")
        self.facts["duplicates_removed"] = self.left - different

    def peel(self) -> None:
        """Tables `core_u`, `core_i`: who stays (`u`, `i`) and the new, dense codes."""
        core = self._core("SELECT u, i FROM edges", self._row("SELECT count(*) FROM edges")[0])
        for code, stay in (("u", core.users), ("i", core.items)):
            rows = np.flatnonzero(stay).astype(np.int32)
            self._table(f"core_{code}", {code: rows, f"new_{code}": np.arange(len(rows), dtype=np.int32)})
        self.facts["peels"] += core.peels
        self.facts["interactions_outside_core"] = self.left - self.facts["duplicates_removed"] - core.left

    def write(self) -> None:
        """The three Parquet files, in order."""
        core = "edges e JOIN core_u USING (u) JOIN core_i USING (i)"
        enough = f"SEMI JOIN (SELECT u FROM {core} GROUP BY u HAVING count(*) >= {MIN_LENGTH}) USING (u)"
        short = 0
        if self.rules.k_core < MIN_LENGTH:
            before = self._row("SELECT count(*) FROM core_u")[0]
            self.database.execute(
                f"CREATE TABLE long_u AS SELECT u, (row_number() OVER (ORDER BY u) - 1)::INTEGER AS new_u "
                f"FROM (SELECT u FROM core_u {enough})"
            )
            self.database.execute("DROP TABLE core_u; ALTER TABLE long_u RENAME TO core_u")
            short = before - self._row("SELECT count(*) FROM core_u")[0]
        self.facts["users_too_short"] = short
        if not self._row("SELECT count(*) FROM core_u")[0]:
            raise ValueError(
                f"{self.rules.name}: no user is left after cleaning ({self.facts}); lower k_core, widen the dates or "
                "look at the raw files"
            )
        self.ties(core)
        ordered = "e.time, e.number" if self.rules.order == "time" else "new_i, e.number"
        if self.facts["ties_drawn"]:
            core += " JOIN users USING (u) JOIN items USING (i)"
            ordered = f"e.time, md5(concat_ws(' ', '{self.rules.seed}', user, item))"
        self.database.execute("SET preserve_insertion_order = true")
        self._copy(f"SELECT new_u AS user, new_i AS item, e.time AS time FROM {core} ORDER BY new_u, {ordered}", EVENTS)
        self._copy("SELECT user FROM core_u JOIN users USING (u) ORDER BY new_u", USERS)
        texts = (
            "SELECT item, arg_min(text, file_row_number) AS text, min(file_row_number) AS line "
            f"FROM {parquet(self.raw / TEXTS, row_numbers=True)} GROUP BY item"
        )
        self._copy(
            f"SELECT item, text, line FROM core_i JOIN items USING (i) LEFT JOIN ({texts}) USING (item) ORDER BY new_i",
            ITEMS,
        )

    def ties(self, core: str) -> None:
        """Facts: neighbours in a history at one moment, how many of them the source has in the order of the ids (as
        text or as numbers, up or down), and whether their order is drawn: it would ask for the largest id."""
        self.facts |= {"ties": 0, "ties_in_id_order": 0, "ties_drawn": False}
        if not self.rules.k_core or self.rules.order != "time":
            return
        text, value = "new_i", "TRY_CAST(item AS BIGINT)"
        steps = ", ".join(f"sign({key} - lag({key}) OVER w) AS {name}" for name, key in (("a", text), ("b", value)))
        counts = ", ".join(f"count(*) FILTER (WHERE {name} = {way})" for name in "ab" for way in (1, -1))
        ties, *in_order = self._row(
            f"SELECT count(*), {counts} FROM (SELECT {steps} FROM {core} JOIN items USING (i) "
            "WINDOW w AS (PARTITION BY u, e.time ORDER BY e.number)) WHERE a IS NOT NULL"
        )
        drawn = follow_ids(ties, max(in_order))
        self.facts |= {"ties": ties, "ties_in_id_order": max(in_order), "ties_drawn": drawn}

    def _core(self, query: str, rows: int) -> Core:
        """The core of the pairs of int32 codes that `query` gives; eight bytes a pair."""
        codes_2E, filled = np.empty((2, rows), np.int32), 0
        for batch in self.database.sql(query).to_arrow_reader(1 << 20):
            for column in (0, 1):
                codes_2E[column, filled : filled + len(batch)] = batch.column(column).to_numpy()
            filled += len(batch)
        return k_core(codes_2E[0], codes_2E[1], max(self.rules.k_core, 1), owned=True)

    def _table(self, name: str, columns: dict[str, np.ndarray]) -> None:
        self.database.register("arrays", pa.table(columns))
        self.database.execute(f"CREATE TABLE {name} AS SELECT * FROM arrays")
        self.database.unregister("arrays")

    def _copy(self, query: str, file: str) -> None:
        self.database.execute(f"COPY ({query}) TO '{quoted(self.out / file)}' (FORMAT parquet, COMPRESSION zstd)")

    def _row(self, query: str) -> Any:
        return self.database.execute(query).fetchall()[0]
