"""The download: raw files of the registry into OUT/<Category>/, ready for `shard build`.

Enters a `DownloadConfig`; leave verified files with a `SHA256SUMS` beside them (`sha256sum -c` reads it). It must hold
that a file under its own name is whole and verified (by SHA-256 where one is known: from the checksums file, else the
registry, else the first download; by length and gzip CRC otherwise), that a broken download goes on where it was, and
that one line tells why all mirrors failed. Nothing heavy is imported: a command line shows the configuration at once.
"""

from collections.abc import Callable
from pathlib import Path

from shards import registry
from shards.download.config import DownloadConfig, chosen_rows


def download(config: DownloadConfig, progress: Callable[[str], None] = lambda line: None) -> list[Path]:
    """Brings all files that are not there yet; returns the paths of all. ValueError when one cannot be had."""
    from shards.download.checksums import read_sums
    from shards.download.mirrors import bring, by_hand

    given = read_sums(Path(config.checksums)) if config.checksums else {}
    paths = []
    for row in chosen_rows(config):
        folder = Path(config.out) / row.category
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for raw in row.files:
                paths.append(bring(config, row, raw, folder, given, progress))
        except OSError as error:
            raise ValueError(
                f"{error.filename or folder} cannot be used ({error.strerror or error}); "
                "make room or name another output folder"
            ) from error
    missing = [row.category for row in registry.rows(config.release) if not row.files]
    if missing and not config.categories:
        progress(f"release {config.release} has no successor of {', '.join(missing)}")
    if config.release == "2014" and not config.categories:
        progress(by_hand(registry.row("yelp", "Yelp"), Path(config.out) / "Yelp"))
    return paths
