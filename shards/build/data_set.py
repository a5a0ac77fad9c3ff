"""Members: what each stage of a build does with one data set.

Enters a data set's folder and the build's configuration; leaves the stages of `build.py`, each a module's function with
its arguments. It must hold that a stage's result depends on its arguments and on the stages before it, and on nothing
else.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow.parquet as pq

from shards import tokenizer
from shards.build import catalogue, ingest, overlap, write
from shards.build.clean import EVENTS, ITEMS, TEXTS, USERS, Rules, clean
from shards.build.overlap import Ids, Overlap
from shards.build.sequences import check_not_sorted_by_id
from shards.build.stages import Stage, Stages
from shards.config import BuildConfig, moment
from shards.files.database import Resources, read_parquet
from shards.manifest import TOKENIZER_FOLDER, Manifest, file_sha256
from shards.tables import holdout_file, items_file, load_holdout, load_items
from shards.token_coverage import share

# The paper's Yelp, compared as text with the dates of the reviews: of December 31 only midnight itself is inside.
YELP_YEAR = ("2019-01-01 00:00:00", "2019-12-31 00:00:00")
SAMPLES_PER_PIECE = 20_000_000
# SentencePiece learns no more from more lines, and holds all of them in memory.
TOKENIZER_LINES = 500_000


@dataclass(frozen=True)
class DataSet:
    """One data set of a build."""

    name: str
    role: str
    folder: str
    config: BuildConfig

    def ingest(self) -> Stage:
        return Stage(f"ingest.{self.name}", _ingest, (self.folder, self.config.max_reject_share))

    def clean(self, stages: Stages, facts: dict[str, Any], excluded: Sequence[str], resources: Resources) -> Stage:
        config = self.config
        if config.split == "time" and facts["format"] == "plain":
            raise ValueError(f"{self.name}: the plain layout has no times, so it cannot be split in time")
        since, until = config.since, config.until
        if facts["format"] == "yelp" and since is None and until is None:
            since, until = YELP_YEAR
        rules = Rules(
            name=self.name,
            k_core=0 if self.cleaned(facts) else config.k_core,
            repeats=config.repeats,
            order=config.order,
            since=moment(since),
            until=moment(until),
            seed=config.seed,
        )
        arguments = (stages.path(f"ingest.{self.name}"), rules, list(excluded), resources)
        return Stage(f"clean.{self.name}", _clean, arguments)

    def select(self, stages: Stages, facts: dict[str, Any], users: int | None) -> Stage:
        config = self.config
        selection = catalogue.Selection(
            name=self.name,
            seed=config.seed,
            users=users,
            file_order=facts["format"] == "plain",
            every_user=self.role == "test",
            every_line=self.role == "test" and self.cleaned(facts),
            split_share=config.split_share if config.split == "time" else None,
            ties_drawn=facts["ties_drawn"],
        )
        released = config.order == "released" or config.allow_sorted_by_id
        folders = (stages.path(f"ingest.{self.name}"), stages.path(f"clean.{self.name}"))
        return Stage(f"select.{self.name}", _select, (*folders, selection, facts["users"], released))

    def ids(self, stages: Stages) -> tuple[Path, Path]:
        """Users and items of a test set that was selected, for the overlap audit."""
        return (
            stages.path(f"clean.{self.name}") / USERS,
            stages.path(f"select.{self.name}") / catalogue.CATALOGUE,
        )

    def audit(self, stages: Stages, tests: Sequence[Ids], resources: Resources) -> Stage:
        raw = stages.path(f"ingest.{self.name}")
        ids = Ids(self.name, raw / EVENTS, raw / TEXTS, touched=raw / EVENTS)
        drop = {"user": self.config.overlap_users == "drop", "item": self.config.overlap_items == "drop"}
        return Stage(f"audit.{self.name}", _audit, (ids, list(tests), drop, resources))

    def lengths(self, stages: Stages) -> np.ndarray:
        return np.load(stages.path(f"select.{self.name}") / catalogue.LENGTHS)

    def source(self, stages: Stages, facts: dict[str, Any]) -> write.Source:
        folders = (stages.path(f"clean.{self.name}"), stages.path(f"select.{self.name}"))
        return write.Source(self.name, *folders, moment=facts["split_moment"])

    def tables(self, stages: Stages, facts: dict[str, Any], out: Path, tokens: Path) -> Stage:
        return Stage(f"tables.{self.name}", _tables, (out, self.source(stages, facts), tokens))

    def tars(self, stages: Stages, facts: dict[str, Any], out: Path, lanes: np.ndarray) -> list[Stage]:
        """Pieces of whole lanes, as many as the data ask for, never as the machine has processes."""
        samples = int((self.lengths(stages) - 1).clip(min=0).sum())
        pieces = min(self.config.lanes, -(-samples // SAMPLES_PER_PIECE))
        bounds = np.linspace(0, self.config.lanes, pieces + 1).round().astype(int).tolist()
        source = self.source(stages, facts)
        return [
            Stage(f"tars.{self.name}.{low}", _tars, (out, source, lanes, (low, high), self.config.records_per_tar))
            for low, high in zip(bounds[:-1], bounds[1:], strict=True)
        ]

    def cleaned(self, facts: dict[str, Any]) -> bool:
        """Whether the data set is taken as cleaned already."""
        return facts["cleaned"] and not self.config.clean_plain


def _ingest(out: Path, folder: str, max_reject_share: float) -> dict[str, Any]:
    return ingest.ingest(folder, out, max_reject_share)


def _clean(out: Path, raw: Path, rules: Rules, excluded: list[str], resources: Resources) -> dict[str, Any]:
    facts = clean(raw, out, rules, excluded, resources)
    return facts | {"users": pq.read_metadata(out / USERS).num_rows}


def _select(
    out: Path, raw: Path, cleaned: Path, selection: catalogue.Selection, num_users: int, sorted_by_id: bool
) -> dict[str, Any]:
    facts = catalogue.make_catalogue(raw, cleaned, out, selection, num_users)
    check_not_sorted_by_id(selection.name, facts["share_sorted_by_id"], sorted_by_id)
    return facts


def _audit(out: Path, ids: Ids, tests: list[Ids], drop: dict[str, bool], resources: Resources) -> dict[str, Any]:
    pairs, files = overlap.find_overlap(ids, tests, out, drop, resources) if tests else ([], [])
    return {"pairs": [asdict(pair) for pair in pairs], "files": [str(file) for file in files]}


def tokenizer_stage(stages: Stages, train: Sequence[DataSet], config: BuildConfig) -> Stage:
    """Loads the tokenizer named, or trains one on the item texts of the train categories."""
    catalogues = [stages.path(f"select.{data.name}") / catalogue.CATALOGUE for data in train]
    return Stage("tokenizer", _tokenizer, (config.tokenizer, catalogues, config.tokenizer_text, config.vocab_size))


def _tokenizer(
    out: Path, given: str | None, catalogues: list[Path], more_text: tuple[str, ...], vocab_size: int
) -> dict[str, Any]:
    folder = out / TOKENIZER_FOLDER
    if given is not None:
        tokens = tokenizer.load_tokenizer(given)
        tokenizer.save_tokenizer(tokens, folder, source=given)
    else:
        texts = pl.concat([read_parquet(path, columns=["text"]) for path in catalogues])["text"]
        texts = texts.gather_every(-(-len(texts) // TOKENIZER_LINES)).to_list()
        repeats = -(-len(texts) // len(more_text)) if more_text else 0
        tokens = tokenizer.train_tokenizer([*texts, *more_text * repeats], folder, vocab_size)
    return {"fingerprint": tokenizer.fingerprint(tokens), "vocab_size": tokenizer.padded_vocab_size(tokens)}


def _tables(_: Path, out: Path, source: write.Source, tokens: Path) -> dict[str, Any]:
    files = (items_file(source.name), holdout_file(source.name))
    texts = write.write_items(out / files[0], source.name, source.catalogue, tokens)
    held_out = write.write_holdout(out / files[1], source)
    return {"files": {file: file_sha256(out / file) for file in files}, "users_held_out": held_out, "texts": texts}


def _tars(
    _: Path, out: Path, source: write.Source, lanes: np.ndarray, block: tuple[int, int], records_per_tar: int
) -> list[dict[str, Any]]:
    return [asdict(tar) for tar in write.write_tars(out, source, lanes, block, records_per_tar)]


def base_ids(folder: str, base: Manifest | None, role: str, work: Path) -> list[Ids]:
    """Users and items of the members that a shard folder has already, as the overlap audit reads them."""
    ids = []
    for member in base.members if base else ():
        if member.role == role:
            path = work / "base" / member.name
            path.mkdir(parents=True, exist_ok=True)
            assert base is not None
            table = load_items(folder, base, member.name)
            items = [item.removeprefix(f"{member.name}/") for item in table.items]
            pl.DataFrame({"item": items, "text": table.texts}).write_parquet(path / ITEMS)
            pl.DataFrame({"user": load_holdout(folder, member).users}).write_parquet(path / USERS)
            ids.append(Ids(member.name, path / USERS, path / ITEMS))
    return ids


def audit_old(old: Ids, tests: Sequence[Ids], work: Path, resources: Resources) -> list[Overlap]:
    """New test sets against a train category that is not written again: nothing can be dropped there."""
    return overlap.find_overlap(old, tests, work / "base" / old.name, {"user": False, "item": False}, resources)[0]


def line(stage: str, result: dict[str, Any]) -> str:
    """One line for a person on what a stage did."""
    kind, name = stage.split(".", 1)
    if kind == "tables":
        return f"{name}: {texts_line(result['texts'])}"
    if kind == "tars":
        return f"written: {stage}"
    if kind == "ingest":
        malformed = sum(count for _, count in result["lines"].values())
        return (
            f"{name}: {result['format']}, {result['events']:,} interactions and {result['texts']:,} item texts read"
            + (f", {malformed:,} malformed lines" if malformed else "")
        )
    if kind == "clean":
        again, fell, ties = (result[key] for key in ("duplicates_removed", "interactions_outside_core", "ties"))
        return (
            f"{name}: {result['users']:,} users left"
            + (f", {again:,} interactions were the same review again (user, item and moment)" if again else "")
            + (
                f", {ties:,} ties of time stood in the order of the item ids and are drawn"
                if result["ties_drawn"]
                else ""
            )
            + (f", {fell:,} interactions fell in {result['peels']} peels" if result["peels"] else "")
        )
    counts = {word: result[f"num_{word}"] for word in ("users", "items", "interactions")}
    return f"{name}: " + ", ".join(f"{count:,} {word}" for word, count in counts.items())


def texts_line(texts: Mapping[str, int]) -> str:
    """What a model can read of a data set's item texts, for a person."""
    bare, items = texts["items_without_text"], texts["items"]
    words = f"{bare:,} of {items:,} items have no text" if bare else f"all {items:,} items have a text"
    return f"{words}; unknown tokens: {share(texts['unknown_tokens'], texts['tokens'])}"
