"""The configuration of a build. Light: nothing heavy is imported, so that a command line can show it at once."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

from shards.bounds import Bounds, Count, Natural, Positive, Share, check

NAME_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
RESERVED_NAMES = {"train", "tokenizer"}
PAPER_MAX_USERS = 30_000
Mixture = Literal["proportional", "uniform", "temperature"]


@dataclass(frozen=True)
class BuildConfig:
    """What to build."""

    out: str
    """The shard folder to write; must not exist."""
    train: tuple[str, ...] = ()
    """Folders of raw data to pretrain on; a data set is named after its folder, its format is known by its files."""
    test: tuple[str, ...] = ()
    """Folders of unseen data sets."""
    tokenizer: str | None = None
    """Folder of a tokenizer; without one, one of vocab_size pieces is trained on the text of the train items."""
    vocab_size: Count = 1024
    """Pieces of a tokenizer trained here."""
    lanes: Annotated[int, Bounds(least=1, most=9999)] = 8
    """Canonical lanes of the stream: a multiple of the number of ranks, so that no rank reads another's tars."""
    records_per_tar: Count = 256
    """Users in a tar."""
    shuffle_tars: Count = 8
    """Tars of a lane shuffled together when read."""
    seed: Natural = 0
    """Seed of the users drawn and of the stream's order."""
    max_users: Count | None = PAPER_MAX_USERS
    """Users of a train category at most (the paper's cap is 30,000); more are drawn at random after cleaning, and the
    category's items are those of the users drawn."""
    max_test_users: Count | None = None
    """The same for each test set, whose catalogue stays whole: every item that is left after cleaning can be
    recommended, whoever is drawn."""
    mixture: Mixture = "proportional"
    """How total_users is shared among the train categories: by their size, evenly, or by size to the power
    1/temperature."""
    temperature: Annotated[float, Bounds(least=1)] = 2.0
    """Only for mixture temperature: 1 is proportional, large is uniform."""
    total_users: Count | None = None
    """Users of all train categories together; nothing is ever repeated, so a small category gives what it has."""
    k_core: Count = 5
    """Every user and every item keeps at least this many interactions; plain folders count as cleaned already."""
    clean_plain: bool = False
    """Clean plain folders too."""
    repeats: Literal["keep", "first", "last"] = "keep"
    """Repeated interactions of a user with an item: keep all, the first or the last one."""
    order: Literal["time", "released"] = "time"
    """Order of a history: by time, or by item id, as the reference's Sports and Toys were released (for comparison)."""
    split: Literal["leave-one-out", "time"] = "leave-one-out"
    """Held out: the last two items of each user, or what comes after one moment in time."""
    split_share: Annotated[float, Bounds(above=0, below=1)] = 0.1
    """Only for split time: the share of a data set's interactions that come after its moment."""
    since: str | None = None
    """Keep interactions from this moment (UTC), such as 2019-01-01 or "2019-01-01 00:00:00"; Yelp: the paper's 2019."""
    until: str | None = None
    """Keep interactions up to this moment, itself included."""
    overlap_items: Literal["drop", "count"] = "drop"
    """Items of a test set that a train category has too: drop them from training, or only count them."""
    overlap_users: Literal["drop", "count"] = "drop"
    """The same for users."""
    max_reject_share: Share = 0.01
    """Share of malformed lines of a raw file at which the build stops; all are counted, some kept in rejects.jsonl."""
    allow_sorted_by_id: bool = False
    """Accept sequences that are in the order of the item ids."""
    tokenizer_text: tuple[str, ...] = ()
    """Further lines to train the tokenizer on, repeated until they are as many as the item texts."""
    workers: Count = 1
    """Processes; the bytes written do not depend on it."""
    memory_gb: Positive = 4.0
    """Memory that sorts and joins may use, all processes together; beyond it they go to disk."""

    def __post_init__(self) -> None:
        check(self)
        if self.memory_gb / self.workers < 0.25:
            raise ValueError(f"memory_gb {self.memory_gb} is under 0.25 for each of {self.workers} workers; give more")
        if self.mixture != "proportional" and self.total_users is None:
            raise ValueError(f"mixture {self.mixture} shares out total_users; give total_users")
        for date in (self.since, self.until):
            moment(date)
        if not self.train and not self.test:
            raise ValueError("nothing to build: give at least one train or test folder")
        if not self.train and self.tokenizer is None:
            raise ValueError("without train folders there is no text to train a tokenizer on: give a tokenizer folder")
        for folder in (*self.train, *self.test):
            if Path(folder).is_file():
                raise ValueError(f"{folder} is a file; name the folder of the data set")
        names = [Path(folder).resolve().name for folder in (*self.train, *self.test)]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two data sets are called {name!r}; rename one of the folders")
            if not NAME_PATTERN.fullmatch(name) or name in RESERVED_NAMES:
                raise ValueError(f"a data set cannot be called {name!r}; rename the folder (letters, digits, _ and -)")

    @property
    def exponent(self) -> float:
        """A category of n users gets a share of total_users proportional to n to this power."""
        return {"proportional": 1.0, "uniform": 0.0, "temperature": 1.0 / self.temperature}[self.mixture]

    @property
    def folders(self) -> tuple[tuple[str, str], ...]:
        """(role, folder) of each data set, train first."""
        return tuple([("train", folder) for folder in self.train] + [("test", folder) for folder in self.test])


@dataclass(frozen=True)
class AddConfig:
    """Data sets to add to a finished shard folder; the others are not rewritten."""

    to: str
    """The shard folder."""
    train: tuple[str, ...] = ()
    """Folders of raw data to add to the Fusion, behind its present rows."""
    test: tuple[str, ...] = ()
    """Folders of unseen data sets to add."""
    workers: Count = 1
    """Processes."""
    memory_gb: Positive = 4.0
    """Memory that sorts and joins may use, all processes together."""

    def __post_init__(self) -> None:
        check(self)


def moment(text: str | None) -> int | None:
    """Milliseconds since 1970 of an ISO date or time, UTC where it names no zone. ValueError for anything else."""
    if text is None:
        return None
    try:
        value = datetime.fromisoformat(text)
    except ValueError as error:
        raise ValueError(f"{text!r} is not a date; write 2019-01-01 or '2019-01-01 00:00:00'") from error
    return round((value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp() * 1000)
