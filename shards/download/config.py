"""The configuration of a download. Light: nothing heavy is imported, so that a command line can show it at once."""

from dataclasses import dataclass
from typing import Literal

from shards import registry
from shards.bounds import Natural, NonNegative, Positive, check
from shards.registry import Row


@dataclass(frozen=True)
class DownloadConfig:
    """What to download."""

    out: str
    """Folder to write; each category gets a folder in it, as `shard build` reads it."""
    release: Literal["2014", "2018", "2023", "yelp"] = "2014"
    """2014 is the paper's. Yelp must be fetched by hand; the command says where."""
    categories: tuple[str, ...] = ()
    """Categories by the paper's names, such as Games; none means all that the release has."""
    mirrors: tuple[str, ...] = ()
    """Base URLs to try first: BASE/<raw file>."""
    checksums: str | None = None
    """A file as sha256sum writes it; it wins over the registry and over what the first download found."""
    retries: Natural = 4
    """Attempts in a row without a new byte before the next mirror."""
    timeout_s: Positive = 60.0
    """Seconds to wait for a connection and for bytes."""
    wait_s: NonNegative = 1.0
    """Seconds before the first retry; then doubled."""

    def __post_init__(self) -> None:
        check(self)
        for mirror in self.mirrors:
            if not mirror.startswith(("http://", "https://")):
                raise ValueError(f"mirror {mirror!r} must start with http:// or https://")
        chosen_rows(self)


def chosen_rows(config: DownloadConfig) -> tuple[Row, ...]:
    """The rows of the registry that the configuration asks for; ValueError for one that the release does not have."""
    if not config.categories:
        return tuple(row for row in registry.rows(config.release) if row.files)
    rows = []
    for category in config.categories:
        # Yelp stands beside every Amazon release, as in the paper.
        row = registry.row("yelp" if category.lower() == "yelp" else config.release, category)
        if not row.files:
            raise ValueError(f"release {config.release} has no successor of {row.category}; leave it out or take 2014")
        rows.append(row)
    return tuple(dict.fromkeys(rows))
