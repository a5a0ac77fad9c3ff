"""The configuration of a build. Light: nothing heavy is imported, so that a command line can show it at once."""

import re
from dataclasses import dataclass
from pathlib import Path

NAME_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
RESERVED_NAMES = {"train", "tokenizer"}


@dataclass(frozen=True)
class BuildConfig:
    """What to build.

    train, test: folders in the plain layout, a data set is named after its folder. out: the shard folder, must not
    exist. tokenizer: folder of a tokenizer; None trains one of `vocab_size` pieces. lanes: should be a multiple
    of the number of ranks; records_per_tar: users; shuffle_tars: tars shuffled together when read. max_users: users per
    train category at most (the paper caps at 30,000), max_test_users: the same for each test set. tokenizer_text:
    further
    lines to train the tokenizer on (such as prompt templates), repeated until they are as many as the item texts.
    """

    train: tuple[str, ...]
    test: tuple[str, ...]
    out: str
    tokenizer: str | None = None
    vocab_size: int = 1024
    lanes: int = 8
    records_per_tar: int = 256
    shuffle_tars: int = 8
    seed: int = 0
    max_users: int | None = None
    max_test_users: int | None = None
    allow_sorted_by_id: bool = False
    tokenizer_text: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("lanes", "records_per_tar", "shuffle_tars"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if self.lanes > 9999:
            raise ValueError(f"lanes is {self.lanes}; it must be at most 9999")
        if not self.train and not self.test:
            raise ValueError("nothing to build: give at least one train or test folder")
        if not self.train and self.tokenizer is None:
            raise ValueError("without train folders there is no text to train a tokenizer on: give a tokenizer folder")
        names = [Path(folder).resolve().name for folder in (*self.train, *self.test)]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two data sets are called {name!r}; rename one of the folders")
            if not NAME_PATTERN.fullmatch(name) or name in RESERVED_NAMES:
                raise ValueError(f"a data set cannot be called {name!r}; rename the folder (letters, digits, _ and -)")
