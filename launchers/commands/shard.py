"""`idgenrec shard build | add | download | inspect`: the commands of the first room.

Enters: words. Leaves: what the commands write or print. Must hold: nothing heavy is imported before a command runs.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Annotated

import tyro

from launchers.line.config_file import FromFile
from launchers.line.console import Console
from shards.config import AddConfig, BuildConfig
from shards.download.config import DownloadConfig


@dataclass(frozen=True)
class Build(FromFile):
    """Raw folders of any known format into a shard folder: WebDataset tars, tables, tokenizer, manifest, data card.

    In: a folder per data set with its raw files: Amazon 2014, 2018, 2023, Yelp, RecBole, plain text (docs/shards.md).

    Out: a new folder with tars, item tables, tokenizer, manifest.json and README.md. A build that was stopped goes on
    where it was when the same command is given again.

    Example: idgenrec shard build --train data/Games data/Phones --test data/Beauty --out shards --tokenizer t5
    """

    config: Annotated[BuildConfig, tyro.conf.arg(name="")]

    def run(self) -> None:
        from launchers.jobs.rank import build_shards

        build_shards(self.config, Console())


@dataclass(frozen=True)
class Add:
    """Add data sets to a finished shard folder; the others are not rewritten.

    In: a shard folder and raw folders, as `shard build` takes them.

    Out: the same shard folder with more data sets; its manifest changes last, whole.

    Example: idgenrec shard add --to shards --train data/Office
    """

    config: Annotated[AddConfig, tyro.conf.arg(name="")]

    def run(self) -> None:
        from launchers.jobs.rank import show_stages
        from shards.build.build import add

        console = Console()
        add(self.config, console.line, partial(show_stages, console))


@dataclass(frozen=True)
class Download:
    """Fetch raw files from their mirrors: resumed, verified, into folders that `shard build` reads.

    In: nothing but the network; a download that broke off goes on at its byte.

    Out: a folder per category with the published files.

    Example: idgenrec shard download --release 2014 --categories Games Phones --out data
    """

    config: Annotated[DownloadConfig, tyro.conf.arg(name="")]

    def run(self) -> None:
        from shards.download.download import download

        download(self.config, Console().line)


@dataclass(frozen=True)
class Inspect:
    """Print what a shard folder holds beside the paper's Tables 2 and 3, with every difference marked.

    In: a shard folder, on disk or behind a URL.

    Out: a table on standard output; with --verify status 2 and the name of the first damaged file.

    Example: idgenrec shard inspect --shards shards --verify
    """

    shards: str
    """The shard folder (or an fsspec URL)."""
    verify: bool = False
    """Check every hash, tar, row and the tokenizer too."""

    def run(self) -> None:
        from shards.inspect.statistics import inspect_lines
        from shards.inspect.verify import verify
        from shards.manifest import Manifest

        console = Console()
        if self.verify:
            manifest = verify(self.shards, lambda done, total: console.progress("verified", done, total, "files"))
        else:
            manifest = Manifest.load(self.shards)
        console.results(inspect_lines(manifest))
        if self.verify:
            console.results(["", f"{self.shards}: every file is whole"])


@dataclass(frozen=True)
class Shard:
    """Raw interactions and item texts into shards: download, build, add, inspect.

    In: raw data sets as they are published, or their addresses.

    Out: a shard folder, which `pretrain`, `ids` and `zeroshot` read; each command's own --help tells more.

    Example: idgenrec shard build --train data/Games data/Phones --test data/Beauty --out shards --tokenizer t5
    """

    command: Annotated[
        Annotated[Build, tyro.conf.subcommand("build")]
        | Annotated[Add, tyro.conf.subcommand("add")]
        | Annotated[Download, tyro.conf.subcommand("download")]
        | Annotated[Inspect, tyro.conf.subcommand("inspect")],
        tyro.conf.arg(name=""),
    ]

    def run(self) -> None:
        self.command.run()
